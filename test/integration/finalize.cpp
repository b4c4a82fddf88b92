// SPDX-License-Identifier: BSD-2-Clause
//
// Finalize in every state of a context, over each kind of child: nothing stays in the TPM, it waits
// for no more than the command that the TPM has, and the other contexts notice nothing.
//
// What always holds here: before and after, a neighbour has an object, a session and its answers.

#include <thread>
#include <vector>

#include "behind_a_gate.h"

/// The mssim TCTI of tpm2-tss 3.2 forgets a copy of its conf when it cannot connect, as it cannot
/// when a context closes whose simulator has gone. Nothing of ours is made by strdup.
extern "C" [[gnu::visibility("default")]] const char* __lsan_default_suppressions() {
    return "leak:strdup\n";
}

namespace spaces::test {
namespace {

class Finalize : public OverEachChild {
  protected:
    void SetUp() override {
        madeByNeighbour = primaryName(neighbour.ok(createPrimary(TPM2_RH_OWNER, eccStorage("n"))));
        policy = handle(neighbour.ok(startAuthSession(TPM2_SE_POLICY)));
        neighbour.ok(policyCommandCode(policy, TPM2_CC_Unseal));
        digest = neighbour.ok(policyGetDigest(policy));
    }
    void TearDown() override {
        expectUnharmed();
        // What is left now is the neighbour's and nobody else's.
        neighbour.close();
        EXPECT_EQ(residue(sim), "");
    }

    void expectUnharmed() {
        EXPECT_EQ(handles(neighbour, kFirst), std::vector<TPM2_HANDLE>{kFirst});
        EXPECT_EQ(hex(publicName(neighbour.ok(readPublic(kFirst)))), hex(madeByNeighbour));
        EXPECT_EQ(hex(neighbour.ok(policyGetDigest(policy))), hex(digest));
    }

    /** Closes while the TPM is busy, which it ends to be; that must be all that is waited for. */
    void closeWhileBusy(Client& client) {
        std::thread closing = waitingThread([&client] { client.close(); });
        gate.open();
        closing.join();
    }

    size_t reached(const Bytes& command) {
        size_t count = 0;
        for (const Bytes& each : gate.commands()) count += each == command ? 1 : 0;
        return count;
    }

    Client neighbour = space();
    Bytes madeByNeighbour, digest;
    TPM2_HANDLE policy = 0;
};

const std::vector<Command> kMakers = {createPrimary(TPM2_RH_NULL), startAuthSession(),
                                      hashSequenceStart()};

TEST_P(Finalize, Idle) {
    Client a = space();
    a.close();
    Client b = space();
    for (const Command& each : {kMakers[0], kMakers[1]}) b.ok(each);
    b.close();
}

TEST_P(Finalize, InLine) {
    Client a = space(), b = space();
    b.ok(kMakers[0]);
    start(a, kMakers[1]);
    const Bytes command = createPrimary(TPM2_RH_NULL, hmacKey("in line"));
    ASSERT_EQ(b.transmit(command), TSS2_RC_SUCCESS);
    closeWhileBusy(b);
    EXPECT_EQ(reached(command), 0u);
    EXPECT_EQ(rc(answer(a)), TPM2_RC_SUCCESS);
}

TEST_P(Finalize, Running) {
    for (const Command& each : kMakers) {
        Client a = space(), b = space();
        start(a, each);
        ASSERT_EQ(neighbour.transmit(getRandom(9)), TSS2_RC_SUCCESS);
        ASSERT_EQ(b.transmit(getRandom(10)), TSS2_RC_SUCCESS);
        closeWhileBusy(a);
        EXPECT_EQ(octets(answer(b)), 10u);
        EXPECT_EQ(octets(answer(neighbour)), 9u);
        expectUnharmed();
    }
}

/// The one that drives the TPM meanwhile is another.
TEST_P(Finalize, RunningWhileAnotherThreadWaits) {
    Client a = space();
    start(a, kMakers[0]);
    ASSERT_EQ(neighbour.transmit(getRandom(9)), TSS2_RC_SUCCESS);
    std::thread waiting = waitingThread([this] { EXPECT_EQ(octets(answer(neighbour)), 9u); });
    closeWhileBusy(a);
    waiting.join();
}

TEST_P(Finalize, WithTheResponseWaiting) {
    for (const Command& each : kMakers) {
        Client a = space();
        ASSERT_EQ(a.transmit(each), TSS2_RC_SUCCESS);
        neighbour.ok(getRandom());  // takes it
        a.close();
    }
}

TEST_P(Finalize, AfterASizeQuery) {
    Client a = space();
    ASSERT_EQ(a.transmit(kMakers[0]), TSS2_RC_SUCCESS);
    size_t size = 0;
    ASSERT_EQ(a.receiveSize(size), TSS2_RC_SUCCESS);
    a.close();
}

TEST_P(Finalize, AfterARefusedTransmit) {
    Client a = space();
    a.ok(kMakers[1]);
    EXPECT_EQ(a.transmit(getRandom().size(11)), TSS2_TCTI_RC_BAD_VALUE);
    EXPECT_EQ(a.transmit({}), TSS2_TCTI_RC_BAD_REFERENCE);
    a.close();
    Client b = space();
    ASSERT_EQ(b.transmit(kMakers[0]), TSS2_RC_SUCCESS);
    EXPECT_EQ(b.transmit(kMakers[1]), TSS2_TCTI_RC_BAD_SEQUENCE) << "one at a time";
    b.close();
}

TEST_P(Finalize, OfSeveralAtOnce) {
    std::vector<Client> clients;
    for (int i = 0; i < 6; ++i) clients.push_back(space());
    start(clients[0], kMakers[0]);
    for (size_t i = 1; i < clients.size(); ++i)
        ASSERT_EQ(clients[i].transmit(kMakers[i % 2]), TSS2_RC_SUCCESS);
    std::vector<std::thread> threads;
    for (Client& each : clients) threads.emplace_back([&each] { each.close(); });
    gate.open();
    for (std::thread& each : threads) each.join();
}

// ---- A TPM that dies

/// Nothing can be flushed any more, and nothing is left to be: a new TPM is empty.
class FinalizeAfterDeath : public OverEachChild {
  protected:
    void TearDown() override {
        sim.restart();
        EXPECT_EQ(residue(sim), "");
    }
    /** The TPM is dead, and who waits for it learns it. */
    void die() {
        sim.kill();
        gate.open();
    }
    /** What nobody but the layer itself can say. */
    static void expectFailure(Client& client) {
        EXPECT_EQ(hex(rc(answer(client)) & TSS2_RC_LAYER_MASK), hex(TSS2_RESMGR_RC_LAYER));
    }
};

TEST_P(FinalizeAfterDeath, Idle) {
    Client a = space(), b = space();
    a.ok(kMakers[0]);
    b.ok(kMakers[1]);
    die();
    a.close();
    b.close();
}

TEST_P(FinalizeAfterDeath, Running) {
    Client a = space(), b = space();
    b.ok(kMakers[0]);
    start(a, kMakers[0]);
    ASSERT_EQ(b.transmit(getRandom()), TSS2_RC_SUCCESS);
    die();
    a.close();
    expectFailure(b);
    b.close();
}

TEST_P(FinalizeAfterDeath, InLine) {
    Client a = space(), b = space();
    a.ok(kMakers[0]);
    start(a, getRandom());
    ASSERT_EQ(b.transmit(kMakers[0]), TSS2_RC_SUCCESS);
    die();
    b.close();
    expectFailure(a);
    a.close();
}

TEST_P(FinalizeAfterDeath, WithTheResponseWaiting) {
    Client a = space(), b = space();
    ASSERT_EQ(a.transmit(kMakers[0]), TSS2_RC_SUCCESS);
    b.ok(kMakers[1]);
    die();
    a.close();
    b.close();
}

TEST_P(FinalizeAfterDeath, WithTheFailureWaiting) {
    Client a = space(), b = space();
    a.ok(kMakers[0]);
    start(a, getRandom());
    ASSERT_EQ(b.transmit(kMakers[0]), TSS2_RC_SUCCESS);
    die();
    expectFailure(b);
    a.close();
    b.close();
}

/// One that comes back has forgotten everything; what a context believes to have in it is
/// another's.
class FinalizeAfterRestart : public OverEachChild {};

TEST_P(FinalizeAfterRestart, TouchesNobodyElses) {
    Client a = space(), b = space();
    a.ok(kMakers[0]);
    a.ok(kMakers[1]);
    start(a, getRandom());
    sim.kill();
    gate.open();
    EXPECT_EQ(hex(rc(answer(a)) & TSS2_RC_LAYER_MASK), hex(TSS2_RESMGR_RC_LAYER));
    sim.restart();
    EXPECT_EQ(hex(handle(b.ok(kMakers[0]))), hex(kFirst));
    const TPM2_HANDLE policy = handle(b.ok(startAuthSession(TPM2_SE_POLICY)));
    a.close();
    b.ok(readPublic(kFirst));
    b.ok(policyGetDigest(policy));
    b.close();
    EXPECT_EQ(residue(sim), "");
}

// ---- A simulator that is gone, connection and all

/// Who writes to it meanwhile gets an error and no signal.
class FinalizeWithoutSimulator : public OverEachChild {};

TEST_P(FinalizeWithoutSimulator, Idle) {
    Client a = space(), b = space();
    a.ok(kMakers[0]);
    bridge.reset();
    a.close();
    EXPECT_EQ(hex(rc(b.send(getRandom())) & TSS2_RC_LAYER_MASK), hex(TSS2_RESMGR_RC_LAYER));
    b.close();
}

TEST_P(FinalizeWithoutSimulator, Running) {
    for (const bool cancels : {false, true}) {
        if (bridge == nullptr) startBridge();
        Client a = space(), b = space();
        b.ok(kMakers[0]);
        gate.onCancel(Gate::OnCancel::carryOn);
        start(a, kMakers[0]);
        if (cancels) a.cancel();
        ASSERT_EQ(b.transmit(getRandom()), TSS2_RC_SUCCESS);
        bridge.reset();
        gate.open();
        a.close();
        EXPECT_EQ(hex(rc(answer(b)) & TSS2_RC_LAYER_MASK), hex(TSS2_RESMGR_RC_LAYER));
        b.close();
    }
}

constexpr const char* kAll[] = {"swtpm", "device", "mssim", "pcap_mssim"};

INSTANTIATE_TEST_SUITE_P(Over, Finalize, testing::ValuesIn(kAll), kindOf);
INSTANTIATE_TEST_SUITE_P(Over, FinalizeAfterDeath, testing::ValuesIn(kAll), kindOf);
INSTANTIATE_TEST_SUITE_P(Over, FinalizeWithoutSimulator,
                         testing::Values("device", "mssim", "pcap_mssim"), kindOf);
// The device bridge ends with its TPM.
INSTANTIATE_TEST_SUITE_P(Over, FinalizeAfterRestart,
                         testing::Values("swtpm", "mssim", "pcap_mssim"), kindOf);

}  // namespace
}  // namespace spaces::test
