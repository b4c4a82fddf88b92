// SPDX-License-Identifier: BSD-2-Clause
// Unit test of space/space: what a response changes in the record of who owns what.
// Always holds: the record is asked through commands, as a client would.
#include "unit/space_test.h"

namespace spaces::test {
namespace {

Packet presence(TPM2_HANDLE handle) { return probe(TPM2_CC_ContextSave, {handle}); }
Packet noneLoaded() {
    return response().u8(0).u32(TPM2_CAP_TPM_PROPERTIES).u32(1).u32(TPM2_PT_HR_LOADED).u32(0);
}

class State : public SpaceTest {
  protected:
    void send(Client& client, const Packet& command, TPM2_RC answer = TPM2_RC_SUCCESS) {
        pass(client, command, response(answer));
    }
    void expectProbe(TPM2_HANDLE physical, TPM2_RC answer) {
        child.expect(presence(physical), response(answer));
    }
};

// ---- Handles that the TPM gives out

/// What the TPM gives out, it had lost; whatever else is lost is asked for.
TEST_F(State, AnObjectHandleThatIsGivenOutAgainIsANewObject) {
    object(*a, kObject0);
    object(*a, kObject1);
    child.expect(createPrimary(), response().handle(kObject0));
    child.expect(presence(kObject1), acceptable());
    EXPECT_EQ(b->send(createPrimary()), response().handle(kObject0));
    EXPECT_FALSE(owns(*a, kObject0, kObject0)) << "the other's object must not be reached by it";
    EXPECT_TRUE(owns(*a, kObject1, kObject1));
    EXPECT_TRUE(owns(*b, kObject0, kObject0));
}

TEST_F(State, ASessionIndexThatIsGivenOutAgainIsANewSession) {
    session(*a, kHmac0);
    session(*a, kHmac1);
    child.expect(startAuthSession(), response().handle(kPolicy1));
    child.expect(presence(kHmac0), acceptable());
    EXPECT_EQ(b->send(startAuthSession()), response().handle(kPolicy1));
    EXPECT_TRUE(owns(*a, kHmac0, kHmac0));
    EXPECT_FALSE(owns(*a, kHmac1, kHmac1));
    EXPECT_TRUE(owns(*b, kPolicy1, kPolicy1));
}

/// A private TPM that was reset counts from the first number again.
TEST_F(State, ANewObjectsNumberIsGivenAfterWhatItShowsToBeLost) {
    object(*b, kObject0);
    object(*a, kObject1);
    object(*a, kObject2);
    child.expect(createPrimary(), response().handle(kObject0));
    child.expect(presence(kObject1), response(TPM2_RC_REFERENCE_H0));
    child.expect(presence(kObject2), response(TPM2_RC_REFERENCE_H0));
    EXPECT_EQ(a->send(createPrimary()), response().handle(kObject0));
    EXPECT_TRUE(owns(*a, kObject0, kObject0));
    EXPECT_FALSE(owns(*a, kObject0 + 1, kObject2));
}

TEST_F(State, ANewObjectIsThereAlthoughTheRestCannotBeAskedFor) {
    object(*b, kObject0);
    object(*a, kObject1);
    child.expect(createPrimary(), response().handle(kObject0));
    child.expect(presence(kObject1), response()).receiveFails(TSS2_TCTI_RC_IO_ERROR);
    EXPECT_EQ(a->send(createPrimary()), response().handle(kObject1));
    child.expect(readPublic(kObject0), response().tpm2b());
    child.expect(presence(kObject1), acceptable());
    EXPECT_EQ(a->send(readPublic(kObject1)), response().tpm2b());
}

/// Its index is another session's by now, which is not ours to flush.
TEST_F(State, ASessionWhoseIndexHasAnotherTypeIsGone) {
    session(*a, kHmac0);
    object(*a, kObject0);
    child.expect(readPublic(kObject0), response(TPM2_RC_REFERENCE_H0));
    child.expect(presence(kHmac0), response(TPM2_RC_HANDLE + TPM2_RC_1));
    EXPECT_EQ(a->send(readPublic(kObject0)), response(TPM2_RC_REFERENCE_H0));
    EXPECT_FALSE(owns(*a, kHmac0, kHmac0));
}

/// The TPM was reset, and nobody told us.
TEST_F(State, AListThatLacksWhatWasOursTellsOfALoss) {
    object(*a, kObject0);
    session(*a, kHmac0);
    const Packet query = getCapability(TPM2_CAP_HANDLES, kObject0, 10);
    child.expect(query, handleList({}));
    child.expect(presence(kObject0), response(TPM2_RC_REFERENCE_H0));
    child.expect(presence(kHmac0), response(TPM2_RC_REFERENCE_H0));
    EXPECT_EQ(a->send(query), handleList({}));
    session(*a, kHmac0);
    const Packet sessions = getCapability(TPM2_CAP_HANDLES, TPM2_LOADED_SESSION_FIRST, 10);
    child.expect(sessions, handleList({kHmac1}));
    child.expect(presence(kHmac0), acceptable());
    EXPECT_EQ(a->send(sessions), handleList({kHmac0})) << "the TPM's word on it counts";
    const Packet count = getCapability(TPM2_CAP_TPM_PROPERTIES, TPM2_PT_HR_LOADED, 1);
    child.expect(count, noneLoaded());
    child.expect(presence(kHmac0), response(TPM2_RC_REFERENCE_H0));
    EXPECT_EQ(a->send(count), noneLoaded());
}

TEST_F(State, AFreeHandleIsUsedAgain) {
    for (const TPM2_HANDLE physical : {kObject0, kObject1, kObject2}) object(*a, physical);
    exchange(*a, flushContext(kObject1), flushContext(kObject1));
    EXPECT_EQ(object(*a, 0x80000007), kObject1);
    EXPECT_TRUE(owns(*a, kObject1, 0x80000007));
}

TEST_F(State, EveryCommandWithAResponseHandleMakesSomething) {
    object(*b, kObject0);
    object(*a, kObject1);
    TPM2_HANDLE physical = kObject2;
    const auto make = [&](const Packet& command, const Packet& sent) {
        const TPM2_HANDLE expected = physical - 1;
        EXPECT_EQ(exchange(*a, command, sent, response().handle(physical)),
                  response().handle(expected));
        EXPECT_TRUE(owns(*a, expected, physical++));
    };
    for (const TPM2_CC code : {TPM2_CC_Load, TPM2_CC_CreateLoaded, TPM2_CC_HMAC_Start})
        make(load(kObject0).code(code), load(kObject1).code(code));
    for (const Packet& command :
         {contextLoad(kObject0, TPM2_RH_NULL),
          command(TPM2_CC_HashSequenceStart).tpm2b().u16(TPM2_ALG_SHA256),
          command(TPM2_CC_LoadExternal).tpm2b().tpm2b(Bytes(9)).u32(TPM2_RH_NULL)})
        make(command, command);
}

/// As a TPM of its own counts, which has loaded the persistent object into its lowest free slot.
TEST_F(State, AnObjectIsNumberedBesideTheCommandsPersistentOnes) {
    const auto make = [this](const Packet& command, TPM2_HANDLE physical) {
        return exchange(*a, command, command, response().handle(physical));
    };
    EXPECT_EQ(make(load(kPersistent), kObject0), response().handle(kObject1));
    EXPECT_EQ(make(createPrimary(), kObject1), response().handle(kObject0));
    EXPECT_EQ(make(load(kPersistent), kObject2), response().handle(kObject3));
    EXPECT_TRUE(owns(*a, kObject1, kObject0));
    EXPECT_TRUE(owns(*a, kObject0, kObject1));
    EXPECT_TRUE(owns(*a, kObject3, kObject2));
    EXPECT_FALSE(owns(*a, kObject2, kObject3));
}

TEST_F(State, AFailedCommandMakesNothing) {
    send(*a, createPrimary(), 0x902);
    send(*a, startAuthSession(), 0x903);
    send(*a, createPrimary(), 0x99A);
    EXPECT_TRUE(ownership.sessions().empty());
    EXPECT_EQ(object(*a, kObject0), kObject0);
}

TEST_F(State, ASuccessWithoutAHandleMakesNothing) {
    pass(*a, createPrimary(), response().raw({0x80, 0, 0}));
    EXPECT_EQ(object(*a, kObject0), kObject0);
}

// ---- Sessions that end

TEST_F(State, ASessionEndsWithSuccessUnlessItIsContinued) {
    session(*a, kHmac0);
    session(*a, kHmac1);
    session(*a, kPolicy2);
    send(*a, unseal(kPersistent, {{kHmac0, 0}, {kHmac1, 1}, {kPolicy2, TPMA_SESSION_ENCRYPT}}));
    EXPECT_FALSE(owns(*a, kHmac0, kHmac0));
    EXPECT_TRUE(owns(*a, kHmac1, kHmac1));
    EXPECT_FALSE(owns(*a, kPolicy2, kPolicy2));
}

TEST_F(State, ASessionSurvivesAFailure) {
    session(*a, kHmac0);
    for (const TPM2_RC code : {0x9A2u, 0x902u, 0x12Fu, 0x922u})
        send(*a, unseal(kPersistent, {{kHmac0, 0}}), code);
    EXPECT_TRUE(owns(*a, kHmac0, kHmac0));
}

TEST_F(State, TheIndexOfAnEndedSessionIsWhosesItIsGivenTo) {
    session(*a, kHmac0);
    send(*a, unseal(kPersistent, {{kHmac0, 0}}));
    session(*b, kHmac0);
    EXPECT_FALSE(owns(*a, kHmac0, kHmac0));
    EXPECT_TRUE(owns(*b, kHmac0, kHmac0));
}

// ---- Sequences

TEST_F(State, SequencesEndWithTheirCompletion) {
    object(*b, kObject0);
    object(*a, kObject1);
    object(*a, kObject2);
    const auto complete = [](TPM2_HANDLE handle) {
        return command(TPM2_CC_SequenceComplete).handle(handle).auth({password()}).tpm2b();
    };
    const auto event = [](TPM2_HANDLE pcr, TPM2_HANDLE handle) {
        const auto both = {password(), password()};
        return command(TPM2_CC_EventSequenceComplete).handle(pcr).handle(handle).auth(both);
    };
    EXPECT_EQ(exchange(*a, complete(kObject0), complete(kObject1), response(0x9A2)),
              response(0x9A2));
    EXPECT_TRUE(owns(*a, kObject0, kObject1));
    EXPECT_EQ(exchange(*a, complete(kObject0), complete(kObject1)), response());
    EXPECT_FALSE(owns(*a, kObject0, kObject1));
    EXPECT_EQ(exchange(*a, event(16, kObject1), event(16, kObject2), response(0x289)),
              response(0x289));
    EXPECT_TRUE(owns(*a, kObject1, kObject2));
    EXPECT_EQ(exchange(*a, event(16, kObject1), event(16, kObject2)), response());
    EXPECT_FALSE(owns(*a, kObject1, kObject2));
}

// ---- Contexts that the client keeps

TEST_F(State, ASavedSessionIsItsOwnersAndNotLoaded) {
    session(*a, kPolicy1);
    send(*a, contextSave(kPolicy1));
    EXPECT_FALSE(owns(*a, kPolicy1, kPolicy1));
    const Packet query = getCapability(TPM2_CAP_HANDLES, 0x03000000, 9);
    EXPECT_EQ(exchange(*a, query, query, handleList({kHmac1})), handleList({kHmac1}));
    EXPECT_EQ(exchange(*b, query, query, handleList({kHmac1})), handleList({}));
    EXPECT_EQ(exchange(*b, flushContext(kPolicy1), flushContext(kPoisonPolicy), response(0x1C4)),
              response(0x1CB));
    send(*a, flushContext(kHmac1));
    EXPECT_TRUE(ownership.sessions().empty());
}

TEST_F(State, ASavedSessionMovesToWhoeverLoadsIt) {
    session(*a, kPolicy1);
    send(*a, contextSave(kPolicy1));
    const Packet loading = contextLoad(kPolicy1, TPM2_RH_NULL);
    send(*b, loading, 0x1DF);
    EXPECT_FALSE(owns(*b, kPolicy1, kPolicy1));
    pass(*b, loading, response().handle(kPolicy1));
    EXPECT_TRUE(owns(*b, kPolicy1, kPolicy1));
    EXPECT_FALSE(owns(*a, kPolicy1, kPolicy1));
}

TEST_F(State, SavingAnObjectLeavesItLoaded) {
    object(*b, kObject0);
    object(*a, kObject1);
    exchange(*a, contextSave(kObject0), contextSave(kObject1));
    EXPECT_TRUE(owns(*a, kObject0, kObject1));
}

// ---- Hierarchies

TEST_F(State, HierarchiesThatAreFlushedTakeTheirObjectsInAllSpaces) {
    const auto fill = [this] {
        TPM2_HANDLE physical = kObject0;
        for (Client* client : {a.get(), b.get()})
            for (const TPM2_HANDLE hierarchy :
                 {TPM2_RH_OWNER, TPM2_RH_ENDORSEMENT, TPM2_RH_PLATFORM, TPM2_RH_NULL})
                object(*client, physical++, hierarchy);
    };
    const auto left = [this](std::vector<int> expected) {
        for (Client* client : {a.get(), b.get()})
            for (const TPM2_HANDLE which : {0, 1, 2, 3}) {
                const bool there = std::count(expected.begin(), expected.end(), which) > 0;
                EXPECT_EQ(
                    owns(*client, kObject0 + which, kObject0 + which + (client == b.get() ? 4 : 0)),
                    there)
                    << which;
            }
        ownership.tpmRestarted(true);
    };
    const auto platform = [](TPM2_CC code) {
        return command(code).handle(TPM2_RH_PLATFORM).auth({password()});
    };
    fill();
    send(*a, clear(), 0x120);
    left({0, 1, 2, 3});
    fill();
    send(*a, clear());
    left({2, 3});
    fill();
    send(*b, platform(TPM2_CC_ChangePPS));
    left({0, 1, 3});
    fill();
    send(*b, platform(TPM2_CC_ChangeEPS));
    left({0, 2, 3});
    fill();
    send(*a, hierarchyControl(TPM2_RH_OWNER, false));
    left({1, 2, 3});
    fill();
    send(*a, hierarchyControl(TPM2_RH_OWNER, true));
    left({0, 1, 2, 3});
    fill();
    send(*a, hierarchyControl(TPM2_RH_PLATFORM, false));
    left({0, 1, 3});
    fill();
    send(*a, hierarchyControl(TPM2_RH_ENDORSEMENT, false), 0x9A2);
    left({0, 1, 2, 3});
}

TEST_F(State, SessionsAndSequencesSurviveAClear) {
    session(*a, kHmac0);
    const Packet start = command(TPM2_CC_HashSequenceStart).tpm2b().u16(TPM2_ALG_SHA256);
    pass(*a, start, response().handle(kObject0));
    send(*b, clear());
    EXPECT_TRUE(owns(*a, kHmac0, kHmac0));
    EXPECT_TRUE(owns(*a, kObject0, kObject0));
}

TEST_F(State, AnExternalObjectGoesWithTheHierarchyItSays) {
    const Packet external =
        command(TPM2_CC_LoadExternal).tpm2b().tpm2b(Bytes(9)).u32(TPM2_RH_OWNER);
    pass(*a, external, response().handle(kObject0));
    send(*b, clear());
    EXPECT_FALSE(owns(*a, kObject0, kObject0));
}

TEST_F(State, AnObjectOfAnUnknownHierarchyIsAskedFor) {
    for (const auto& [client, physical] : {std::pair{a.get(), kObject0}, {b.get(), kObject1}})
        EXPECT_EQ(
            exchange(*client, load(kPersistent), load(kPersistent), response().handle(physical)),
            response().handle(kObject1));
    child.expect(clear(), response());
    expectProbe(kObject0, 0x910);
    expectProbe(kObject1, 0x09A);
    EXPECT_EQ(a->send(clear()), response());
    EXPECT_FALSE(owns(*a, kObject1, kObject0));
    EXPECT_TRUE(owns(*b, kObject1, kObject1));
}

/// PLATFORM_NV can be switched off like a hierarchy, but no object is in it.
TEST_F(State, SwitchingPlatformNvOffFlushesNoObject) {
    exchange(*a, load(kPersistent), load(kPersistent), response().handle(kObject0));
    object(*a, kObject1, TPM2_RH_PLATFORM);
    send(*a, hierarchyControl(TPM2_RH_PLATFORM_NV, false));
    EXPECT_TRUE(owns(*a, kObject1, kObject0));
    EXPECT_TRUE(owns(*a, kObject0, kObject1));
}

// ---- Losses

TEST_F(State, AnObjectThatIsGoneIsForgottenAndAllElseIsAskedFor) {
    object(*a, kObject0);
    object(*a, kObject1);
    object(*b, kObject2);
    session(*b, kHmac0);
    child.expect(readPublic(kObject0), response(0x910));
    expectProbe(kObject1, 0x09A);
    expectProbe(kObject2, 0x910);
    expectProbe(kHmac0, 0x910);
    EXPECT_EQ(a->send(readPublic(kObject0)), response(0x910));
    EXPECT_FALSE(owns(*a, kObject0, kObject0));
    EXPECT_TRUE(owns(*a, kObject1, kObject1));
    EXPECT_FALSE(owns(*b, kObject0, kObject2));
    EXPECT_FALSE(owns(*b, kHmac0, kHmac0));
}

TEST_F(State, ASessionThatIsGoneIsForgotten) {
    session(*a, kHmac0);
    send(*a, unseal(kPersistent, {password(), {kHmac0}}), 0x919);
    EXPECT_FALSE(owns(*a, kHmac0, kHmac0));
    session(*a, kPolicy1);
    send(*a,
         command(TPM2_CC_PolicySecret).handle(TPM2_RH_OWNER).handle(kPolicy1).auth({password()}),
         0x911);
    EXPECT_FALSE(owns(*a, kPolicy1, kPolicy1));
}

TEST_F(State, WhatFlushContextDoesNotFindIsForgotten) {
    object(*a, kObject0);
    session(*a, kHmac0);
    child.expect(flushContext(kObject0), response(0x1CB));
    expectProbe(kHmac0, 0x09A);
    EXPECT_EQ(a->send(flushContext(kObject0)), response(0x1CB));
    EXPECT_FALSE(owns(*a, kObject0, kObject0));
    send(*a, flushContext(kHmac0), 0x1CB);
    EXPECT_FALSE(owns(*a, kHmac0, kHmac0));
}

TEST_F(State, AReferenceToWhatIsNotTheSpacesOwnChangesNothing) {
    object(*a, kObject0);
    send(*a, readPublic(kPersistent), 0x910);
    send(*a, readPublic(kPersistent), 0x916);
    send(*a, unseal(kPersistent), 0x918);
    send(*a, unseal(kPersistent), 0x91E);
    EXPECT_TRUE(owns(*a, kObject0, kObject0));
}

TEST_F(State, ALossIsNoticedByTheHandleProbeToo) {
    object(*a, kObject0);
    object(*b, kObject1);
    // [own, absent]: the own one is gone, which comes first.
    child.expect(probe(TPM2_CC_Certify, {kObject0, kObject0}), response(0x910));
    expectProbe(kObject1, 0x09A);
    EXPECT_EQ(a->send(certify(kObject0, kObject2)), response(0x910));
    EXPECT_FALSE(owns(*a, kObject0, kObject0));
}

// ---- Startup

class NotStarted : public State {
  protected:
    NotStarted() {
        object(*a, kObject0);
        object(*b, kObject1);
        session(*b, kHmac0);
        session(*a, kHmac1);
        send(*a, contextSave(kHmac1));
    }
    void expectAllLost() {
        EXPECT_FALSE(owns(*a, kObject0, kObject0));
        EXPECT_FALSE(owns(*b, kObject0, kObject1));
        EXPECT_FALSE(owns(*b, kHmac0, kHmac0));
        ASSERT_EQ(ownership.sessions().size(), 1u);
        EXPECT_EQ(ownership.sessions()[0].handle, kHmac1) << "its context may be good still";
    }
};

TEST_F(NotStarted, SaysACommand) {
    send(*a, getRandom(), 0x100);
    expectAllLost();
}

TEST_F(NotStarted, SaysAHandleProbe) {
    child.expect(probe(TPM2_CC_ReadPublic, {kObject0}), response(0x100));
    EXPECT_EQ(a->send(readPublic(kObject2)), response(0x100));
    expectAllLost();
}

TEST_F(NotStarted, SaysACodeProbe) {
    child.expect(probe(0x20000001), response(0x100));
    EXPECT_EQ(a->send(command(0x20000001)), response(0x100));
    expectAllLost();
}

TEST_F(NotStarted, SaysTheQuestionForACode) {
    child.expect(probe(0x20000001), acceptable());
    child.expect(getCapability(TPM2_CAP_COMMANDS, 0x20000001, 1), response(0x100));
    EXPECT_EQ(a->send(command(0x20000001)), response(0x100));
    expectAllLost();
}

TEST_F(NotStarted, SaysAPresenceProbe) {
    child.expect(readPublic(kObject0), response(0x910));
    expectProbe(kObject1, 0x100);
    EXPECT_EQ(a->send(readPublic(kObject0)), response(0x910));
    expectAllLost();
}

TEST_F(NotStarted, SaysTheFlushOfASpaceThatCloses) {
    child.expect(flushContext(kObject0), response(0x100));
    a->space.close();
    EXPECT_FALSE(owns(*b, kObject0, kObject1));
    EXPECT_FALSE(owns(*b, kHmac0, kHmac0));
}

TEST_F(NotStarted, IsWhatARunningTpmSaysToStartup) {
    send(*a, startup(TPM2_SU_CLEAR), 0x100);
    EXPECT_TRUE(owns(*a, kObject0, kObject0));
    EXPECT_TRUE(owns(*b, kHmac0, kHmac0));
}

TEST_F(NotStarted, AndStartupOfAResetTpmTakesTheSavedSessionsToo) {
    send(*b, startup(TPM2_SU_CLEAR));
    EXPECT_FALSE(owns(*a, kObject0, kObject0));
    EXPECT_TRUE(ownership.sessions().empty());
}

TEST_F(NotStarted, AndStartupAfterShutdownStateKeepsTheSavedSessions) {
    for (const TPM2_SU type : {TPM2_SU_STATE, TPM2_SU_CLEAR}) {
        send(*b, shutdown(TPM2_SU_STATE));
        send(*b, startup(type));
        expectAllLost();
    }
    send(*b, shutdown(TPM2_SU_CLEAR));
    send(*b, startup(TPM2_SU_CLEAR));
    EXPECT_TRUE(ownership.sessions().empty());
}

TEST_F(NotStarted, AndAFailedShutdownIsNone) {
    send(*b, shutdown(TPM2_SU_STATE), 0x101);
    send(*b, startup(TPM2_SU_CLEAR));
    EXPECT_TRUE(ownership.sessions().empty());
}

/// What spoils the orderly Shutdown voids the contexts too.
TEST_F(NotStarted, AndAShutdownThatWasSpoiledIsNone) {
    send(*b, shutdown(TPM2_SU_STATE));
    exchange(*a, contextSave(kObject0), contextSave(kObject0));
    send(*b, startup(TPM2_SU_CLEAR));
    EXPECT_TRUE(ownership.sessions().empty());
    session(*a, kHmac1);
    send(*a, contextSave(kHmac1));
    send(*b, shutdown(TPM2_SU_STATE));
    send(*b, startup(TPM2_SU_STATE), 0x1C4);
    send(*b, startup(TPM2_SU_CLEAR));
    EXPECT_TRUE(ownership.sessions().empty());
}

// ---- What the TPM has

TEST_F(State, MoreSlotsAreLearnedFromTheTpm) {
    EXPECT_EQ(exchange(*a, readPublic(0x80000006), readPublic(kPoison), response(0x184)),
              response(0x184));
    pass(*b, getCapability(TPM2_CAP_TPM_PROPERTIES, TPM2_PT_HR_TRANSIENT_MIN, 1),
         propertyList({{TPM2_PT_HR_TRANSIENT_MIN, 7}}, true));
    EXPECT_EQ(
        exchange(*a, readPublic(0x80000006), probe(TPM2_CC_ReadPublic, {kObject0}), acceptable()),
        response(0x910));
}

}  // namespace
}  // namespace spaces::test
