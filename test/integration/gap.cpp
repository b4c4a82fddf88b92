// SPDX-License-Identifier: BSD-2-Clause
//
// The context gap, really reached: a TPM tells the saved contexts of sessions apart over 65,530
// saves only, and then saves no session, nor lets a new one start, until the oldest of them has
// been loaded. A space that swaps repairs that by itself, if it has that context.
//
// What always holds here: no client loses a session, and 0x901 (CONTEXT_GAP) is answered only where
// nobody but a stranger could repair it. Spaces use two of the TPM's three slots for sessions, so
// that a client without the library can count up to the gap quickly in the third.
#include <gtest/gtest.h>

#include <cstdlib>

#include "support/client.h"
#include "support/command.h"
#include "support/crypto.h"
#include "support/response.h"
#include "support/simulator.h"

namespace spaces::test {
namespace {

constexpr TPM2_HANDLE kLoaded = TPM2_LOADED_SESSION_FIRST;
constexpr uint8_t kAudit = TPMA_SESSION_CONTINUESESSION | TPMA_SESSION_AUDIT;

/** A policy session with a digest that tells it from the others. */
struct Policy {
    TPM2_HANDLE session;
    Bytes digest;
    Bytes saved;  ///< the client's context of it, if it was saved

    Policy(Client& client, int number) {
        session = handle(client.ok(startAuthSession(TPM2_SE_POLICY)));
        const Bytes anything = sha256(bytes(std::to_string(number)));
        client.ok(Command(TPM2_CC_PolicyCpHash).handle(session).tpm2b(anything));
        digest = client.ok(policyGetDigest(session));
    }
    void save(Client& client) { saved = context(client.ok(contextSave(session))); }
    void expectAlive(Client& client) const {
        EXPECT_EQ(hex(client.send(policyGetDigest(session))), hex(digest)) << hex(session);
    }
};

class Gap : public testing::Test {
  protected:
    void TearDown() override {
        a.close();
        b.close();
        stranger.close();
        EXPECT_EQ(residue(sim), "");
    }

    Client space() const { return Client::space(sim, "sessions=2"); }

    /** A session of the stranger's is saved and loaded until the TPM refuses. */
    void reachTheGap() {
        constexpr int kEnough = 70000;
        const TPM2_HANDLE session = handle(stranger.ok(startAuthSession()));
        for (int saves = 0; saves < kEnough; saves++) {
            Bytes response = stranger.send(contextSave(session));
            if (rc(response) == TPM2_RC_SUCCESS)
                response = stranger.send(contextLoad(context(response)));
            if (rc(response) == TPM2_RC_SUCCESS) continue;
            EXPECT_EQ(hex(rc(response)), hex(TPM2_RC_CONTEXT_GAP));
            stranger.ok(flushContext(session));
            return;
        }
        FAIL() << "no gap after " << kEnough << " saves";
    }

    Simulator sim{Record::nothing};
    Client a = space(), b = space(), stranger = Client::bare(sim);
};

// Ten sessions that A's client has saved, one after the other, and B's that swapping has saved in
// the middle of them. They are loaded and saved again, oldest first, when C needs a slot; so each
// client's context is one that the TPM does not know any more, and loads all the same, once.
TEST_F(Gap, OldestOfAnotherSpaceAndOfAClient) {
    std::vector<Policy> ofA, ofB;
    const auto startAndSave = [&](int count) {
        for (int i = 0; i < count; i++) ofA.emplace_back(a, i).save(a);
    };
    startAndSave(5);
    for (int i = 0; i < 4; i++) ofB.emplace_back(b, 100 + i);
    startAndSave(5);
    reachTheGap();

    Client c = space();
    std::vector<Policy> ofC;
    for (int i = 0; i < 3; i++) ofC.emplace_back(c, 200 + i);
    for (const Policy& each : ofC) each.expectAlive(c);
    for (const Policy& each : ofB) each.expectAlive(b);
    c.close();

    for (const Policy& each : ofA) {
        Bytes tampered = each.saved;
        tampered.back() ^= 1;
        EXPECT_EQ(hex(rc(a.send(contextLoad(tampered)))), hex(0x1DFu));
        EXPECT_EQ(hex(rc(a.send(policyGetDigest(each.session)))), hex(0x910u));
        EXPECT_EQ(hex(handle(a.ok(contextLoad(each.saved)))), hex(each.session));
        EXPECT_EQ(hex(rc(a.send(contextLoad(each.saved)))), hex(0x1CBu));
    }
    for (const Policy& each : ofA) each.expectAlive(a);
    for (const Policy& each : ofB) each.expectAlive(b);
}

// Nobody here has the oldest context, so nothing can be repaired: the client is told so, and has
// lost nothing when the stranger comes back.
TEST_F(Gap, OldestOfAStranger) {
    const TPM2_HANDLE unknown = handle(stranger.ok(startAuthSession()));
    const Bytes saved = context(stranger.ok(contextSave(unknown)));
    std::vector<Policy> ofA, ofB;
    for (int i = 0; i < 4; i++) {
        ofA.emplace_back(a, i);
        ofB.emplace_back(b, 100 + i);
    }
    reachTheGap();

    int refused = 0;
    const auto use = [&](Client& client, const Policy& policy) {
        const TPM2_RC code = rc(client.send(policyGetDigest(policy.session)));
        EXPECT_TRUE(code == 0 || code == TPM2_RC_CONTEXT_GAP) << hex(code);
        refused += code == TPM2_RC_CONTEXT_GAP;
    };
    for (int round = 0; round < 2; round++)
        for (size_t i = 0; i < ofA.size(); i++) {
            use(a, ofA[i]);
            use(b, ofB[i]);
        }
    EXPECT_GT(refused, 0);
    EXPECT_EQ(handles(a, kLoaded).size(), ofA.size());
    EXPECT_EQ(handles(b, kLoaded).size(), ofB.size());

    EXPECT_EQ(handle(stranger.ok(contextLoad(saved))), unknown);
    stranger.ok(flushContext(unknown));
    for (const Policy& each : ofA) each.expectAlive(a);
    for (const Policy& each : ofB) each.expectAlive(b);
}

// The gap as swapping itself comes to it: two sessions change places in one slot, while a third,
// which its client has saved, grows old.
TEST_F(Gap, ReachedBySwapping) {
    Simulator another(Record::nothing);
    Client client = Client::space(another, "sessions=1");
    Policy old(client, 0);
    old.save(client);
    const TPM2_HANDLE one = handle(client.ok(startAuthSession()));
    const TPM2_HANDLE two = handle(client.ok(startAuthSession()));
    constexpr int kRounds = 33000;  // of two swaps each
    for (int i = 0; i < kRounds; i++)
        for (TPM2_HANDLE each : {one, two})
            ASSERT_EQ(hex(rc(client.send(getRandom(1).session(each, {}, kAudit)))), hex(0u)) << i;
    EXPECT_EQ(hex(rc(client.send(policyGetDigest(old.session)))), hex(0x910u));
    EXPECT_EQ(hex(handle(client.ok(contextLoad(old.saved)))), hex(old.session));
    EXPECT_EQ(hex(rc(client.send(contextLoad(old.saved)))), hex(0x1CBu));
    old.expectAlive(client);
    client.close();
    EXPECT_EQ(residue(another), "");
}

}  // namespace
}  // namespace spaces::test

int main(int argc, char** argv) {
    setenv("SPACES_TEST_OPTIONS", "swap=on", 0);
    testing::InitGoogleTest(&argc, argv);
    return RUN_ALL_TESTS();
}
