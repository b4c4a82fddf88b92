// SPDX-License-Identifier: BSD-2-Clause
// Unit test of swapping and memory: what moves nothing allocates nothing, an allocation that fails
// loses nothing, and any number of objects is closed at once.
// Always holds: operator new is counted_new.cpp's; what the model of the TPM
// allocates is not counted and does not fail.
#include "unit/counted_new.h"
#include "unit/swap_test.h"

namespace spaces::test {
namespace {

using Kind = Thing::Kind;

/// The client's command, with what the layers allocate for it counted.
TPM2_RC sendCounted(Client& client, const Packet& command) {
    {
        const Counted counted;
        client.space.start(command.all());
        client.space.wait(kBlock);
    }
    client.space.fetched();
    return wire::get32(&client.space.response()[6]);
}

class Memory : public SwapTest {
  protected:
    Memory() {
        Allocations::exempt = ModelTpm::atWork;
        Allocations::count = Allocations::failAt = 0;
    }
};

TEST_F(Memory, IsNotNeededWhereNothingMoves) {
    build();
    const TPM2_HANDLE one = object(a(), "one"), two = object(a(), "two");
    const TPM2_HANDLE policy = session(a());
    const TPM2_HANDLE sequence = handleOf(a().send(hashSequenceStart()));
    for (const Packet& each :
         {getRandom(), readPublic(one), certify(one, two), unseal(two, {{policy}}),
          policyGetDigest(policy), sequenceUpdate(sequence, "data"), readPublic(kObject3),
          getCapability(TPM2_CAP_HANDLES, kObject0, 99), getRandom().tag(0x1234),
          sequenceComplete(sequence), flushContext(one), flushContext(policy)})
        sendCounted(a(), each);
    EXPECT_EQ(Allocations::count, 0u);
}

/// A clean object's moves need none either: its context is there.
TEST_F(Memory, IsNotNeededToMoveWhatIsClean) {
    build({.objects = 1});
    for (int i = 0; i < 3; ++i) object(a(), "object");
    for (int i = 0; i < 6; ++i) a().send(readPublic(kObject0 + i % 3));
    for (int i = 0; i < 30; ++i)
        EXPECT_EQ(sendCounted(a(), readPublic(kObject0 + i % 3)), TPM2_RC_SUCCESS);
    EXPECT_EQ(Allocations::count, 0u);
}

class Shortage : public testing::TestWithParam<bool> {};

/// A script with every kind of move, one allocation failing: once, or from then on until the
/// command is answered.
TEST_P(Shortage, LosesNothing) {
    size_t failures = 0;
    for (size_t failing = 1;; ++failing) {
        SCOPED_TRACE("allocation " + std::to_string(failing));
        World world({.objects = 2, .sessions = 2, .gap = 10});
        std::vector<Thing> things;
        for (int i = 0; i < 2; ++i)
            for (Client* client : {world.a.get(), world.b.get()})
                for (const Kind kind : {Kind::Object, Kind::Sequence, Kind::Session})
                    things.emplace_back(*client, kind, "thing");
        Client& a = *world.a;
        const TPM2_HANDLE kept = handleOf(a.send(startPolicy()));
        const Packet answer = a.send(contextSave(kept));
        const Bytes context(answer.all().begin() + 10, answer.all().end());
        Allocations::exempt = ModelTpm::atWork;
        Allocations::count = 0;
        Allocations::failAt = failing;
        Allocations::failFromThen = GetParam();
        size_t refused = 0;
        // Things that they say, and in between: made, saved, loaded.
        for (int round = 0; round < 4; ++round) {
            for (size_t i = 0; i < things.size(); ++i) {
                const bool session = i % 3 == 2;
                Client& client = i / 3 % 2 == 0 ? a : *world.b;
                const Packet reading =
                    session ? policyGetDigest(things[i].handle) : readPublic(things[i].handle);
                const TPM2_RC code = sendCounted(client, reading);
                if (code == TPM2_RC_SUCCESS) continue;
                EXPECT_EQ(code, 0xB0904u);
                ++refused;
            }
            for (const Packet& making :
                 {create("new"), startPolicy(), hashSequenceStart(), contextLoad(context)}) {
                const TPM2_RC code = sendCounted(a, making);
                if (code == 0xB0904u) ++refused;
                const bool again = wire::get32(&making.all()[6]) == TPM2_CC_ContextLoad;
                EXPECT_TRUE(code == TPM2_RC_SUCCESS || code == 0xB0904u || (again && code == 0x1CB))
                    << code;
            }
        }
        const bool failed = Allocations::failed();
        Allocations::failAt = 0;
        EXPECT_TRUE(GetParam() || refused <= 1);
        failures += failed ? 1 : 0;
        for (Thing& each : things) EXPECT_EQ(each.use(), TPM2_RC_SUCCESS);
        for (Thing& each : things) EXPECT_EQ(each.check(), TPM2_RC_SUCCESS);
        a.send(contextLoad(context));  // unless that was done
        EXPECT_EQ(codeOf(a.send(policyGetDigest(kept))), TPM2_RC_SUCCESS);
        world.close();
        EXPECT_EQ(
            world.tpm.loadedObjects() + world.tpm.loadedSessions() + world.tpm.savedSessions(), 0u);
        if (!failed || HasFailure()) break;
    }
    EXPECT_GE(failures, 20u);
}

INSTANTIATE_TEST_SUITE_P(Failing, Shortage, testing::Bool(),
                         [](const auto& info) { return info.param ? "FromThenOn" : "Once"; });

/// However many are left, they are flushed one after the other, not one within the other.
TEST_F(Memory, OfTheStackIsNotUsedUpByManyObjects) {
    constexpr int kMany = 10000;
    build();
    for (int i = 0; i < kMany; ++i) ASSERT_EQ(codeOf(a().send(create("object"))), TPM2_RC_SUCCESS);
    EXPECT_EQ(a().send(readPublic(kObject0 + kMany / 2)), named("object"));
    tpm().takeSent();
    a().space.close();
    EXPECT_LE(tpm().takeSent().size(), 3u) << "for those that are in the TPM alone";
}

}  // namespace
}  // namespace spaces::test
