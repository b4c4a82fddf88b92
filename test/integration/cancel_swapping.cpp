// SPDX-License-Identifier: BSD-2-Clause
//
// Cancel in the middle of swapping: whichever of the commands that bring in what is named, or put
// out what is in the way, has been reached, the client's own is not sent, and nothing is left half
// done. It is the TPM that knows: its cancel signal must not hit a command that is not the
// client's.

#include <set>
#include <vector>

#include "behind_a_gate.h"

namespace spaces::test {
namespace {

/** Something that a client holds: naming it is answered as it was the first time. */
struct Thing {
    Client* client;
    Command naming;
    Bytes expected;
};

class CancelWhileSwapping : public testing::Test, protected BehindAGate {
  protected:
    CancelWhileSwapping() : BehindAGate("mssim") {}
    void SetUp() override {
        for (Client* each : {&a, &b}) {
            for (const char* unique : {"1", "2", "3"})
                hold(*each, readPublic(handle(each->ok(createPrimary(
                                TPM2_RH_OWNER, hmacKey(unique + std::to_string(each == &a)))))));
            for (const TPM2_CC code : {TPM2_CC_Unseal, TPM2_CC_Sign}) {
                const TPM2_HANDLE policy = handle(each->ok(startAuthSession(TPM2_SE_POLICY)));
                each->ok(policyCommandCode(policy, code));
                hold(*each, policyGetDigest(policy));
            }
        }
    }
    void TearDown() override {
        a.close();
        b.close();
        EXPECT_EQ(residue(sim), "");
    }

    void hold(Client& client, const Command& naming) {
        things.push_back({&client, naming, client.ok(naming)});
    }
    void expectEverythingWhole() {
        for (const Thing& each : things)
            EXPECT_EQ(hex(each.client->send(each.naming)), hex(each.expected));
        for (Client* each : {&a, &b}) EXPECT_EQ(handles(*each, kFirst).size(), 3u);
    }

    /** The command that waits is let through. True if another of the turn waits then. */
    bool step(Client& client) {
        const size_t mark = gate.commandCount();
        gate.passOne();
        Bytes response;
        while (gate.commandCount() == mark)
            if (client.receive(response, 1) == TSS2_RC_SUCCESS) return false;
        return true;
    }

    /** Names the thing and stops at its turn's command number `at`. True if that is a move. */
    bool stopsAtMove(const Thing& thing, int at) {
        start(*thing.client, thing.naming);
        bool over = false;
        for (int i = 0; i < at && !over; ++i) over = !step(*thing.client);
        if (!over && gate.await() != thing.naming.code()) return true;
        gate.open();
        if (!over) answer(*thing.client);
        return false;
    }

    Client a = space("swap=on"), b = space("swap=on");
    std::vector<Thing> things;
};

TEST_F(CancelWhileSwapping, LeavesNothingHalfDone) {
    std::set<TPM2_CC> moves;
    for (int at = 0; at < 3; ++at)
        for (const Thing& thing : things) {
            if (!stopsAtMove(thing, at)) continue;
            moves.insert(gate.await());
            const size_t mark = gate.commandCount();
            EXPECT_EQ(thing.client->cancel(), TSS2_RC_SUCCESS);
            gate.open();
            EXPECT_EQ(hex(rc(answer(*thing.client))), hex(TPM2_RC_CANCELED));
            for (const Bytes& each : gate.commands(mark)) EXPECT_NE(rc(each), thing.naming.code());
            expectEverythingWhole();
        }
    EXPECT_EQ(moves,
              (std::set<TPM2_CC>{TPM2_CC_ContextLoad, TPM2_CC_ContextSave, TPM2_CC_FlushContext}));
    EXPECT_EQ(gate.cancels(), 0u);
}

TEST_F(CancelWhileSwapping, ThenClosed) {
    size_t moves = 0;
    for (const Thing& thing : things) {
        if (thing.client != &a || moves > 0 || !stopsAtMove(thing, 0)) continue;
        ++moves;
        EXPECT_EQ(a.cancel(), TSS2_RC_SUCCESS);
        gate.open();
        a.close();
    }
    EXPECT_EQ(moves, 1u);
    for (const Thing& each : things)
        if (each.client == &b) {
            EXPECT_EQ(hex(b.send(each.naming)), hex(each.expected));
        }
}

}  // namespace
}  // namespace spaces::test
