// SPDX-License-Identifier: BSD-2-Clause
// Unit test of a space: leftovers=flush, and what goes wrong in the middle of it.
// Always holds: there is one look for each command; whatever refuses, the client is told what its
// own command was answered; what is ours is never flushed.
#include "unit/space_test.h"

namespace spaces::test {
namespace {

constexpr uint32_t kMost = 64;

class LeftoversTest : public testing::Test {
  protected:
    LeftoversTest() {
        child.expect(createPrimary(), response().handle(kObject1).tpm2b());
        a.send(createPrimary());
    }
    ~LeftoversTest() override {
        EXPECT_TRUE(child.done());
        child.acceptFlushes();
    }

    /// A command that is refused, and the look that follows; ours is between what is not.
    void expectLook() {
        child.expect(createPrimary(), response(TPM2_RC_OBJECT_MEMORY));
        child.expect(getCapability(TPM2_CAP_HANDLES, kObject0, kMost),
                     handleList({kObject0, kObject1, kObject2}));
    }
    Packet send() { return a.send(createPrimary()); }

    FakeChild child{"fake"};
    tpm::Broker broker{"fake"};
    space::Ownership ownership{tpm::Leftovers::Policy::Flush};
    Client a{broker, ownership};
};

TEST_F(LeftoversTest, AreFlushedAndTheCommandIsSentAgain) {
    expectLook();
    child.expect(flushContext(kObject0), response());
    child.expect(flushContext(kObject2), response());
    child.expect(createPrimary(), response().handle(kObject2).tpm2b());
    EXPECT_EQ(send(), response().handle(kObject1).tpm2b());
}

TEST_F(LeftoversTest, OneThatCannotBeFlushedDoesNotKeepTheOthers) {
    expectLook();
    child.expect(flushContext(kObject0), response(0x1CB));
    child.expect(flushContext(kObject2), response());
    child.expect(createPrimary(), response().handle(kObject2).tpm2b());
    EXPECT_EQ(send(), response().handle(kObject1).tpm2b());
}

TEST_F(LeftoversTest, WhereNoneCanBeFlushedTheTpmIsFull) {
    expectLook();
    child.expect(flushContext(kObject0), response(0x1CB));
    child.expect(flushContext(kObject2), response(TPM2_RC_RETRY));
    EXPECT_EQ(send(), response(TPM2_RC_OBJECT_MEMORY));
}

TEST_F(LeftoversTest, WhereTheTpmDoesNotSayTheTpmIsFull) {
    child.expect(createPrimary(), response(TPM2_RC_OBJECT_MEMORY));
    child.expect(getCapability(TPM2_CAP_HANDLES, kObject0, kMost), response(TPM2_RC_FAILURE));
    EXPECT_EQ(send(), response(TPM2_RC_OBJECT_MEMORY));
}

TEST_F(LeftoversTest, AreLookedForOnceForACommand) {
    for (int i = 0; i < 2; ++i) {
        expectLook();
        child.expect(flushContext(kObject0), response());
        child.expect(flushContext(kObject2), response());
        child.expect(createPrimary(), response(TPM2_RC_OBJECT_MEMORY));
        EXPECT_EQ(send(), response(TPM2_RC_OBJECT_MEMORY));
    }
}

TEST_F(LeftoversTest, AreNotLookedForAfterAnotherRefusal) {
    for (const TPM2_RC code : {TPM2_RC_MEMORY, TPM2_RC_SESSION_HANDLES, TPM2_RC_RETRY}) {
        child.expect(createPrimary(), response(code));
        EXPECT_EQ(send(), response(code));
    }
}

TEST_F(LeftoversTest, WhereTheChildFailsTheTpmIsFullAndTheNextCommandLooksAgain) {
    expectLook();
    child.expect(flushContext(kObject0), response()).receiveFails(TSS2_TCTI_RC_IO_ERROR);
    EXPECT_EQ(send(), response(TPM2_RC_OBJECT_MEMORY));
    expectLook();
    child.expect(flushContext(kObject0), response());
    child.expect(flushContext(kObject2), response());
    child.expect(createPrimary(), response().handle(kObject2).tpm2b());
    EXPECT_EQ(send(), response().handle(kObject1).tpm2b());
}

TEST_F(LeftoversTest, ManyAreFlushed) {
    std::vector<TPM2_HANDLE> all;
    for (uint32_t i = 0; i < kMost; ++i) all.push_back(kObject0 + i);
    child.expect(createPrimary(), response(TPM2_RC_OBJECT_MEMORY));
    child.expect(getCapability(TPM2_CAP_HANDLES, kObject0, kMost), handleList(all, true));
    for (const TPM2_HANDLE each : all)
        if (each != kObject1) child.expect(flushContext(each), response());
    child.expect(createPrimary(), response().handle(kObject2).tpm2b());
    EXPECT_EQ(send(), response().handle(kObject1).tpm2b());
}

}  // namespace
}  // namespace spaces::test
