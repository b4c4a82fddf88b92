// SPDX-License-Identifier: BSD-2-Clause
// What a handle's number says (TPM 2.0 Library, Part 2, 7 "Handles"): its type is the most
// significant octet, the rest is an index.
#pragma once

#include <tss2/tss2_tpm2_types.h>

#include <cstdint>

namespace spaces::wire {

constexpr uint32_t kIndexMask = 0x00FFFFFF;
constexpr uint32_t kTypeMask = 0xFF000000;

/// Numbers that no TPM gives out: a command that names one is refused while its handles or
/// sessions are checked, before anything is authorised or executed.
constexpr TPM2_HANDLE kPoisonTransient = 0x80FFFFFE;
constexpr TPM2_HANDLE kPoisonSessionIndex = 0x00FFFFFE;

constexpr uint32_t indexOf(TPM2_HANDLE handle) { return handle & kIndexMask; }
constexpr uint32_t typeOf(TPM2_HANDLE handle) { return handle & kTypeMask; }

constexpr bool isTransient(TPM2_HANDLE handle) { return typeOf(handle) == TPM2_TRANSIENT_FIRST; }
constexpr bool isPersistent(TPM2_HANDLE handle) { return typeOf(handle) == TPM2_PERSISTENT_FIRST; }

/// HMAC and policy sessions share one index space; the type is only an attribute of the session.
constexpr bool isSession(TPM2_HANDLE handle) {
    return typeOf(handle) == TPM2_HMAC_SESSION_FIRST || typeOf(handle) == TPM2_POLICY_SESSION_FIRST;
}

/// The same kind of handle with a number that is never live.
constexpr TPM2_HANDLE poisonOf(TPM2_HANDLE handle) {
    return isTransient(handle) ? kPoisonTransient : typeOf(handle) | kPoisonSessionIndex;
}

/// OWNER, ENDORSEMENT, PLATFORM or NULL for a hierarchy's handle, its firmware-limited and
/// SVN-limited variants included (Part 2, 7.4: their objects go when the base hierarchy's go);
/// 0 for any other handle.
constexpr TPM2_HANDLE baseHierarchy(TPM2_HANDLE handle) {
    switch (handle) {
        case TPM2_RH_OWNER:
        case TPM2_RH_ENDORSEMENT:
        case TPM2_RH_PLATFORM:
        case TPM2_RH_NULL:
            return handle;
        case 0x40000140:
            return TPM2_RH_OWNER;
        case 0x40000141:
            return TPM2_RH_ENDORSEMENT;
        case 0x40000142:
            return TPM2_RH_PLATFORM;
        case 0x40000143:
            return TPM2_RH_NULL;
    }
    switch (handle & 0xFFFF0000) {
        case 0x40010000:
            return TPM2_RH_OWNER;
        case 0x40020000:
            return TPM2_RH_ENDORSEMENT;
        case 0x40030000:
            return TPM2_RH_PLATFORM;
        case 0x40040000:
            return TPM2_RH_NULL;
    }
    return 0;
}

}  // namespace spaces::wire
