// SPDX-License-Identifier: BSD-2-Clause
// Unit test of space/space: what happens when a space closes.
// Always holds: what a closing space sends is expected command by command, so one too many or one
// too few fails.
#include "unit/space_test.h"

namespace spaces::test {
namespace {

class Close : public SpaceTest {
  protected:
    void expectFlush(TPM2_HANDLE physical, TPM2_RC answer = TPM2_RC_SUCCESS) {
        child.expect(flushContext(physical), response(answer));
    }
};

TEST_F(Close, OfAnEmptySpaceSendsNothing) {
    a->space.close();
    EXPECT_TRUE(child.commands.empty());
    EXPECT_EQ(child.opens, 0u);
}

TEST_F(Close, FlushesWhatIsLeftOnceEach) {
    object(*b, kObject0);
    object(*a, kObject1);
    object(*a, kObject2);
    session(*a, kHmac0);
    session(*b, kPolicy1);
    session(*a, kPolicy2);
    for (const TPM2_HANDLE left : {kObject1, kObject2, kHmac0, kPolicy2}) expectFlush(left);
    a->space.close();
    EXPECT_TRUE(child.done());
    a->space.close();  // a second time there is nothing to do
    a.reset();
    EXPECT_TRUE(owns(*b, kObject0, kObject0));
    EXPECT_TRUE(owns(*b, kPolicy1, kPolicy1));
    EXPECT_EQ(ownership.sessions().size(), 1u);
}

TEST_F(Close, IsDoneByTheDestructor) {
    object(*a, kObject0);
    expectFlush(kObject0);
    a.reset();
    EXPECT_TRUE(child.done());
}

TEST_F(Close, LeavesSessionsThatTheClientSaved) {
    session(*a, kHmac0);
    session(*a, kHmac1);
    pass(*a, contextSave(kHmac0));
    expectFlush(kHmac1);
    a->space.close();
    EXPECT_TRUE(child.done());
    EXPECT_TRUE(ownership.sessions().empty()) << "nobody's until it is loaded";
    pass(*b, contextLoad(kHmac0, TPM2_RH_NULL), response().handle(kHmac0));
    EXPECT_TRUE(owns(*b, kHmac0, kHmac0));
}

/// Nobody can ever load it: the only copy of its context is what the client did not fetch.
TEST_F(Close, FlushesASavedSessionWhoseContextTheClientNeverGot) {
    session(*a, kHmac0);
    child.expect(contextSave(kHmac0), response().u64(4).u32(kHmac0).u32(TPM2_RH_NULL).tpm2b());
    a->start(contextSave(kHmac0));
    expectFlush(kHmac0);
    a->space.close();
    EXPECT_TRUE(child.done());
}

TEST_F(Close, LeavesWhatBecameAnothers) {
    child.serve([](const Packet&) { return acceptable(); });  // the rest is there, when asked for
    object(*a, kObject0);
    session(*a, kHmac0);
    object(*b, kObject0);
    session(*b, kPolicy1);
    session(*b, kHmac0);
    a->space.close();
    EXPECT_TRUE(owns(*b, kObject0, kObject0));
}

TEST_F(Close, LeavesWhatIsGone) {
    object(*a, kObject0);
    session(*a, kHmac0);
    pass(*a, unseal(kPersistent, {{kHmac0, 0}}));
    pass(*a, flushContext(kObject0));
    const size_t before = child.commands.size();
    a->space.close();
    EXPECT_EQ(child.commands.size(), before);
}

TEST_F(Close, TakesTheResponseThatIsStillOwed) {
    child.expect(createPrimary(), response().handle(kObject0)).tryAgain(3);
    a->start(createPrimary());
    EXPECT_FALSE(a->space.wait(kNone));
    expectFlush(kObject0);
    a->space.close();
    EXPECT_TRUE(child.done());
    child.expect(startAuthSession(), response().handle(kHmac0));
    b->start(startAuthSession());
    expectFlush(kHmac0);
    b->space.close();
    EXPECT_TRUE(child.done());
}

TEST_F(Close, TakesBackACommandThatIsStillInLine) {
    child.expect(getRandom(), response());
    b->start(getRandom());
    a->start(createPrimary());
    a->space.close();
    EXPECT_EQ(b->finish(), response());
    EXPECT_EQ(child.commands.size(), 1u);
}

TEST_F(Close, TakesABusyTpmsTime) {
    object(*a, kObject0);
    object(*a, kObject1);
    for (const TPM2_RC busy : {0x922u, 0x90Au, 0x908u}) expectFlush(kObject0, busy);
    expectFlush(kObject0);
    for (const TPM2_RC busy : {0x922u, 0x90Au, 0x908u}) expectFlush(kObject1, busy);
    expectFlush(kObject1);
    a->space.close();
    EXPECT_TRUE(child.done());
}

/// Whatever a warning is about, it is about now.
TEST_F(Close, TakesNoWarningForFinal) {
    object(*a, kObject0);
    session(*a, kHmac0);
    for (const TPM2_RC warning : {0x902u, 0x909u, 0x920u, 0x921u}) expectFlush(kObject0, warning);
    expectFlush(kObject0);
    expectFlush(kHmac0, 0x923u);
    expectFlush(kHmac0);
    a->space.close();
    EXPECT_TRUE(child.done());
}

TEST_F(Close, EndsThoughTheTpmStaysBusy) {
    object(*a, kObject0);
    session(*a, kHmac0);
    object(*b, kObject1);
    child.serve([](const Packet&) { return response(TPM2_RC_RETRY); });
    const size_t before = child.commands.size();
    a->space.close();
    EXPECT_LE(child.commands.size() - before, 2 * 10u);
    EXPECT_GE(child.commands.size() - before, 2 * 2u) << "a busy TPM is asked more than once";
    EXPECT_TRUE(owns(*b, kObject0, kObject1));
}

TEST_F(Close, GoesOnAfterWhatCannotBeFlushed) {
    object(*a, kObject0);
    object(*a, kObject1);
    expectFlush(kObject0, 0x1CB);
    expectFlush(kObject1);
    a->space.close();
    EXPECT_TRUE(child.done());
}

/// The connection was broken before, and nobody knew.
TEST_F(Close, TriesAgainOverANewConnection) {
    object(*a, kObject0);
    object(*a, kObject1);
    child.expect(flushContext(kObject0), response()).transmitFails(TSS2_TCTI_RC_IO_ERROR);
    expectFlush(kObject0);
    expectFlush(kObject1);
    a->space.close();
    EXPECT_TRUE(child.done());
    EXPECT_EQ(child.opens, 2u);
}

/// It may show before anything was sent.
TEST_F(Close, TriesAgainWhenTheLocalityCannotBeSet) {
    object(*a, kObject0);
    EXPECT_EQ(a->space.setLocality(3), TSS2_RC_SUCCESS);
    pass(*b, getRandom());
    child.localityCode = TSS2_TCTI_RC_IO_ERROR;
    child.whileOpening = [this] { child.localityCode = TSS2_RC_SUCCESS; };
    expectFlush(kObject0);
    a->space.close();
    EXPECT_TRUE(child.done());
    EXPECT_EQ(child.opens, 2u);
    child.whileOpening = nullptr;
}

TEST_F(Close, GivesUpWhenTheChildFailsAgain) {
    object(*a, kObject0);
    object(*a, kObject1);
    object(*b, kObject2);
    for (int i = 0; i < 2; ++i)
        child.expect(flushContext(kObject0), response()).transmitFails(TSS2_TCTI_RC_IO_ERROR);
    testing::internal::CaptureStderr();
    a->space.close();
    const std::string log = testing::internal::GetCapturedStderr();
    EXPECT_NE(log.find("could not be emptied"), std::string::npos) << log;
    EXPECT_TRUE(owns(*b, kObject0, kObject2)) << "the others go on over a new connection";
    EXPECT_EQ(child.opens, 3u);
}

TEST_F(Close, CountsWhatWasDone) {
    object(*a, kObject0);
    object(*a, kObject1);
    pass(*a, flushContext(kObject0));
    session(*a, kHmac0);
    child.expect(probe(TPM2_CC_ReadPublic, {kObject0}), acceptable());
    a->send(readPublic(kObject2));
    expectFlush(kObject1);
    expectFlush(kHmac0);
    a->space.close();
    const space::Statistics& done = a->space.statistics();
    EXPECT_EQ(done.clientCommands, 5u);
    EXPECT_EQ(done.traffic.commands, 7u);
    EXPECT_EQ(done.traffic.flushes, 2u) << "at close";
    EXPECT_EQ(done.traffic.saves + done.traffic.loads, 0u);
    EXPECT_EQ(done.mostObjects, 2u);
    EXPECT_EQ(done.mostSessions, 1u);
}

}  // namespace
}  // namespace spaces::test
