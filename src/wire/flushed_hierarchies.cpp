// SPDX-License-Identifier: BSD-2-Clause
// Reading hierarchy commands; see flushed_hierarchies.h.
#include "wire/flushed_hierarchies.h"

#include "wire/handle.h"

namespace spaces::wire {

std::array<TPM2_HANDLE, 2> flushedHierarchies(const Command& command, size_t handles) {
    switch (command.code()) {
        case TPM2_CC_Clear:
            return {TPM2_RH_OWNER, TPM2_RH_ENDORSEMENT};
        case TPM2_CC_ChangePPS:
            return {TPM2_RH_PLATFORM};
        case TPM2_CC_ChangeEPS:
            return {TPM2_RH_ENDORSEMENT};
        case TPM2_CC_HierarchyControl: {
            // enable (4), state (1): switching off flushes, switching on does not.
            const Bytes parameters = command.parameters(handles);
            if (parameters.size() < 5 || parameters[4] != TPM2_NO) return {};
            return {baseHierarchy(get32(parameters.data()))};
        }
        default:
            return {};
    }
}

}  // namespace spaces::wire
