/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Reading TPM responses.  Reading past the end throws std::out_of_range, so a test that parses a
 * response it did not expect fails instead of comparing rubbish.
 */
#ifndef SPACES_TEST_SUPPORT_RESPONSE_H
#define SPACES_TEST_SUPPORT_RESPONSE_H

#include <tss2/tss2_tpm2_types.h>

#include <vector>

#include "bytes.h"

namespace spaces::test {

/** Reads big-endian fields one after the other. */
class Cursor {
  public:
    explicit Cursor(Bytes data) : data_(std::move(data)) {}
    uint8_t u8() { return static_cast<uint8_t>(number(1)); }
    uint16_t u16() { return static_cast<uint16_t>(number(2)); }
    uint32_t u32() { return static_cast<uint32_t>(number(4)); }
    uint64_t u64() { return number(8); }
    Bytes bytes(size_t count);
    Bytes tpm2b() { return bytes(u16()); }
    Bytes rest() { return bytes(left()); }
    size_t left() const { return data_.size() - at_; }

  private:
    uint64_t number(int width);
    Bytes data_;
    size_t at_ = 0;
};

/** The response code. */
TPM2_RC rc(const Bytes& response);

/** The response handle (bytes 10..13) of CreatePrimary, Load, StartAuthSession, ContextLoad, ... */
TPM2_HANDLE handle(const Bytes& response);

/** The parameters: past header, response handles and parameterSize, without the auth area.
 *  `handles` is the number of response handles: 1 for the commands that handle() is for. */
Cursor parameters(const Bytes& response, int handles = 0);

/** The number of handles in a successful response to the command code: 0 or 1. */
int responseHandles(TPM2_CC code);

/** GetCapability(TPM2_CAP_HANDLES). */
struct HandleList {
    bool moreData;
    std::vector<TPM2_HANDLE> handles;
};
HandleList handleList(const Bytes& response);

/** GetCapability(TPM2_CAP_TPM_PROPERTIES): the value of the first property in the list. */
uint32_t property(const Bytes& response);

/** Create: what Load needs. */
struct Created {
    Bytes outPrivate;
    Bytes outPublic;  ///< a TPMT_PUBLIC, without its TPM2B size
};
Created created(const Bytes& response);

/** ContextSave: the TPMS_CONTEXT, as contextLoad() takes it. */
Bytes context(const Bytes& response);

/** The Name of an object with nameAlg SHA-256, from its TPMT_PUBLIC. */
Bytes nameOf(const Bytes& publicArea);

/** The Name of the object that a CreatePrimary response is about. */
Bytes primaryName(const Bytes& createPrimaryResponse);

/** The Name in a ReadPublic or NV_ReadPublic response. */
Bytes publicName(const Bytes& readPublicResponse);

/** The Name of a PCR, session or permanent handle: the handle itself. */
Bytes handleName(TPM2_HANDLE handle);

}  // namespace spaces::test

#endif
