// SPDX-License-Identifier: BSD-2-Clause
//
// Cancel, over each kind of child: what waits in line never reaches the TPM; what is running is the
// TPM's to cancel, if its child can ask it to, and is answered in any case; nobody else notices.
//
// What always holds here: when all contexts are closed, the TPM is empty.

#include <poll.h>

#include <vector>

#include "behind_a_gate.h"

namespace spaces::test {
namespace {

class Cancel : public OverEachChild {
  protected:
    void TearDown() override { EXPECT_EQ(residue(sim), ""); }

    /** Nobody gets an answer that is another's. */
    static void expectOwnAnswers(std::vector<Client*> clients) {
        for (uint16_t round = 0; round < 3; ++round) {
            for (uint16_t i = 0; i < clients.size(); ++i)
                EXPECT_EQ(clients[i]->transmit(getRandom(static_cast<uint16_t>(8 + i))), 0u);
            for (size_t i = clients.size(); i-- > 0;)
                EXPECT_EQ(octets(answer(*clients[i])), 8u + i);
        }
    }
};

TEST_P(Cancel, InLineNeverReachesTheTpm) {
    Client a = space(), b = space(), c = space();
    start(a, getRandom(9));
    ASSERT_EQ(b.transmit(createPrimary()), TSS2_RC_SUCCESS);
    ASSERT_EQ(c.transmit(getRandom(10)), TSS2_RC_SUCCESS);
    const size_t mark = gate.commandCount();
    EXPECT_EQ(b.cancel(), TSS2_RC_SUCCESS);
    EXPECT_EQ(hex(rc(answer(b, kNone))), hex(TPM2_RC_CANCELED)) << "the TPM is still busy";
    gate.open();
    EXPECT_EQ(octets(answer(c)), 10u);
    EXPECT_EQ(octets(answer(a)), 9u);
    EXPECT_EQ(gate.commands(mark), std::vector<Bytes>{getRandom(10)});
    EXPECT_EQ(gate.cancels(), 0u);
    expectOwnAnswers({&a, &b, &c});
}

TEST_P(Cancel, InLineTwiceAndAgain) {
    Client a = space(), b = space();
    start(a, getRandom(9));
    for (int i = 0; i < 3; ++i) {
        ASSERT_EQ(b.transmit(createPrimary()), TSS2_RC_SUCCESS);
        EXPECT_EQ(b.cancel(), TSS2_RC_SUCCESS);
        EXPECT_EQ(b.cancel(), TSS2_RC_SUCCESS) << "of what is over";
        EXPECT_EQ(hex(rc(answer(b, kNone))), hex(TPM2_RC_CANCELED));
        EXPECT_EQ(b.cancel(), TSS2_TCTI_RC_BAD_SEQUENCE);
    }
    gate.open();
    EXPECT_EQ(octets(answer(a)), 9u);
    expectOwnAnswers({&a, &b});
}

TEST_P(Cancel, OfAResponseThatIsThereChangesNothing) {
    Client a = space(), b = space();
    ASSERT_EQ(a.transmit(createPrimary()), TSS2_RC_SUCCESS);
    ASSERT_EQ(b.transmit(getRandom(9)), TSS2_RC_SUCCESS);
    EXPECT_EQ(octets(answer(b)), 9u);
    EXPECT_EQ(a.cancel(), TSS2_RC_SUCCESS);
    EXPECT_EQ(gate.cancels(), 0u);
    EXPECT_EQ(hex(handle(answer(a))), hex(kFirst));
    a.ok(readPublic(kFirst));
}

class CancelRunning : public Cancel {
  protected:
    /** A's command is with the TPM, B's and C's are in line. */
    void startThree(Client& a, Client& b, Client& c) {
        start(a, createPrimary());
        ASSERT_EQ(b.transmit(getRandom(9)), TSS2_RC_SUCCESS);
        ASSERT_EQ(c.transmit(getRandom(10)), TSS2_RC_SUCCESS);
    }
    /** poll() for the context's handle. */
    static int waitFor(Client& client, int timeout) {
        TSS2_TCTI_CONTEXT* context = client.context();
        TSS2_TCTI_POLL_HANDLE handle;
        size_t count = 1;
        EXPECT_EQ(Tss2_Tcti_GetPollHandles(context, &handle, &count), TSS2_RC_SUCCESS);
        return ::poll(&handle, 1, timeout);
    }
};

TEST_P(CancelRunning, IsForwardedAndTheResponseTaken) {
    Client a = space(), b = space(), c = space();
    startThree(a, b, c);
    EXPECT_EQ(a.cancel(), TSS2_RC_SUCCESS);
    EXPECT_EQ(gate.cancels(), 1u);
    gate.open();
    EXPECT_EQ(hex(rc(answer(a))), hex(TPM2_RC_CANCELED));
    EXPECT_EQ(octets(answer(b)), 9u);
    EXPECT_EQ(octets(answer(c)), 10u);
    EXPECT_EQ(handles(a, kFirst), std::vector<TPM2_HANDLE>{});
    expectOwnAnswers({&a, &b, &c});
}

TEST_P(CancelRunning, OthersTakeTheResponse) {
    Client a = space(), b = space(), c = space();
    startThree(a, b, c);
    EXPECT_EQ(a.cancel(), TSS2_RC_SUCCESS);
    gate.open();
    EXPECT_EQ(octets(answer(c)), 10u);
    EXPECT_EQ(hex(rc(answer(a, kNone))), hex(TPM2_RC_CANCELED));
    EXPECT_EQ(octets(answer(b, kNone)), 9u);
    expectOwnAnswers({&c, &b, &a});
}

/// A TPM need not heed a cancel: what the command made is there then.
TEST_P(CancelRunning, MayComeToNothing) {
    gate.onCancel(Gate::OnCancel::carryOn);
    Client a = space(), b = space(), c = space();
    b.ok(createPrimary(TPM2_RH_OWNER, eccStorage("b")));
    startThree(a, b, c);
    EXPECT_EQ(a.cancel(), TSS2_RC_SUCCESS);
    EXPECT_EQ(gate.cancels(), 1u);
    gate.open();
    EXPECT_EQ(hex(handle(answer(a))), hex(kFirst));
    EXPECT_EQ(octets(answer(b)), 9u);
    EXPECT_EQ(octets(answer(c)), 10u);
    a.ok(readPublic(kFirst));
    b.ok(readPublic(kFirst));
    expectOwnAnswers({&a, &b, &c});
}

TEST_P(CancelRunning, MayBeAskedForAgain) {
    gate.onCancel(Gate::OnCancel::carryOn);
    Client a = space(), b = space();
    start(a, createPrimary());
    for (int i = 0; i < 3; ++i) EXPECT_EQ(hex(a.cancel()), hex(TSS2_RC_SUCCESS));
    gate.open();
    EXPECT_EQ(hex(handle(answer(a))), hex(kFirst));
    expectOwnAnswers({&a, &b});
}

TEST_P(CancelRunning, SaysNoResponseBeforeItIsThere) {
    gate.onCancel(Gate::OnCancel::carryOn);
    Client a = space(), b = space();
    start(a, createPrimary());
    ASSERT_EQ(b.transmit(getRandom(9)), TSS2_RC_SUCCESS);
    EXPECT_EQ(a.cancel(), TSS2_RC_SUCCESS);
    Bytes response;
    EXPECT_EQ(hex(a.receive(response, kNone)), hex(TSS2_TCTI_RC_TRY_AGAIN));
    EXPECT_EQ(hex(b.receive(response, 20)), hex(TSS2_TCTI_RC_TRY_AGAIN));
    gate.open();
    EXPECT_EQ(hex(handle(answer(a))), hex(kFirst));
    EXPECT_EQ(octets(answer(b)), 9u);
}

/// The response is told of as any other, though it takes another command to get it.
TEST_P(CancelRunning, IsToldByThePollHandle) {
    gate.onCancel(Gate::OnCancel::carryOn);
    Client a = space(), b = space();
    start(a, createPrimary());
    ASSERT_EQ(b.transmit(getRandom(9)), TSS2_RC_SUCCESS);
    EXPECT_EQ(a.cancel(), TSS2_RC_SUCCESS);
    for (Client* each : {&a, &b}) EXPECT_EQ(waitFor(*each, 0), 0);
    gate.passOne();
    EXPECT_EQ(waitFor(a, -1), 1);
    EXPECT_EQ(hex(handle(answer(a, kNone))), hex(kFirst));
    EXPECT_EQ(waitFor(a, 0), 0);
    EXPECT_EQ(waitFor(b, 0), 0) << "its command is with the TPM";
    gate.open();
    EXPECT_EQ(waitFor(b, -1), 1);
    EXPECT_EQ(octets(answer(b, kNone)), 9u);
}

TEST_P(CancelRunning, ReachesTheTpmWhileAnotherThreadWaitsForIt) {
    Client a = space(), b = space(), c = space();
    startThree(a, b, c);
    std::thread waiting = waitingThread([&b] { EXPECT_EQ(octets(answer(b)), 9u); });
    EXPECT_EQ(a.cancel(), TSS2_RC_SUCCESS);
    EXPECT_EQ(gate.cancels(), 1u);
    gate.open();
    waiting.join();
    EXPECT_EQ(hex(rc(answer(a))), hex(TPM2_RC_CANCELED));
    EXPECT_EQ(octets(answer(c)), 10u);
    expectOwnAnswers({&a, &b, &c});
}

TEST_P(CancelRunning, ThenClosed) {
    for (const auto heeds : {Gate::OnCancel::answerCanceled, Gate::OnCancel::carryOn}) {
        gate.onCancel(heeds);
        Client a = space(), b = space(), c = space();
        startThree(a, b, c);
        EXPECT_EQ(a.cancel(), TSS2_RC_SUCCESS);
        gate.open();
        a.close();
        EXPECT_EQ(octets(answer(c)), 10u);
        EXPECT_EQ(octets(answer(b)), 9u);
        expectOwnAnswers({&b, &c});
    }
}

TEST_P(CancelRunning, TimeAfterTime) {
    Client a = space(), b = space();
    for (int i = 0; i < 5; ++i) {
        start(a, createPrimary());
        ASSERT_EQ(b.transmit(getRandom(9)), TSS2_RC_SUCCESS);
        EXPECT_EQ(a.cancel(), TSS2_RC_SUCCESS);
        gate.open();
        EXPECT_EQ(hex(rc(answer(a))), hex(TPM2_RC_CANCELED));
        EXPECT_EQ(octets(answer(b)), 9u);
        a.ok(createPrimary(TPM2_RH_NULL, hmacKey()));
        a.ok(flushContext(kFirst));
    }
    EXPECT_EQ(gate.cancels(), 5u);
}

/// The TPM itself is asked, while it makes an RSA key; what becomes of it is the TPM's to say.
TEST_P(CancelRunning, OfARealCommand) {
    Client a = space(), b = space();
    ASSERT_EQ(a.transmit(createPrimary(TPM2_RH_OWNER, rsaStorage())), TSS2_RC_SUCCESS);
    ASSERT_EQ(b.transmit(getRandom(9)), TSS2_RC_SUCCESS);
    EXPECT_EQ(a.cancel(), TSS2_RC_SUCCESS);
    EXPECT_EQ(octets(answer(b)), 9u);
    const TPM2_RC code = rc(answer(a));
    EXPECT_TRUE(code == TPM2_RC_SUCCESS || code == TPM2_RC_CANCELED) << hex(code);
    EXPECT_EQ(handles(a, kFirst).size(), code == TPM2_RC_SUCCESS ? 1u : 0u);
    expectOwnAnswers({&a, &b});
}

INSTANTIATE_TEST_SUITE_P(Over, Cancel, testing::Values("swtpm", "device", "mssim", "pcap_mssim"),
                         kindOf);
INSTANTIATE_TEST_SUITE_P(Over, CancelRunning, testing::Values("mssim", "pcap_mssim"), kindOf);

}  // namespace
}  // namespace spaces::test
