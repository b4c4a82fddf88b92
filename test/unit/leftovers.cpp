// SPDX-License-Identifier: BSD-2-Clause
// Unit test of tpm/leftovers, as spaces without and with swapping use it: what is flushed when the
// TPM has no slot left.
// Always holds: what a space of this process owns is never flushed for another; without
// leftovers=flush nothing is looked for.
#include "config.h"
#include "unit/space_test.h"
#if SPACES_SWAPPING
#include "swap/swap.h"
#endif

namespace spaces::test {
namespace {

const Packet kObjectsAsked = getCapability(TPM2_CAP_HANDLES, TPM2_TRANSIENT_FIRST, 64);
const Packet kSessionsAsked = getCapability(TPM2_CAP_HANDLES, TPM2_LOADED_SESSION_FIRST, 64);

class Leftovers : public SpaceTest {
  protected:
    Leftovers() {
        flushing = std::make_unique<space::Ownership>(tpm::Leftovers::Policy::Flush);
        a = std::make_unique<Client>(broker, *flushing);
        b = std::make_unique<Client>(broker, *flushing);
        object(*b, kObject0);
        session(*b, kHmac0);
    }
    void TearDown() override {
        SpaceTest::TearDown();
        flushing.reset();
    }

    std::unique_ptr<space::Ownership> flushing;
};

TEST_F(Leftovers, OfObjectsGoAndThoseOfSpacesStay) {
    child.expect(createPrimary(), response(TPM2_RC_OBJECT_MEMORY));
    child.expect(kObjectsAsked, handleList({kObject0, kObject1, kObject2}));
    child.expect(flushContext(kObject1), response());
    child.expect(flushContext(kObject2), response());
    child.expect(createPrimary(), response().handle(kObject1));
    EXPECT_EQ(a->send(createPrimary()), response().handle(kObject0));
    EXPECT_TRUE(owns(*b, kObject0, kObject0));
}

TEST_F(Leftovers, OfSessionsGoAndThoseOfSpacesStay) {
    child.expect(startAuthSession(), response(TPM2_RC_SESSION_MEMORY));
    child.expect(kSessionsAsked, handleList({kHmac0, kPolicy1}));
    child.expect(flushContext(kPolicy1), response());
    child.expect(startAuthSession(), response().handle(kHmac1));
    EXPECT_EQ(a->send(startAuthSession()), response().handle(kHmac1));
    EXPECT_TRUE(owns(*b, kHmac0, kHmac0));
}

TEST_F(Leftovers, NoneAndTheTpmsRefusalStands) {
    child.expect(createPrimary(), response(TPM2_RC_OBJECT_MEMORY));
    child.expect(kObjectsAsked, handleList({kObject0}));
    EXPECT_EQ(a->send(createPrimary()), response(TPM2_RC_OBJECT_MEMORY));
}

TEST_F(Leftovers, AreLookedForOnceForACommand) {
    child.expect(createPrimary(), response(TPM2_RC_OBJECT_MEMORY));
    child.expect(kObjectsAsked, handleList({kObject0, kObject1}));
    child.expect(flushContext(kObject1), response());
    child.expect(createPrimary(), response(TPM2_RC_OBJECT_MEMORY));
    EXPECT_EQ(a->send(createPrimary()), response(TPM2_RC_OBJECT_MEMORY));
}

TEST_F(SpaceTest, LeftoversAreKeptUnlessTheUserSaysOtherwise) {
    pass(*a, createPrimary(), response(TPM2_RC_OBJECT_MEMORY));
    pass(*a, startAuthSession(), response(TPM2_RC_SESSION_MEMORY));
}

#if SPACES_SWAPPING
/// The space has an object and a session, and a command needs both and one more slot.
class LeftoversSwapping : public SpaceTest {
  protected:
    LeftoversSwapping() {
        swapping = std::make_unique<Client>(swap, ownershipOfSwapping);
        object(*swapping, kObject0);
        session(*swapping, kHmac0);
    }
    void TearDown() override {
        EXPECT_TRUE(child.done());
        child.acceptFlushes();
        swapping.reset();
        SpaceTest::TearDown();
    }

    swap::Swap swap{broker, {.leftovers = tpm::Leftovers::Policy::Flush}};
    space::Ownership ownershipOfSwapping;
    std::unique_ptr<Client> swapping;
};

TEST_F(LeftoversSwapping, OfObjectsGoAndThoseOfSpacesStay) {
    child.expect(load(kObject0), response(TPM2_RC_OBJECT_MEMORY));
    child.expect(kObjectsAsked, handleList({kObject0, kObject1}));
    child.expect(flushContext(kObject1), response());
    child.expect(load(kObject0), response().handle(kObject1));
    EXPECT_EQ(swapping->send(load(kObject0)), response().handle(kObject1));
}

TEST_F(LeftoversSwapping, OfSessionsGoAndThoseOfSpacesStay) {
    const Packet start = command(TPM2_CC_StartAuthSession)
                             .handle(TPM2_RH_NULL)
                             .handle(TPM2_RH_NULL)
                             .auth({{kHmac0}});
    child.expect(start, response(TPM2_RC_SESSION_MEMORY));
    child.expect(kSessionsAsked, handleList({kHmac0, kPolicy1}));
    child.expect(flushContext(kPolicy1), response());
    child.expect(start, response().handle(kHmac1));
    EXPECT_EQ(swapping->send(start), response().handle(kHmac1));
}

TEST_F(LeftoversSwapping, WhereTheChildFailsTheTpmsRefusalStands) {
    child.expect(load(kObject0), response(TPM2_RC_OBJECT_MEMORY));
    child.expect(kObjectsAsked, response()).receiveFails(TSS2_TCTI_RC_IO_ERROR);
    EXPECT_EQ(swapping->send(load(kObject0)), response(TPM2_RC_OBJECT_MEMORY));
    child.expect(load(kObject0), response().handle(kObject1));
    EXPECT_EQ(swapping->send(load(kObject0)), response().handle(kObject1));
}
#endif

}  // namespace
}  // namespace spaces::test
