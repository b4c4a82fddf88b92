// SPDX-License-Identifier: BSD-2-Clause
// Commands for the fuzz targets that care for something else than their octets: of each kind one,
// with a handle of a few.
// Always holds: every choice is a command with a right header.
#pragma once

#include "fuzz/input.h"
#include "unit/swap_test.h"

namespace spaces::fuzz {

using test::Packet;

/// One octet is the handle: an object, a session or something else.
inline TPM2_HANDLE chooseHandle(uint8_t choice) {
    constexpr TPM2_HANDLE kFirst[] = {TPM2_TRANSIENT_FIRST, TPM2_POLICY_SESSION_FIRST,
                                      TPM2_HMAC_SESSION_FIRST, TPM2_PERSISTENT_FIRST,
                                      TPM2_RH_OWNER};
    return kFirst[(choice >> 4) % std::size(kFirst)] + (choice & 15u);
}

/// Contexts that clients have saved, for them to load.
using Contexts = std::vector<Bytes>;

inline Packet chooseCommand(Input& input, const Contexts& contexts) {
    const uint8_t kind = input.u8();
    const TPM2_HANDLE one = chooseHandle(input.u8());
    switch (kind % 24) {
        case 0:
            return test::create("object", TPM2_RH_OWNER);
        case 1:
            return test::startPolicy();
        case 2:
            return test::startAuthSession(one, chooseHandle(input.u8()));
        case 3:
            return test::readPublic(one);
        case 4:
            return test::policyGetDigest(one);
        case 5:
            return test::policyCommandCode(one, input.u8());
        case 6:
            return test::contextSave(one);
        case 7: {
            if (contexts.empty()) return test::contextLoad(one, TPM2_RH_OWNER);
            return test::contextLoad(contexts[input.u8() % contexts.size()]);
        }
        case 8:
            return test::flushContext(one);
        case 9:
            return test::loadChild(one, "child");
        case 10:
            return test::unseal(one, {{chooseHandle(input.u8()), input.u8()}});
        case 11: {
            const TPM2_HANDLE key = chooseHandle(input.u8());
            const TPM2_HANDLE other = chooseHandle(input.u8());
            return test::command(TPM2_CC_Certify)
                .handle(one)
                .handle(key)
                .auth({{other, input.u8()}, test::password(), {one, input.u8()}});
        }
        case 12:
            return test::hashSequenceStart();
        case 13:
            return test::sequenceUpdate(one, "data");
        case 14:
            return test::sequenceComplete(one);
        case 15:
            return test::getCapability(TPM2_CAP_HANDLES, one, input.u8());
        case 16:
            return test::getCapability(TPM2_CAP_TPM_PROPERTIES, TPM2_PT_FIXED + input.u16() % 0x280,
                                       input.u8());
        case 17:
            return test::clear();
        case 18:
            return test::hierarchyControl(one, input.u8() & 1);
        case 19:
            return test::startup(input.u8() & 1);
        case 20:
            return test::shutdown(input.u8() & 1);
        case 21:
            // One that the library's table does not have.
            return test::command(0x20000000 + input.u8()).handle(one).u32(0);
        case 22:
            return test::create("object", TPM2_RH_NULL);
        default:
            return test::getRandom();
    }
}

/// Names that the loader knows: a TPM, and a resource manager's.
inline std::string chooseChild(bool resourceManager) {
    return resourceManager ? "tabrmd" : "model";
}

/// Small numbers, so that whatever runs out does so soon.
inline test::ModelTpm::Size chooseSize(uint8_t choice) {
    return {.objects = 1 + (choice & 3u),
            .sessions = 1 + (choice >> 2 & 3u),
            .active = (choice >> 4 & 1) != 0 ? 6u : 64u,
            .gap = (choice >> 5 & 1) != 0 ? 8u : 0xFFFFu};
}

inline std::string chooseConf(uint8_t choice) {
    const std::string name = chooseChild((choice & 2) != 0);
    if ((choice & 1) == 0) return name;
    std::string options = "swap=on,";
    if ((choice & 4) != 0) options += "objects=" + std::to_string(1 + (choice >> 3 & 3)) + ",";
    if ((choice & 32) != 0) options += "sessions=" + std::to_string(1 + (choice >> 6 & 3)) + ",";
    return options + name;
}

}  // namespace spaces::fuzz
