// SPDX-License-Identifier: BSD-2-Clause
// Unit test of space/ownership: two spaces' holdings over one record.
// Always holds: handles are reserved before they are adopted, as the interface asks for.
#include "space/ownership.h"

#include <gtest/gtest.h>

namespace spaces::space {
namespace {

constexpr TPM2_HANDLE kFirst = 0x80000000;
constexpr TPM2_HANDLE kHmac = 0x02000000, kPolicy = 0x03000000;

class OwnershipTest : public testing::Test {
  protected:
    TPM2_HANDLE object(Holding& owner, TPM2_HANDLE physical, TPM2_HANDLE hierarchy = TPM2_RH_NULL) {
        record.reserveObject(owner);
        return record.adoptObject(owner, physical, hierarchy);
    }
    void session(const Holding& owner, TPM2_HANDLE handle) {
        record.reserveSession();
        record.adoptSession(owner, handle);
    }
    TPM2_HANDLE physical(const Holding& owner, TPM2_HANDLE handle) {
        const Object* found = owner.find(handle);
        return found == nullptr ? 0 : found->physical;
    }
    std::vector<TPM2_HANDLE> sessions() const {
        std::vector<TPM2_HANDLE> handles;
        for (const Session& each : record.sessions()) handles.push_back(each.handle);
        return handles;
    }

    Ownership record;
    Holding a, b;
};

TEST_F(OwnershipTest, GivesEachSpaceHandlesOfItsOwn) {
    EXPECT_EQ(object(a, 0x80000002), kFirst);
    EXPECT_EQ(object(b, 0x80000000), kFirst);
    EXPECT_EQ(object(a, 0x80000001), kFirst + 1);
    EXPECT_EQ(physical(a, kFirst), 0x80000002u);
    EXPECT_EQ(physical(b, kFirst), 0x80000000u);
    EXPECT_EQ(physical(a, kFirst + 1), 0x80000001u);
    record.removeObject(a, kFirst);
    EXPECT_EQ(physical(a, kFirst), 0u);
    EXPECT_EQ(physical(b, kFirst), 0x80000000u);
    record.removeObject(a, kFirst);  // not there any more: nothing happens
    EXPECT_EQ(a.count(), 1u);
}

TEST_F(OwnershipTest, AnObjectMayPassOverFreeHandles) {
    record.reserveObject(a);
    EXPECT_EQ(record.adoptObject(a, 0x80000002, TPM2_RH_NULL, 1), kFirst + 1);
    EXPECT_EQ(object(a, 0x80000000), kFirst);
    EXPECT_EQ(physical(a, kFirst + 1), 0x80000002u);
}

TEST_F(OwnershipTest, AnObjectHandleHasOneOwner) {
    object(a, 0x80000000);
    object(a, 0x80000001);
    EXPECT_EQ(object(b, 0x80000000), kFirst);
    EXPECT_EQ(physical(a, kFirst), 0u) << "the older entry is dead";
    EXPECT_EQ(physical(a, kFirst + 1), 0x80000001u);
    EXPECT_EQ(physical(b, kFirst), 0x80000000u);
}

TEST_F(OwnershipTest, AHandleThatItsOwnSpaceGetsAgainIsANewObject) {
    object(a, 0x80000000);
    object(a, 0x80000001);
    EXPECT_EQ(object(a, 0x80000001), kFirst + 1);
    EXPECT_EQ(a.count(), 2u);
    EXPECT_EQ(object(a, 0x80000000, TPM2_RH_OWNER), kFirst);
    EXPECT_EQ(a.find(kFirst)->hierarchy, TPM2_RH_OWNER);
}

TEST_F(OwnershipTest, SessionsAreKnownByIndex) {
    session(a, kPolicy + 1);
    session(a, kHmac);
    session(b, kHmac + 2);
    EXPECT_EQ(sessions(), (std::vector<TPM2_HANDLE>{kHmac, kPolicy + 1, kHmac + 2}));
    ASSERT_NE(record.findSession(a, kHmac + 1), nullptr);
    EXPECT_EQ(record.findSession(a, kHmac + 1)->handle, kPolicy + 1);
    EXPECT_EQ(record.findSession(a, kHmac + 2), nullptr) << "another's";
    EXPECT_EQ(record.findSession(a, kHmac + 3), nullptr) << "nobody's";
    record.removeSession(kHmac + 1);
    EXPECT_EQ(record.findSession(a, kPolicy + 1), nullptr);
    record.removeSession(kHmac + 1);  // nothing happens
    EXPECT_EQ(record.sessions().size(), 2u);
}

TEST_F(OwnershipTest, ASessionIndexHasOneOwner) {
    session(a, kHmac + 1);
    session(b, kPolicy + 1);
    EXPECT_EQ(record.findSession(a, kHmac + 1), nullptr);
    ASSERT_NE(record.findSession(b, kPolicy + 1), nullptr);
    EXPECT_EQ(sessions(), std::vector<TPM2_HANDLE>{kPolicy + 1});
}

TEST_F(OwnershipTest, CountsSessionsLoadedAndSaved) {
    session(a, kHmac);
    session(a, kPolicy + 1);
    session(b, kHmac + 2);
    record.markSaved(kHmac + 1);
    EXPECT_TRUE(record.findSession(a, kPolicy + 1)->saved);
    EXPECT_EQ(record.countSessions(a, false), 1u);
    EXPECT_EQ(record.countSessions(a, true), 2u);
    EXPECT_EQ(record.countSessions(b, false), 1u);
    record.markSaved(kHmac + 9);  // nobody's: nothing happens
    session(b, kPolicy + 1);      // its context was loaded, by another space
    EXPECT_FALSE(record.findSession(b, kPolicy + 1)->saved);
    EXPECT_EQ(record.countSessions(a, true), 1u);
}

TEST_F(OwnershipTest, LearnsHowManySessionsThereAre) {
    EXPECT_EQ(record.sessionSlots, 64u);
    session(a, kHmac + 63);
    EXPECT_EQ(record.sessionSlots, 64u);
    session(a, kHmac + 99);
    EXPECT_EQ(record.sessionSlots, 100u);
    session(a, kHmac + 0xFFFFFE);
    EXPECT_EQ(record.sessionSlots, 100u) << "no TPM has that many";
}

TEST_F(OwnershipTest, ForgetsASpaceAsAWhole) {
    object(a, 0x80000000);
    object(b, 0x80000001);
    object(a, 0x80000002);
    session(a, kHmac);
    session(b, kHmac + 1);
    session(a, kHmac + 2);
    record.markSaved(kHmac + 2);
    record.forget(a);
    EXPECT_EQ(a.count(), 0u);
    EXPECT_EQ(b.count(), 1u);
    EXPECT_EQ(sessions(), std::vector<TPM2_HANDLE>{kHmac + 1});
}

TEST_F(OwnershipTest, AFlushedHierarchyTakesItsObjectsInAllSpaces) {
    object(a, 0x80000000, TPM2_RH_OWNER);
    object(a, 0x80000001, TPM2_RH_NULL);
    object(b, 0x80000002, TPM2_RH_OWNER);
    object(b, 0x80000003, TPM2_RH_PLATFORM);
    session(a, kHmac);
    record.hierarchyFlushed(TPM2_RH_OWNER);
    EXPECT_EQ(physical(a, kFirst), 0u);
    EXPECT_EQ(physical(a, kFirst + 1), 0x80000001u);
    EXPECT_EQ(physical(b, kFirst), 0u);
    EXPECT_EQ(physical(b, kFirst + 1), 0x80000003u);
    EXPECT_NE(record.findSession(a, kHmac), nullptr);
    EXPECT_EQ(record.nextSuspect(), 0u) << "all hierarchies were known";
}

TEST_F(OwnershipTest, AFlushedHierarchyMakesObjectsOfUnknownOnesSuspect) {
    object(a, 0x80000001, 0);
    object(b, 0x80000002, 0);
    object(a, 0x80000003, TPM2_RH_NULL);
    record.hierarchyFlushed(TPM2_RH_ENDORSEMENT);
    ASSERT_EQ(record.nextSuspect(), 0x80000001u);
    record.resolveSuspect(0x80000001, true);
    ASSERT_EQ(record.nextSuspect(), 0x80000002u);
    record.resolveSuspect(0x80000002, false);
    EXPECT_EQ(record.nextSuspect(), 0u);
    EXPECT_EQ(physical(a, kFirst), 0x80000001u);
    EXPECT_EQ(physical(b, kFirst), 0u);
}

TEST_F(OwnershipTest, WhatIsNoHierarchyHasNoObjects) {
    object(a, 0x80000001, 0);
    record.hierarchyFlushed(0);
    EXPECT_EQ(a.count(), 1u);
    EXPECT_EQ(record.nextSuspect(), 0u);
}

TEST_F(OwnershipTest, WhenSomethingIsMissingEverythingLoadedIsSuspect) {
    object(a, 0x80000000);
    object(b, 0x80000001);
    session(b, kPolicy);
    session(a, kHmac + 1);
    session(a, kHmac + 2);
    record.markSaved(kHmac + 1);
    record.suspectEverything();
    std::vector<TPM2_HANDLE> asked;
    while (const TPM2_HANDLE next = record.nextSuspect()) {
        asked.push_back(next);
        record.resolveSuspect(next, next != 0x80000001 && next != kPolicy);
        ASSERT_LT(asked.size(), 10u);
    }
    EXPECT_EQ(asked, (std::vector<TPM2_HANDLE>{0x80000000, 0x80000001, kPolicy, kHmac + 2}));
    EXPECT_EQ(a.count(), 1u);
    EXPECT_EQ(b.count(), 0u);
    EXPECT_EQ(sessions(), (std::vector<TPM2_HANDLE>{kHmac + 1, kHmac + 2}));
}

TEST_F(OwnershipTest, ASuspectThatIsSavedOrNewIsNoSuspectAnyMore) {
    session(a, kHmac);
    object(a, 0x80000000);
    record.suspectEverything();
    record.markSaved(kHmac);
    object(b, 0x80000000);
    EXPECT_EQ(record.nextSuspect(), 0u);
}

TEST_F(OwnershipTest, ARestartTakesWhatWasLoaded) {
    object(a, 0x80000000);
    session(a, kHmac);
    session(b, kHmac + 1);
    record.markSaved(kHmac + 1);
    record.tpmRestarted(false);
    EXPECT_EQ(a.count(), 0u);
    EXPECT_EQ(sessions(), std::vector<TPM2_HANDLE>{kHmac + 1}) << "its context is good";
    record.tpmRestarted(true);
    EXPECT_TRUE(sessions().empty());
}

TEST_F(OwnershipTest, ANewEpochTakesWhatWasLoaded) {
    object(a, 0x80000000);
    session(b, kHmac);
    session(b, kHmac + 1);
    record.markSaved(kHmac);
    record.enterEpoch(0);
    EXPECT_EQ(a.count(), 1u);
    record.enterEpoch(1);
    EXPECT_EQ(a.count(), 0u);
    EXPECT_EQ(sessions(), std::vector<TPM2_HANDLE>{kHmac}) << "its context is good";
    object(a, 0x80000000);
    record.enterEpoch(1);
    EXPECT_EQ(a.count(), 1u) << "the same epoch still";
    EXPECT_EQ(a.everUsed(), 1u);
}

TEST_F(OwnershipTest, RemembersCommandsItLearned) {
    EXPECT_FALSE(record.findLearned(0x20000001).has_value());
    record.learn(0x20000001, {2, true});
    record.learn(0x20000002, {1});
    ASSERT_TRUE(record.findLearned(0x20000001).has_value());
    EXPECT_EQ(record.findLearned(0x20000001)->handles, 2);
    EXPECT_TRUE(record.findLearned(0x20000001)->responseHandle);
    EXPECT_EQ(record.findLearned(0x20000002)->handles, 1);
    EXPECT_FALSE(record.findLearned(0x20000003).has_value());
}

}  // namespace
}  // namespace spaces::space
