/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A well-formed command for every command code of the TPM 2.0 Library specification, version 1.83,
 * whether or not the TPM at hand has it.  Well-formed: every handle, authorization and parameter is
 * there and has a type that the specification allows.  Many of them also succeed, on a TPM that is
 * furnished as named here.
 */
#ifndef SPACES_TEST_INTEGRATION_EVERY_COMMAND_H
#define SPACES_TEST_INTEGRATION_EVERY_COMMAND_H

#include <vector>

#include "support/command.h"
#include "support/response.h"

namespace spaces::test {

constexpr TPM2_HANDLE kParent = 0x80000000;         ///< eccStorage()
constexpr TPM2_HANDLE kKey = 0x80000001;            ///< eccSigning()
constexpr TPM2_HANDLE kSequence = kKey;             ///< hashSequenceStart(), in the key's place
constexpr TPM2_HANDLE kHmacSession = 0x02000000;    ///< unbound, unsalted
constexpr TPM2_HANDLE kSavedSession = 0x02000001;   ///< saved by the client, as below
constexpr TPM2_HANDLE kPolicySession = 0x03000002;  ///< fresh
constexpr TPM2_HANDLE kPersistent = 0x81000001;     ///< eccSigning()
constexpr TPM2_HANDLE kNvIndex = 0x01000001;        ///< nvDefineSpace(), written

/** What only one TPM accepts; as many bytes on every TPM. */
struct Belongings {
    Bytes parentContext, keyContext;
    Bytes sessionContext;
    Created child;  ///< of kParent
};

/** Sorted by command code; some codes more than once. */
std::vector<Command> everyCommand(const Belongings& belongings);

}  // namespace spaces::test

#endif
