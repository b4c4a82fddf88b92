// SPDX-License-Identifier: BSD-2-Clause
// A TPM response, read and rewritten in place (TPM 2.0 Library, Part 1, 18.9): header, handle
// where the command brings one, parameters (behind their size when there are sessions).
// Always holds: a Response spans a whole, well-formed header's worth and every accessor stays
// inside it.
#pragma once

#include <tss2/tss2_common.h>
#include <tss2/tss2_tpm2_types.h>

#include "wire/bytes.h"
#include "wire/command.h"

namespace spaces::wire {

constexpr size_t kMaxResponseSize = TPM2_MAX_RESPONSE_SIZE;

/// Where a response is made: as many octets as a TPM ever answers.
using ResponseBuffer = std::span<uint8_t, kMaxResponseSize>;

class Response {
  public:
    explicit Response(MutableBytes bytes) : bytes_(bytes) {}

    /// True if the bytes are a response: a header whose tag and size are right.
    static bool wellFormed(Bytes bytes);

    size_t size() const { return bytes_.size(); }
    TPM2_ST tag() const { return get16(&bytes_[0]); }
    TPM2_RC code() const { return get32(&bytes_[6]); }
    bool succeeded() const { return code() == TPM2_RC_SUCCESS; }

    bool hasHandle() const { return size() >= kHeaderSize + kHandleSize; }
    TPM2_HANDLE handle() const { return get32(&bytes_[kHeaderSize]); }
    void setHandle(TPM2_HANDLE value) { put32(&bytes_[kHeaderSize], value); }

    /// The parameters of a response without handle and sessions.
    MutableBytes parameters() const { return bytes_.subspan(kHeaderSize); }

  private:
    MutableBytes bytes_;
};

/// Makes a response that is a header alone, as the TPM answers every error (Part 3, 5.2), and
/// FlushContext's success. Returns its size.
size_t putCode(ResponseBuffer buffer, TPM2_RC code);

/// Makes a successful response without sessions that brings a handle and nothing else, as
/// ContextLoad's. Returns its size.
size_t putHandleResponse(ResponseBuffer buffer, TPM2_HANDLE handle);

/// The format-one codes of Part 2, 6.6.2: `position` counts from 0.
constexpr TPM2_RC forHandle(TPM2_RC code, size_t position) {
    return code | static_cast<TPM2_RC>(position + 1) << 8;
}
constexpr TPM2_RC forParameter(TPM2_RC code, size_t position) {
    return forHandle(code, position) | TPM2_RC_P;
}
constexpr TPM2_RC forSession(TPM2_RC code, size_t position) {
    return forHandle(code, position) | TPM2_RC_S;
}

/// True for a format-one code that is about a handle, not a parameter or a session.
constexpr bool isHandleError(TPM2_RC code) {
    return (code & ~TPM2_RC{0xFFF}) == 0 && (code & TPM2_RC_FMT1) != 0 && (code & TPM2_RC_P) == 0 &&
           (code & TPM2_RC_S) == 0 && (code & 0x700) != 0;
}
constexpr bool isSessionError(TPM2_RC code) {
    return (code & ~TPM2_RC{0xFFF}) == 0 && (code & TPM2_RC_FMT1) != 0 && (code & TPM2_RC_P) == 0 &&
           (code & TPM2_RC_S) != 0;
}
constexpr size_t handleErrorPosition(TPM2_RC code) { return (code >> 8 & 0x7) - 1; }
constexpr TPM2_RC formatOneBase(TPM2_RC code) { return code & (TPM2_RC_FMT1 | 0x3F); }

/// True for what is about the state of the TPM rather than about the command (Part 2, 6.6.3).
constexpr bool isWarning(TPM2_RC code) { return (code & ~TPM2_RC{0x7F}) == TPM2_RC_WARN; }

/// True for the warnings after which the same command may simply be sent again.
constexpr bool isBusy(TPM2_RC code) {
    return code == TPM2_RC_RETRY || code == TPM2_RC_YIELDED || code == TPM2_RC_TESTING;
}

/// True for the warnings that a handle of the handle area, or a session of the authorisation
/// area, is not loaded; there are seven of each (Part 2, 6.6.3).
constexpr bool isReferenceHandle(TPM2_RC code) {
    return code >= TPM2_RC_REFERENCE_H0 && code <= TPM2_RC_REFERENCE_H0 + 6;
}
constexpr bool isReferenceSession(TPM2_RC code) {
    return code >= TPM2_RC_REFERENCE_S0 && code <= TPM2_RC_REFERENCE_S0 + 6;
}

}  // namespace spaces::wire
