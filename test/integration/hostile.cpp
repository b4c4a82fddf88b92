/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A client that wants what is not its own, or to keep others from theirs: what brings down or opens
 * other resource managers.  It gets the answers of a private TPM, and its neighbour, who is looked
 * at after every attempt, notices nothing but delay.
 */
#include <algorithm>

#include "shared_and_private.h"
#include "support/session.h"

namespace spaces::test {
namespace {

/** Makes the header tell the truth. */
void writeSize(Bytes& command) {
    Bytes size;
    append(size, command.size(), 4);
    std::copy(size.begin(), size.end(), command.begin() + 2);
}

class Hostile : public Isolation {
  protected:
    Hostile() {
        key_ = handle(b.ok(createPrimary(TPM2_RH_OWNER, eccSigning("victim"))));
        name_ = publicName(b.ok(readPublic(key_)));
        policy_ = handle(b.ok(startAuthSession(TPM2_SE_POLICY)));
        b.ok(policyCommandCode(policy_, TPM2_CC_Sign));
        digest_ = parameters(b.ok(policyGetDigest(policy_))).tpm2b();
    }

    /** The neighbour has all that it had, as it was. */
    void expectUnharmed() {
        EXPECT_EQ(publicName(b.ok(readPublic(key_))), name_);
        EXPECT_EQ(parameters(b.ok(policyGetDigest(policy_))).tpm2b(), digest_);
        EXPECT_EQ(handles(b, TPM2_TRANSIENT_FIRST), Handles{key_});
        EXPECT_EQ(handles(b, kLoaded), Handles{policy_});
    }

    TPM2_HANDLE key_ = 0, policy_ = 0;
    Bytes name_, digest_;
};

/** A context that begins like one of a session of somebody else: a sequence number that is easily
 *  guessed and the session's handle, with little or nothing behind it. */
TEST_F(Hostile, AGuessedContextOfASessionLoadsNothing) {
    for (uint64_t sequence = 0; sequence < 16; ++sequence)
        for (const size_t rest : {0u, 2u, 4u, 6u, 100u}) {
            Bytes guess;
            append(guess, sequence, 8);
            append(guess, policy_, 4);
            guess.resize(guess.size() + rest);
            if (rest == 100) guess[16 + 1] = 82;  // a blob's size that fits
            EXPECT_EQ(hex(a.send(contextLoad(guess))), hex(own.send(contextLoad(guess))));
        }
    expectUnharmed();
}

/** A context that the neighbour saved and that was seen on its way is as good as any copy of it;
 *  changed in any octet of its head it is worth nothing. */
TEST_F(Hostile, AChangedContextLoadsNothing) {
    const Bytes saved = context(b.ok(contextSave(policy_)));
    for (size_t at = 0; at < 18; ++at) {
        Bytes changed = saved;
        changed[at] ^= 1;
        EXPECT_NE(rc(a.send(contextLoad(changed))), TPM2_RC{TPM2_RC_SUCCESS}) << at;
        EXPECT_EQ(handles(a, kLoaded), Handles{});
    }
    EXPECT_EQ(handle(b.ok(contextLoad(saved))), policy_);
    expectUnharmed();
}

/** By its own number, by the number it would have as the other type, and by that of a saved one. */
TEST_F(Hostile, AnothersSessionIsNotFlushed) {
    const TPM2_HANDLE index = policy_ & TPM2_HR_HANDLE_MASK;
    for (const TPM2_HANDLE number : {policy_, TPM2_HANDLE{kLoaded + index}}) {
        EXPECT_EQ(rc(a.send(flushContext(number))), 0x1CBu);
        EXPECT_EQ(rc(a.send(contextSave(number))), 0x910u);
        EXPECT_EQ(rc(a.send(policyGetDigest(number))), rc(own.send(policyGetDigest(number))));
    }
    expectUnharmed();
    const Bytes saved = context(b.ok(contextSave(policy_)));
    EXPECT_EQ(rc(a.send(flushContext(policy_))), 0x1CBu);
    EXPECT_EQ(handle(b.ok(contextLoad(saved))), policy_);
    expectUnharmed();
}

/** The number of an object that Clear took away may be another's by now. */
TEST_F(Hostile, AStaleHandleReachesNobodysObject) {
    const TPM2_HANDLE stale = handle(a.ok(createPrimary(TPM2_RH_OWNER, eccSigning("ours"))));
    a.ok(clear());
    EXPECT_EQ(rc(b.send(readPublic(key_))), 0x910u) << "that is what Clear is for";
    key_ = handle(b.ok(createPrimary(TPM2_RH_OWNER, eccSigning("victim"))));
    name_ = publicName(b.ok(readPublic(key_)));
    for (const Command& attempt : {readPublic(stale), flushContext(stale), contextSave(stale),
                                   sign(stale), readPublic(stale + 1), flushContext(stale + 1)}) {
        const TPM2_RC code = rc(a.send(attempt));
        EXPECT_TRUE(code == 0x910 || code == 0x1CB) << hex(attempt) << ": " << hex(code);
    }
    expectUnharmed();
}

/** Half a header, half a command, more than a command, a header that lies. */
TEST_F(Hostile, GiantAndHalfCommandsStopNobody) {
    for (const size_t size : {1u, 5u, 9u}) {
        EXPECT_EQ(a.transmit(Bytes(size, 0x80)), TSS2_TCTI_RC_BAD_VALUE);
        expectUnharmed();
    }
    Bytes half(createPrimary());
    half.resize(half.size() / 2);
    EXPECT_EQ(a.transmit(half), TSS2_TCTI_RC_BAD_VALUE) << "its header says more";
    writeSize(half);
    EXPECT_EQ(hex(a.send(half)), hex(own.send(half)));
    Bytes giant(getRandom());
    giant.resize(1 << 20);
    writeSize(giant);
    EXPECT_EQ(rc(a.send(giant)), 0x142u);
    expectUnharmed();
}

/** Sessions are a pool that all share: who takes all of it is told so as soon as anybody else, and
 *  gives it back at its end. */
TEST_F(Hostile, AllTheSessionsComeBack) {
    Handles taken;
    for (;;) {
        const Bytes answer = a.send(startAuthSession());
        if (rc(answer) != 0) {
            EXPECT_EQ(rc(answer), swapping() ? 0x905u : 0x903u);
            break;
        }
        taken.push_back(handle(answer));
        ASSERT_LE(taken.size(), 64u);
    }
    EXPECT_EQ(rc(b.send(startAuthSession())), swapping() ? 0x905u : 0x903u);
    expectUnharmed();
    a.close();
    const TPM2_HANDLE another = handle(b.ok(startAuthSession()));
    b.ok(flushContext(another));
    expectUnharmed();
}

/** Over and over, commands whose response nobody fetches. */
TEST_F(Hostile, ASpaceThatNeverReceivesDelaysAndNoMore) {
    for (int i = 0; i < 20; ++i) {
        Client silent = Client::space(shared);
        ASSERT_EQ(silent.transmit(createPrimary(TPM2_RH_NULL, hmacKey())), TSS2_RC_SUCCESS);
        expectUnharmed();
        if (i % 2 == 0) {
            size_t size = 0;
            EXPECT_EQ(silent.receiveSize(size), TSS2_RC_SUCCESS);
        }
    }
    expectUnharmed();
}

}  // namespace
}  // namespace spaces::test
