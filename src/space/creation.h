// SPDX-License-Identifier: BSD-2-Clause
// Which hierarchy a new object will belong to, read from the command that makes it.
#pragma once

#include "space/holding.h"
#include "wire/command.h"

namespace spaces::space {

/// OWNER, ENDORSEMENT, PLATFORM or NULL; 0 where the command does not tell: the parent is
/// persistent, or the command is none that makes objects. `command` still has the client's
/// handles, `handles` of them.
TPM2_HANDLE hierarchyOfNew(const wire::Command& command, size_t handles, const Holding& holding);

}  // namespace spaces::space
