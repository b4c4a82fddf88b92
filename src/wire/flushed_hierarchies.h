// SPDX-License-Identifier: BSD-2-Clause
// Which hierarchies' objects a command flushes when it succeeds (TPM 2.0 Library, Part 3, 24).
#pragma once

#include <tss2/tss2_tpm2_types.h>

#include <array>

#include "wire/command.h"

namespace spaces::wire {

/// Up to two of OWNER, ENDORSEMENT, PLATFORM and NULL; the rest is 0.
std::array<TPM2_HANDLE, 2> flushedHierarchies(const Command& command, size_t handles);

}  // namespace spaces::wire
