/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What a process that was killed has left in /dev/tpm0, and a space that may flush it.
 */
#include <gtest/gtest.h>

#include "device.h"
#include "support/response.h"

namespace spaces::test {
namespace {

class Leftovers : public Device, public testing::WithParamInterface<const char*> {};
INSTANTIATE_TEST_SUITE_P(, Leftovers, testing::Values("leftovers=flush", "swap=on,leftovers=flush"),
                         [](const auto& info) {
                             return std::string(info.index == 0 ? "tpm0" : "tpm0Swapping");
                         });

/** Fills the TPM, and is killed. */
void leaveEverythingFull() {
    Process killed([](const auto& pause) {
        Client client(Client::spaceConf(kTpm));
        for (int i = 0; i < 3; i++) {
            client.ok(loadExternalEcc());
            client.ok(startAuthSession());
        }
        pause();
        return 0;
    });
    ASSERT_TRUE(killed.waitUntilPaused()) << killed.messages();
    killed.kill();
}

TEST_P(Leftovers, AreFlushedWhenThereIsNoRoom) {
    leaveEverythingFull();
    Client next(Client::spaceConf(kTpm, GetParam()));
    std::vector<Key> keys;
    std::vector<Policy> policies;
    for (int i = 0; i < 3; i++) {
        keys.emplace_back(next, "key " + std::to_string(i));
        policies.emplace_back(next, "policy " + std::to_string(i));
    }
    for (const Key& key : keys) key.expectUsable(next);
    for (const Policy& policy : policies) policy.expectUsable(next);
}

TEST_P(Leftovers, StayWhileThereIsRoom) {
    TPM2_HANDLE left = 0;
    {
        Process killed([](const auto& pause) {
            Client client(Client::spaceConf(kTpm));
            client.ok(loadExternalEcc());
            pause();
            return 0;
        });
        ASSERT_TRUE(killed.waitUntilPaused()) << killed.messages();
        killed.kill();
    }
    {
        Client next(Client::spaceConf(kTpm, GetParam()));
        const Key key(next, "a key"), another(next, "another");
        key.expectUsable(next);
        another.expectUsable(next);
        EXPECT_EQ(handles(next, TPM2_TRANSIENT_FIRST).size(), 2u);
    }
    Client bare(kTpm);
    const std::vector<TPM2_HANDLE> still = handles(bare, TPM2_TRANSIENT_FIRST);
    ASSERT_EQ(still.size(), 1u);
    left = still[0];
    bare.ok(flushContext(left));
}

}  // namespace
}  // namespace spaces::test
