// SPDX-License-Identifier: BSD-2-Clause
// The commands of the TPM 2.0 Library specification, version 1.83 (Part 3), with what a resource
// manager has to know of each: how many handles stand before the authorisations, whether the
// response brings a handle, and which handle is gone after success.
#pragma once

#include <tss2/tss2_tpm2_types.h>

#include <cstdint>
#include <optional>

namespace spaces::wire {

/// The attributes of a command that tell where its handles are (Part 2, 8.9 "TPMA_CC").
struct CommandAttributes {
    static constexpr uint8_t kNoHandleFlushed = 0xFF;

    uint8_t handles = 0;                       // handles in the handle area
    bool responseHandle = false;               // the response carries a new handle
    uint8_t flushedHandle = kNoHandleFlushed;  // position of the handle that success flushes

    bool operator==(const CommandAttributes&) const = default;
};

constexpr uint32_t kMaxHandles = 7;  // that TPMA_CC can tell of; the specification has up to 3

/// The attributes of a command of the specification; nothing for any other code.
std::optional<CommandAttributes> findCommand(TPM2_CC code);

/// The command's name in the specification, without TPM2_, for a reader; what to call any other
/// code.
const char* nameOf(TPM2_CC code);

/// The attributes that a TPM's own TPMA_CC gives (for commands that the table does not have).
CommandAttributes attributesFrom(TPMA_CC attributes);

}  // namespace spaces::wire
