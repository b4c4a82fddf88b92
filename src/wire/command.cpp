// SPDX-License-Identifier: BSD-2-Clause
// Reading a command's areas. A size that points outside the command ends the reading: the TPM
// refuses such a command, so what follows never matters.
#include "wire/command.h"

#include <algorithm>

#include "wire/handle.h"

namespace spaces::wire {
namespace {

constexpr size_t kAuthSizeSize = 4;
constexpr uint32_t kSmallestAuthorization = 9;  // handle, empty nonce, attributes, empty auth
constexpr uint16_t kLargestDigest = 64;         // the size of the largest hash, SHA-512
constexpr uint8_t kReservedAttributes = 0x18;   // TPMA_SESSION bits 3 and 4

/// Takes a TPM2B of at most a digest's size off the front; the code of what is wrong with it.
TPM2_RC skipDigest(MutableBytes& rest) {
    if (rest.size() < 2) return TPM2_RC_INSUFFICIENT;
    const uint16_t size = get16(rest.data());
    if (size > kLargestDigest) return TPM2_RC_SIZE;
    if (rest.size() - 2 < size) return TPM2_RC_INSUFFICIENT;
    rest = rest.subspan(2 + size);
    return TPM2_RC_SUCCESS;
}

/// Takes one authorisation off the front of `rest`, in the order in which the TPM reads it.
/// Needs at least a handle there.
Authorization takeAuthorization(MutableBytes& rest) {
    Authorization entry;
    entry.at = rest.data();
    entry.handle = get32(rest.data());
    rest = rest.subspan(kHandleSize);
    entry.defect = skipDigest(rest);
    if (entry.defect != TPM2_RC_SUCCESS) return entry;
    if (rest.empty()) {
        entry.defect = TPM2_RC_INSUFFICIENT;
        return entry;
    }
    const uint8_t attributes = rest[0];
    rest = rest.subspan(1);
    entry.continueSession = (attributes & TPMA_SESSION_CONTINUESESSION) != 0;
    entry.defect =
        (attributes & kReservedAttributes) != 0 ? TPM2_RC_RESERVED_BITS : skipDigest(rest);
    return entry;
}

}  // namespace

size_t Command::handlesPresent(size_t count) const {
    return std::min(count, (size() - kHeaderSize) / kHandleSize);
}

size_t Command::persistent(size_t count) const {
    size_t persistent = 0;
    for (size_t i = 0; i < handlesPresent(count); ++i)
        persistent += isPersistent(handle(i)) ? 1 : 0;
    return persistent;
}

TPM2_RC Command::authorizationSizeDefect(size_t handles) const {
    const size_t start = handleOffset(handles) + kAuthSizeSize;
    if (size() < start) return TPM2_RC_INSUFFICIENT;
    const uint32_t authSize = get32(&bytes_[start - kAuthSizeSize]);
    const bool fits = authSize >= kSmallestAuthorization && authSize <= size() - start;
    return fits ? TPM2_RC_SUCCESS : TPM2_RC_SIZE;
}

AuthorizationArea Command::authorizations(size_t handles) const {
    AuthorizationArea area;
    if (!hasSessions() || authorizationSizeDefect(handles) != TPM2_RC_SUCCESS) return area;
    const size_t start = handleOffset(handles) + kAuthSizeSize;
    const uint32_t authSize = get32(&bytes_[start - kAuthSizeSize]);
    MutableBytes rest = bytes_.subspan(start, authSize);
    while (rest.size() >= kHandleSize && area.count < kMaxAuthorizations) {
        area.entries[area.count] = takeAuthorization(rest);
        if (area.entries[area.count++].defect != TPM2_RC_SUCCESS) break;
    }
    return area;
}

MutableBytes Command::parameters(size_t handles) const {
    size_t start = handleOffset(handles);
    if (start > size()) return {};
    if (hasSessions()) {
        if (size() - start < kAuthSizeSize) return {};
        const uint32_t authSize = get32(&bytes_[start]);
        start += kAuthSizeSize;
        if (authSize > size() - start) return {};
        start += authSize;
    }
    return bytes_.subspan(start);
}

void putHeader(uint8_t* at, TPM2_ST tag, size_t size, uint32_t code) {
    put16(at, tag);
    put32(at + 2, static_cast<uint32_t>(size));
    put32(at + 6, code);
}

MutableBytes putHandleCommand(uint8_t* at, TPM2_CC code, TPM2_HANDLE handle) {
    constexpr size_t kSize = kHeaderSize + kHandleSize;
    putHeader(at, TPM2_ST_NO_SESSIONS, kSize, code);
    put32(at + kHeaderSize, handle);
    return {at, kSize};
}

}  // namespace spaces::wire
