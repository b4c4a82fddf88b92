// SPDX-License-Identifier: BSD-2-Clause
// Unit test of space/space: what a private TPM could never say, and what comes at the wrong time.
// Always holds: a failure costs its own command and nothing of any other space.
#include <algorithm>

#include "unit/space_test.h"

namespace spaces::test {
namespace {

/// What the layer says of itself: layer 11, and a code that tpm2_rc_decode knows.
Packet noAnswer() { return response(0xB0101); }
Packet noMemory() { return response(0xB0904); }

class Failure : public SpaceTest {
  protected:
    Failure() {
        object(*b, kObject0);
        object(*a, kObject1);
        session(*a, kHmac0);
    }
    void expectUnharmed() {
        EXPECT_TRUE(owns(*a, kObject0, kObject1));
        EXPECT_TRUE(owns(*a, kHmac0, kHmac0));
        EXPECT_TRUE(owns(*b, kObject0, kObject0));
    }
};

TEST_F(Failure, ToTransmitIsAResponse) {
    child.expect(getRandom(), response()).transmitFails(TSS2_TCTI_RC_IO_ERROR);
    EXPECT_EQ(a->send(getRandom()), noAnswer());
    expectUnharmed();
}

TEST_F(Failure, ToReceiveIsAResponse) {
    child.expect(getRandom(), response()).receiveFails(TSS2_TCTI_RC_NO_CONNECTION);
    EXPECT_EQ(a->send(getRandom()), noAnswer());
    expectUnharmed();
}

TEST_F(Failure, ToOpenIsAResponse) {
    child.expect(getRandom(), response()).receiveFails(TSS2_TCTI_RC_IO_ERROR);
    a->send(getRandom());
    child.openCode = TSS2_TCTI_RC_NOT_PERMITTED;
    EXPECT_EQ(a->send(getRandom()), noAnswer());
    EXPECT_EQ(b->send(getRandom()), noAnswer());
    child.openCode = TSS2_ESYS_RC_MEMORY;
    EXPECT_EQ(a->send(getRandom()), noMemory());
    child.openCode = TSS2_RC_SUCCESS;
    expectUnharmed();
}

/// A response with the base code of TRY_AGAIN would be read as an invitation to call again.
TEST_F(Failure, ToTransmitForNowIsNoInvitation) {
    child.expect(getRandom(), response()).transmitFails(TSS2_TCTI_RC_TRY_AGAIN);
    EXPECT_EQ(a->send(getRandom()), noAnswer());
    child.expect(getRandom(), response()).receiveFails(TSS2_SYS_RC_LAYER | 9);
    EXPECT_EQ(a->send(getRandom()), noAnswer());
    child.expect(getRandom(), response()).transmitFails(TSS2_TCTI_RC_LAYER);
    EXPECT_EQ(a->send(getRandom()), noAnswer());
    expectUnharmed();
}

TEST_F(Failure, OfTheChildsResponseIsAResponse) {
    for (const Packet& malformed :
         {Packet(Bytes()), response().cut(9), response().size(99), response().tag(0x7777),
          response().handle(kObject2).raw(Bytes(4090))}) {
        child.expect(createPrimary(), malformed);
        EXPECT_EQ(a->send(createPrimary()), noAnswer());
    }
    expectUnharmed();
}

TEST_F(Failure, CostsItsOwnCommandAlone) {
    child.expect(getRandom(), response()).receiveFails(TSS2_TCTI_RC_IO_ERROR);
    child.expect(readPublic(kObject0), response().tpm2b());
    a->start(getRandom());
    b->start(readPublic(kObject0));
    EXPECT_EQ(b->finish(), response().tpm2b());
    EXPECT_EQ(a->finish(), noAnswer());
    EXPECT_EQ(child.opens, 2u);
    expectUnharmed();
}

TEST_F(Failure, OfAnyCommandInBetweenIsAResponse) {
    child.expect(probe(TPM2_CC_ReadPublic, {kObject0}), response())
        .transmitFails(TSS2_TCTI_RC_IO_ERROR);
    EXPECT_EQ(a->send(readPublic(kObject2)), noAnswer());
    child.expect(probe(0x20000001), response()).receiveFails(TSS2_TCTI_RC_IO_ERROR);
    EXPECT_EQ(a->send(command(0x20000001)), noAnswer());
    child.expect(probe(0x20000001), acceptable());
    child.expect(getCapability(TPM2_CAP_COMMANDS, 0x20000001, 1), response().cut(5));
    EXPECT_EQ(a->send(command(0x20000001)), noAnswer());
    expectUnharmed();
}

TEST_F(Failure, BehindTheClientsResponseLeavesItAsItIs) {
    child.expect(unseal(kPersistent, {{kHmac0}}), response(0x918));
    child.expect(probe(TPM2_CC_ContextSave, {kObject0}), response())
        .receiveFails(TSS2_TCTI_RC_IO_ERROR);
    EXPECT_EQ(a->send(unseal(kPersistent, {{kHmac0}})), response(0x918));
    // What could not be asked for is asked for after the next command.
    child.expect(getRandom(), response());
    child.expect(probe(TPM2_CC_ContextSave, {kObject0}), acceptable());
    child.expect(probe(TPM2_CC_ContextSave, {kObject1}), acceptable());
    EXPECT_EQ(b->send(getRandom()), response());
    EXPECT_TRUE(owns(*a, kObject0, kObject1));
    EXPECT_TRUE(owns(*b, kObject0, kObject0));
}

/// The TPM saved the session, and nobody has its context: it is as saved as it would be in a TPM of
/// its client's own, and can be flushed; if its client does not, the space does.
TEST_F(Failure, OfASaveThatWasMadeLeavesASessionToFlush) {
    for (const bool flushed : {true, false}) {
        child.expect(startAuthSession(), response().handle(kHmac1));
        EXPECT_EQ(a->send(startAuthSession()), response().handle(kHmac1));
        child.expect(contextSave(kHmac1), response()).receiveFails(TSS2_TCTI_RC_IO_ERROR);
        EXPECT_EQ(a->send(contextSave(kHmac1)), noAnswer());
        child.expect(contextSave(kHmac1), response(TPM2_RC_REFERENCE_H0));
        child.serve([](const Packet&) { return response(0x9A); });  // the others are there
        EXPECT_EQ(a->send(contextSave(kHmac1)), response(TPM2_RC_REFERENCE_H0));
        if (flushed) {
            child.expect(flushContext(kHmac1), response());
            EXPECT_EQ(a->send(flushContext(kHmac1)), response());
        }
    }
    const size_t before = child.commands.size();
    child.acceptFlushes();
    a->space.close();
    const auto begin = child.commands.begin() + static_cast<ptrdiff_t>(before);
    EXPECT_EQ(std::count(begin, child.commands.end(), flushContext(kHmac1)), 1);
}

/// The first attempt was not made; the second one was, and its client has the context.
TEST_F(Failure, OfASaveThatWasRepeatedLeavesTheSessionToItsClient) {
    child.expect(startAuthSession(), response().handle(kHmac1));
    EXPECT_EQ(a->send(startAuthSession()), response().handle(kHmac1));
    child.expect(contextSave(kHmac1), response()).transmitFails(TSS2_TCTI_RC_IO_ERROR);
    EXPECT_EQ(a->send(contextSave(kHmac1)), noAnswer());
    child.expect(contextSave(kHmac1), response());
    EXPECT_EQ(a->send(contextSave(kHmac1)), response());
    child.acceptFlushes();
    a->space.close();
    EXPECT_EQ(std::count(child.commands.begin(), child.commands.end(), flushContext(kHmac1)), 0);
}

/// The TPM loaded the session, and its client does not know: it is found to be there, and flushed.
TEST_F(Failure, OfALoadThatWasMadeLeavesASessionToFlush) {
    for (const bool repeated : {true, false}) {
        session(*a, kHmac1);
        const Packet context =
            command(TPM2_CC_ContextLoad).u64(4).u32(kHmac1).u32(TPM2_RH_NULL).tpm2b();
        pass(*a, contextSave(kHmac1), response().u64(4).u32(kHmac1).u32(TPM2_RH_NULL).tpm2b());
        child.expect(context, response()).receiveFails(TSS2_TCTI_RC_IO_ERROR);
        EXPECT_EQ(a->send(context), noAnswer());
        if (repeated) {
            pass(*a, context, response(TPM2_RC_HANDLE + TPM2_RC_P + TPM2_RC_1));
            EXPECT_TRUE(owns(*a, kHmac1, kHmac1));
            pass(*a, flushContext(kHmac1));
        }
    }
    child.acceptFlushes();
    a->space.close();
    EXPECT_EQ(std::count(child.commands.begin(), child.commands.end(), flushContext(kHmac1)), 2);
}

TEST_F(Failure, OfALocalityCostsNothingElse) {
    child.localityCode = TSS2_TCTI_RC_NOT_IMPLEMENTED;
    child.expect(getRandom(), response());
    a->start(getRandom());
    EXPECT_EQ(b->space.setLocality(3), TSS2_RC_SUCCESS) << "the child is not free to be asked";
    EXPECT_EQ(a->finish(), response());
    EXPECT_EQ(b->send(getRandom()), noAnswer());
    EXPECT_EQ(child.closes, 0u);
}

// ---- Waiting and cancelling

TEST_F(Failure, NoneButTheResponseIsNotThereYet) {
    child.expect(getRandom(), response().u8(1)).tryAgain(3);
    a->start(getRandom());
    for (int i = 0; i < 3; ++i) EXPECT_FALSE(a->space.wait(kNone));
    EXPECT_TRUE(a->space.wait(kNone));
    EXPECT_EQ(a->response(), response().u8(1));
    EXPECT_TRUE(a->space.wait(kNone)) << "it stays there";
    EXPECT_EQ(a->response(), response().u8(1));
}

TEST_F(Failure, NoneWhenSpacesAreInterleaved) {
    child.expect(readPublic(kObject1), response().u8(1));
    child.expect(readPublic(kObject0), response().u8(2));
    a->start(readPublic(kObject0));
    b->start(readPublic(kObject0));
    EXPECT_EQ(b->finish(), response().u8(2));
    EXPECT_EQ(a->finish(), response().u8(1));
}

TEST_F(Failure, CanceledInLineNothingWasSent) {
    child.expect(getRandom(), response());
    b->start(getRandom());
    a->start(createPrimary());
    EXPECT_EQ(a->space.cancel(), TSS2_RC_SUCCESS);
    EXPECT_EQ(a->finish(), response(0x909));
    EXPECT_EQ(b->finish(), response());
    EXPECT_EQ(child.cancels, 0u);
    EXPECT_EQ(a->space.cancel(), TSS2_RC_SUCCESS) << "nothing to cancel";
    expectUnharmed();
}

TEST_F(Failure, CanceledWhileRunningTheResponseCounts) {
    child.expect(createPrimary(), response(0x909));
    a->start(createPrimary());
    EXPECT_EQ(a->space.cancel(), TSS2_RC_SUCCESS);
    EXPECT_EQ(a->finish(), response(0x909));
    child.expect(createPrimary(), response().handle(kObject2));
    a->start(createPrimary());
    EXPECT_EQ(a->space.cancel(), TSS2_RC_SUCCESS);
    EXPECT_EQ(a->finish(), response().handle(kObject1)) << "too late to cancel: it was made";
    EXPECT_EQ(child.cancels, 2u);
    EXPECT_TRUE(owns(*a, kObject1, kObject2));
}

// ---- Localities

TEST_F(Failure, NoneAndEachSpaceHasItsLocality) {
    EXPECT_EQ(a->space.setLocality(3), TSS2_RC_SUCCESS);
    child.expect(getRandom(), response()).atLocality(0);
    b->send(getRandom());
    child.expect(getRandom(), response()).atLocality(3);
    a->send(getRandom());
    child.localityCode = TSS2_TCTI_RC_BAD_VALUE;
    EXPECT_EQ(a->space.setLocality(9), TSS2_TCTI_RC_BAD_VALUE);
    child.localityCode = TSS2_RC_SUCCESS;
    child.expect(getRandom(), response()).atLocality(3);
    a->send(getRandom());
}

}  // namespace
}  // namespace spaces::test
