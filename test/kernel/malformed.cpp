/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Bad input over the kernel's resource manager, which refuses a command that it does not understand
 * by failing write(): whatever a client sends, it is a TPM's code that it gets, and it loses
 * nothing. That these are the right codes is what test/integration/malformed.cpp shows.
 */
#include <gtest/gtest.h>

#include <algorithm>

#include "device.h"
#include "integration/every_command.h"

namespace spaces::test {
namespace {

class Malformed : public Device {};

/** The command, shorter, and with a header that says so. */
Bytes cut(Bytes command, size_t size) {
    command.resize(size);
    for (int i = 0; i < 4; i++) command[2 + i] = static_cast<uint8_t>(size >> (24 - 8 * i));
    return command;
}

TEST_F(Malformed, EveryCommandCutShort) {
    Client client(Client::spaceConf(kManaged, "swap=on"));
    Belongings belongings;
    client.ok(createPrimary(TPM2_RH_OWNER, eccStorage()));
    client.ok(createPrimary(TPM2_RH_OWNER, eccSigning()));
    client.ok(startAuthSession());
    belongings.parentContext = context(client.ok(contextSave(kParent)));
    belongings.keyContext = context(client.ok(contextSave(kKey)));
    belongings.child = created(client.ok(create(kParent)));
    const Policy policy(client, "a policy");
    const Bytes parent = client.ok(readPublic(kParent));
    for (const Bytes command : everyCommand(belongings)) {
        // In the header, in each handle, in the authorisations, and at the end.
        for (size_t size : {size_t{10}, size_t{14}, size_t{18}, size_t{27}, command.size() - 1}) {
            if (size < 10 || size >= command.size()) continue;
            const Bytes shorter = cut(command, size);
            const TPM2_RC answer = rc(client.send(shorter));
            EXPECT_EQ(answer >> 16, 0u) << hex(answer) << " to " << hex(shorter);
        }
        ASSERT_EQ(hex(client.send(readPublic(kParent))), hex(parent)) << hex(command);
        policy.expectUsable(client);
    }
}

}  // namespace
}  // namespace spaces::test
