// SPDX-License-Identifier: BSD-2-Clause
// Checking and making responses.
#include "wire/response.h"

namespace spaces::wire {

bool Response::wellFormed(Bytes bytes) {
    if (bytes.size() < kHeaderSize || bytes.size() > kMaxResponseSize) return false;
    // 0x00C4 is TPM_ST_RSP_COMMAND: a TPM that cannot read the command's tag may use it.
    const TPM2_ST tag = get16(&bytes[0]);
    const bool tagged =
        tag == TPM2_ST_NO_SESSIONS || tag == TPM2_ST_SESSIONS || tag == TPM2_ST_RSP_COMMAND;
    return tagged && get32(&bytes[2]) == bytes.size();
}

size_t putCode(ResponseBuffer buffer, TPM2_RC code) {
    putHeader(buffer.data(), TPM2_ST_NO_SESSIONS, kHeaderSize, code);
    return kHeaderSize;
}

size_t putHandleResponse(ResponseBuffer buffer, TPM2_HANDLE handle) {
    constexpr size_t kSize = kHeaderSize + kHandleSize;
    putHeader(buffer.data(), TPM2_ST_NO_SESSIONS, kSize, TPM2_RC_SUCCESS);
    put32(&buffer[kHeaderSize], handle);
    return kSize;
}

}  // namespace spaces::wire
