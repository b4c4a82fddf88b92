/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Reading TPM responses: see response.h.
 */
#include "response.h"

#include <stdexcept>

#include "crypto.h"

namespace spaces::test {

uint64_t Cursor::number(int width) {
    uint64_t value = 0;
    for (uint8_t byte : bytes(static_cast<size_t>(width))) value = value << 8 | byte;
    return value;
}

Bytes Cursor::bytes(size_t count) {
    if (count > left())
        throw std::out_of_range("read past the end of " + hex(data_) + " at " +
                                std::to_string(at_));
    auto begin = data_.begin() + static_cast<std::ptrdiff_t>(at_);
    at_ += count;
    return Bytes(begin, begin + static_cast<std::ptrdiff_t>(count));
}

TPM2_RC rc(const Bytes& response) {
    Cursor cursor(response);
    cursor.bytes(6);
    return cursor.u32();
}

TPM2_HANDLE handle(const Bytes& response) {
    Cursor cursor(response);
    cursor.bytes(10);
    return cursor.u32();
}

Cursor parameters(const Bytes& response, int handles) {
    Cursor cursor(response);
    uint16_t tag = cursor.u16();
    cursor.bytes(8 + 4 * static_cast<size_t>(handles));
    return Cursor(tag == TPM2_ST_SESSIONS ? cursor.bytes(cursor.u32()) : cursor.rest());
}

int responseHandles(TPM2_CC code) {
    switch (code) {
        case TPM2_CC_CreatePrimary:
        case TPM2_CC_CreateLoaded:
        case TPM2_CC_Load:
        case TPM2_CC_LoadExternal:
        case TPM2_CC_ContextLoad:
        case TPM2_CC_StartAuthSession:
        case TPM2_CC_HMAC_Start:
        case TPM2_CC_HashSequenceStart:
            return 1;
        default:
            return 0;
    }
}

namespace {

/** The start of a capability response: moreData is read, the capability is checked. */
bool readCapability(Cursor& cursor, TPM2_CAP expected) {
    bool moreData = cursor.u8() != 0;
    if (cursor.u32() != expected) throw std::runtime_error("another capability was answered");
    return moreData;
}

}  // namespace

HandleList handleList(const Bytes& response) {
    Cursor cursor = parameters(response);
    HandleList list{readCapability(cursor, TPM2_CAP_HANDLES), {}};
    for (uint32_t count = cursor.u32(); count > 0; count--) list.handles.push_back(cursor.u32());
    return list;
}

uint32_t property(const Bytes& response) {
    Cursor cursor = parameters(response);
    readCapability(cursor, TPM2_CAP_TPM_PROPERTIES);
    if (cursor.u32() == 0) throw std::runtime_error("an empty property list");
    cursor.u32();
    return cursor.u32();
}

Created created(const Bytes& response) {
    Cursor cursor = parameters(response);
    Bytes outPrivate = cursor.tpm2b();
    return {outPrivate, cursor.tpm2b()};
}

Bytes context(const Bytes& response) { return parameters(response).rest(); }

Bytes nameOf(const Bytes& publicArea) {
    Bytes name;
    append(name, TPM2_ALG_SHA256, 2);
    append(name, sha256(publicArea));
    return name;
}

Bytes primaryName(const Bytes& response) { return nameOf(parameters(response, 1).tpm2b()); }

Bytes publicName(const Bytes& response) {
    Cursor cursor = parameters(response);
    cursor.tpm2b();
    return cursor.tpm2b();
}

Bytes handleName(TPM2_HANDLE handle) {
    Bytes name;
    append(name, handle, 4);
    return name;
}

}  // namespace spaces::test
