/* SPDX-License-Identifier: BSD-2-Clause
 *
 * More than the TPM has slots for, over both devices: the kernel's own limit is three objects and
 * three sessions for each that has opened /dev/tpmrm0.
 */
#include <gtest/gtest.h>

#include "device.h"
#include "support/response.h"
#include "support/session.h"

namespace spaces::test {
namespace {

class Swapping : public EachWay {
  protected:
    std::vector<Key> makeKeys(Client& client, int count) {
        std::vector<Key> keys;
        for (int i = 0; i < count; i++) keys.emplace_back(client, "key " + std::to_string(i));
        return keys;
    }
};
INSTANTIATE_TEST_SUITE_P(
    , Swapping,
    testing::Values(Way{"tpm0", kTpm, "swap=on"}, Way{"tpmrm0", kManaged, "swap=on"},
                    Way{"tpmrm0ThreeSlots", kManaged, "swap=on,objects=3,sessions=3"}),
    [](const auto& info) { return std::string(info.param.name); });

TEST_P(Swapping, TwentyObjectsAndTenSessions) {
    Client client = space();
    const std::vector<Key> keys = makeKeys(client, 20);
    std::vector<Policy> policies;
    for (int i = 0; i < 7; i++) policies.emplace_back(client, "policy " + std::to_string(i));
    // With nonces and HMACs, which are checked.
    std::vector<Session> sessions;
    for (int i = 0; i < 3; i++) sessions.push_back(Session::start(client));

    for (int round = 0; round < 2; round++) {
        for (const Key& key : keys) key.expectUsable(client);
        for (const Policy& policy : policies) policy.expectUsable(client);
        for (Session& session : sessions)
            EXPECT_EQ(hex(rc(session.authorize(client, createPrimary(TPM2_RH_NULL)))), hex(0u));
        for (uint32_t i = 0; i < sessions.size(); i++) client.ok(flushContext(0x80000014 + i));
    }
    EXPECT_EQ(handles(client, TPM2_TRANSIENT_FIRST).size(), keys.size());
    EXPECT_EQ(handles(client, TPM2_LOADED_SESSION_FIRST).size(), 10u);
}

// Two objects and a session in one command, each of which may have to be brought in.
TEST_P(Swapping, TwoObjectsInOneCommand) {
    Client client = space();
    const TPM2_HANDLE signer = handle(client.ok(createPrimary(TPM2_RH_NULL, eccSigning())));
    const std::vector<Key> keys = makeKeys(client, 4);
    const TPM2_HANDLE session = handle(client.ok(startAuthSession()));
    for (const Key& key : keys) {
        const Bytes certified =
            client.send(certify(key.object, signer).noAuth().session(session).password());
        EXPECT_EQ(hex(rc(certified)), hex(0u)) << key.secret;
    }
}

// Two processes, each with more than the kernel would let it have.
TEST(SwappingProcesses, BothOnTheManagedDevice) {
    const auto work = [](const std::function<void()>& pause) {
        Client client(Client::spaceConf(kManaged, "swap=on"));
        std::vector<Key> keys;
        std::vector<Policy> policies;
        for (int i = 0; i < 5; i++) {
            keys.emplace_back(client, "key " + std::to_string(i));
            policies.emplace_back(client, "policy " + std::to_string(i));
        }
        pause();
        for (int round = 0; round < 3; round++) {
            for (const Key& key : keys) key.expectUsable(client);
            for (const Policy& policy : policies) policy.expectUsable(client);
        }
        return testing::Test::HasFailure() ? 1 : 0;
    };
    Process one(work), other(work);
    EXPECT_TRUE(one.waitUntilPaused() && other.waitUntilPaused());
    one.goOn();
    other.goOn();
    EXPECT_EQ(one.wait(), 0) << one.messages();
    EXPECT_EQ(other.wait(), 0) << other.messages();
    EXPECT_EQ(flushResidue(), "");
}

}  // namespace
}  // namespace spaces::test
