// SPDX-License-Identifier: BSD-2-Clause
// Unit test of swapping: Startup and Shutdown, hierarchies, the context gap, and what others do to
// the TPM.
// Always holds: what a TPM lost is lost whether it was in the TPM or moved out, and never comes
// back.
#include <algorithm>

#include "unit/swap_test.h"

namespace spaces::test {
namespace {

constexpr TPM2_CC kSave = TPM2_CC_ContextSave, kLoad = TPM2_CC_ContextLoad;

/// A ContextLoad of a session.
bool loadsSession(const Packet& packet) {
    return wire::get32(&packet.all()[6]) == kLoad &&
           wire::isSession(wire::get32(&packet.all()[18]));
}

class State : public SwapTest {};

// ---- Power

TEST_F(State, AfterShutdownNothingThatSpoilsIt) {
    build({.objects = 2, .sessions = 2});
    for (int i = 0; i < 4; ++i) object(a(), "object");
    for (int i = 0; i < 4; ++i) a().send(readPublic(kObject0 + i));
    const TPM2_HANDLE sequence = handleOf(b().send(hashSequenceStart()));
    b().send(sequenceUpdate(sequence, "x"));
    // The sequence, which could not leave without being saved, is by far the least recently used.
    for (int i = 0; i < 20; ++i) a().send(readPublic(kObject3));
    std::vector<TPM2_HANDLE> s;
    for (int i = 0; i < 4; ++i) s.push_back(session(a()));
    EXPECT_EQ(a().send(shutdown(TPM2_SU_STATE)), response());
    tpm().takeSent();
    for (int i = 0; i < 4; ++i) EXPECT_EQ(a().send(readPublic(kObject0 + i)), named("object"));
    EXPECT_EQ(a().send(policyGetDigest(s[3])), response().tpm2b());
    EXPECT_EQ(a().send(policyGetDigest(s[0])), response(0x903)) << "it cannot be brought in";
    EXPECT_EQ(a().send(startPolicy()), response(0x903));
    EXPECT_EQ(a().send(flushContext(s[1])), response());
    EXPECT_EQ(b().send(sequenceComplete(sequence)), named("x"));
    for (const Packet& each : tpm().takeSent()) {
        EXPECT_NE(wire::get32(&each.all()[6]), kSave) << each;
        EXPECT_FALSE(loadsSession(each)) << each;
    }
    tpm().powerCycle();
    EXPECT_EQ(a().send(startup(TPM2_SU_STATE)), response()) << "the Shutdown was spoilt";
    object(a(), "one"), object(a(), "two"), object(a(), "three");
    for (int i = 0; i < 3; ++i) session(a());
}

TEST_F(State, AClientThatSpoilsTheShutdownMayGoOn) {
    build({.sessions = 1});
    const TPM2_HANDLE one = session(a()), two = session(a());
    a().send(shutdown(TPM2_SU_STATE));
    EXPECT_EQ(a().send(policyGetDigest(one)), response(0x903));
    const Bytes context = saved(a(), two);
    EXPECT_EQ(a().send(policyGetDigest(one)), response().tpm2b());
    a().send(shutdown(TPM2_SU_STATE));
    a().send(flushContext(one));
    EXPECT_EQ(a().send(contextLoad(context)), response().handle(two));
    EXPECT_EQ(handleOf(a().send(startPolicy())), one);
    EXPECT_EQ(a().send(policyGetDigest(two)), response().tpm2b());
}

TEST_F(State, AfterStartupOnlyWhatTheClientSavedIsThere) {
    build({.objects = 1, .sessions = 2});
    object(a(), "one"), object(b(), "two");
    std::vector<TPM2_HANDLE> s;
    for (int i = 0; i < 5; ++i) s.push_back(session(i % 2 ? b() : a()));
    a().send(policyCommandCode(s[0], 7));
    const Bytes context = saved(a(), s[0]);
    b().send(shutdown(TPM2_SU_STATE));
    tpm().powerCycle();
    EXPECT_EQ(a().send(readPublic(kObject0)), response(0x100));
    EXPECT_EQ(b().send(startup(TPM2_SU_STATE)), response());
    EXPECT_EQ(tpm().savedSessions(), 1u) << "those moved out are still in the TPM";
    EXPECT_EQ(a().send(readPublic(kObject0)), response(0x910));
    EXPECT_EQ(b().send(readPublic(kObject0)), response(0x910));
    for (size_t i = 1; i < s.size(); ++i)
        EXPECT_EQ((i % 2 ? b() : a()).send(policyGetDigest(s[i])), response(0x910));
    EXPECT_EQ(a().send(contextLoad(context)), response().handle(s[0]));
    Bytes digest;
    append(digest, 7, 4);
    EXPECT_EQ(a().send(policyGetDigest(s[0])), response().tpm2b(digest));
}

TEST_F(State, WhatFailsWhileStaleSessionsAreFlushedLeavesStartupAlone) {
    for (const TPM2_RC warning : {TPM2_RC_RETRY, TPM2_RC_NV_RATE}) {
        build({.sessions = 1});
        for (int i = 0; i < 4; ++i) session(a());
        a().send(shutdown(TPM2_SU_STATE));
        tpm().powerCycle();
        size_t flushes = 0;
        tpm().fate = [&](const Packet& packet) {
            const bool second = isMove(packet) && ++flushes == 2;
            return ModelTpm::Fate{.code = second ? warning : TPM2_RC_SUCCESS};
        };
        EXPECT_EQ(a().send(startup(TPM2_SU_STATE)), response());
        EXPECT_EQ(flushes, 4u);
        EXPECT_EQ(tpm().savedSessions(), 0u);
        closeAndCheck();
    }
}

/// What the TPM does not do now is left for later.
TEST_F(State, AStaleSessionThatIsNotFlushedAtOnceIsFlushedByTheNextCommand) {
    build({.sessions = 1});
    for (int i = 0; i < 4; ++i) session(a());
    a().send(shutdown(TPM2_SU_STATE));
    tpm().powerCycle();
    tpm().fate = [](const Packet& packet) {
        return ModelTpm::Fate{.code = isMove(packet) ? TPM2_RC_CANCELED : TPM2_RC_SUCCESS};
    };
    EXPECT_EQ(a().send(startup(TPM2_SU_STATE)), response());
    EXPECT_EQ(tpm().savedSessions(), 3u);
    tpm().fate = nullptr;
    EXPECT_EQ(codeOf(a().send(getRandom())), TPM2_RC_SUCCESS);
    EXPECT_EQ(tpm().savedSessions(), 0u);
}

TEST_F(State, WhatAResetEndedIsNotFlushed) {
    for (const bool announced : {false, true}) {
        build({.sessions = 1});
        for (int i = 0; i < 4; ++i) session(a());
        if (announced) a().send(shutdown(TPM2_SU_CLEAR));
        tpm().powerCycle();
        EXPECT_EQ(expectSent(a(), startup(TPM2_SU_CLEAR), {startup(TPM2_SU_CLEAR)}), response());
        expectSent(a(), getRandom(), {getRandom()});
        EXPECT_EQ(session(a()), 0x03000000u);
        closeAndCheck();
    }
}

TEST_F(State, WhatAnotherProcessStartedHoldsNoStaleSession) {
    build({.sessions = 2});
    for (int i = 0; i < 5; ++i) session(a());
    a().send(shutdown(TPM2_SU_STATE));
    tpm().powerCycle();
    EXPECT_EQ(a().send(getRandom()), response(0x100));
    EXPECT_EQ(tpm().sendBehind(startup(TPM2_SU_CLEAR)), response());
    EXPECT_EQ(tpm().savedSessions(), 3u);
    EXPECT_EQ(codeOf(a().send(getRandom())), TPM2_RC_SUCCESS);
    EXPECT_EQ(tpm().savedSessions(), 0u);
    for (int i = 0; i < 5; ++i) EXPECT_EQ(session(a()), 0x03000000u + i) << "nothing moves";
}

TEST_F(State, ASessionThatAnotherFlushedDoesNotSpoilTheShutdown) {
    build({.objects = 1, .sessions = 2});
    const TPM2_HANDLE one = session(a());
    session(a()), object(a(), "one");
    a().send(shutdown(TPM2_SU_STATE));
    tpm().flushBehind(one);
    EXPECT_EQ(a().send(policyGetDigest(one)), response(0x910));
    EXPECT_EQ(a().send(create("two")), response(0x902)) << "one cannot leave";
    tpm().powerCycle();
    EXPECT_EQ(a().send(startup(TPM2_SU_STATE)), response());
}

/// Nobody told us: but what was loaded is gone, all of it.
TEST_F(State, AShutdownIsOverWhenNothingIsLeft) {
    build({.objects = 1, .sessions = 1});
    const TPM2_HANDLE one = session(a());
    object(a(), "one");
    a().send(shutdown(TPM2_SU_STATE));
    tpm().powerCycle();
    EXPECT_EQ(tpm().sendBehind(startup(TPM2_SU_STATE)), response());
    EXPECT_EQ(a().send(policyGetDigest(one)), response(0x910));
    EXPECT_EQ(a().send(readPublic(kObject0)), response(0x910));
    for (int i = 0; i < 3; ++i) session(a()), object(a(), "new");
}

/// Nobody told us: another process restarted it.
TEST_F(State, AResetBehindOurBacksLosesEverythingOnce) {
    build({.objects = 2, .sessions = 2});
    for (int i = 0; i < 4; ++i) object(a(), "object"), session(a());
    tpm().restartBehind();
    for (int i = 0; i < 4; ++i) {
        EXPECT_EQ(a().send(readPublic(kObject0 + i)), response(0x910));
        EXPECT_EQ(a().send(policyGetDigest(0x03000000 + i)), response(0x910));
    }
    EXPECT_EQ(object(a(), "new"), kObject0);
    EXPECT_EQ(session(a()), 0x03000000u);
    EXPECT_EQ(a().send(readPublic(kObject0)), named("new"));
}

TEST_F(State, AnObjectThatAnotherFlushedComesBackIfWeHaveItsContext) {
    build({.objects = 2});
    for (int i = 0; i < 3; ++i) object(a(), "o" + std::to_string(i));
    a().send(readPublic(kObject0));
    tpm().flushBehind(kObject0), tpm().flushBehind(kObject1);
    EXPECT_EQ(a().send(readPublic(kObject0)), named("o0"));
    EXPECT_EQ(a().send(readPublic(kObject1)), named("o1"));
}

TEST_F(State, ObjectsThatAnotherFlushedComeBackInOneCommand) {
    build({.objects = 2});
    for (int i = 0; i < 3; ++i) object(a(), "o" + std::to_string(i));
    for (int i = 0; i < 3; ++i) a().send(readPublic(kObject0 + i));
    a().send(certify(kObject0, kObject1));
    tpm().flushBehind(kObject0), tpm().flushBehind(kObject1);
    EXPECT_EQ(a().send(certify(kObject0, kObject1)),
              response().tpm2b(bytes("o0")).tpm2b(bytes("o1")));
}

/// As if it had been moved out before.
TEST_F(State, AnObjectThatAnotherFlushedIsFlushedIfWeHaveItsContext) {
    build({.objects = 2});
    saved(a(), object(a(), "one")), object(a(), "two");
    tpm().flushBehind(kObject0), tpm().flushBehind(kObject1);
    EXPECT_EQ(a().send(flushContext(kObject0)), response());
    EXPECT_EQ(a().send(flushContext(kObject1)), response(0x1CB)) << "it could not come back";
    for (const TPM2_HANDLE each : {kObject0, kObject1})
        EXPECT_EQ(a().send(readPublic(each)), response(0x910));
}

TEST_F(State, ASessionThatAnotherFlushedIsGoneAlone) {
    build({.sessions = 2});
    for (int i = 0; i < 4; ++i) session(a());
    tpm().flushBehind(0x03000000), tpm().flushBehind(0x03000003);
    EXPECT_EQ(a().send(policyGetDigest(0x03000000)), response(0x910)) << "it was out";
    EXPECT_EQ(a().send(unseal(kPersistent, {password(), {0x03000003}})), response(0x919));
    EXPECT_EQ(a().send(policyGetDigest(0x03000001)), response().tpm2b());
    EXPECT_EQ(a().send(policyGetDigest(0x03000002)), response().tpm2b());
}

// ---- Hierarchies

struct Hit {
    const char* name;
    Packet command;
    std::vector<TPM2_HANDLE> hierarchies;
};

class Hierarchies : public SwapTest, public testing::WithParamInterface<Hit> {};

TEST_P(Hierarchies, LoseTheirObjectsInAndOutAndForGood) {
    constexpr TPM2_HANDLE kAll[] = {TPM2_RH_OWNER, TPM2_RH_ENDORSEMENT, TPM2_RH_PLATFORM,
                                    TPM2_RH_NULL};
    // However many of them are out: the last made or used are in.
    for (const size_t slots : {1u, 2u, 3u, 7u, 9u}) {
        build({.objects = slots});
        for (const TPM2_HANDLE each : kAll)
            object(a(), "object", each), object(b(), "object", each);
        EXPECT_EQ(b().send(GetParam().command), response());
        for (const TPM2_HANDLE each : kAll) b().send(hierarchyControl(each, true));
        for (size_t i = 0; i < std::size(kAll); ++i) {
            const bool hit = std::count(GetParam().hierarchies.begin(),
                                        GetParam().hierarchies.end(), kAll[i]) > 0;
            const auto handle = kObject0 + static_cast<TPM2_HANDLE>(i);
            const Packet expected = hit ? response(0x910) : named("object");
            EXPECT_EQ(a().send(readPublic(handle)), expected) << slots;
            EXPECT_EQ(b().send(readPublic(handle)), expected) << slots;
        }
    }
}

INSTANTIATE_TEST_SUITE_P(
    Hit, Hierarchies,
    testing::Values(
        Hit{"Clear", clear(), {TPM2_RH_OWNER, TPM2_RH_ENDORSEMENT}},
        Hit{"ChangePPS",
            command(TPM2_CC_ChangePPS).handle(TPM2_RH_PLATFORM).auth({password()}),
            {TPM2_RH_PLATFORM}},
        Hit{"ChangeEPS",
            command(TPM2_CC_ChangeEPS).handle(TPM2_RH_PLATFORM).auth({password()}),
            {TPM2_RH_ENDORSEMENT}},
        Hit{"OwnerOff", hierarchyControl(TPM2_RH_OWNER, false), {TPM2_RH_OWNER}},
        Hit{"EndorsementOff", hierarchyControl(TPM2_RH_ENDORSEMENT, false), {TPM2_RH_ENDORSEMENT}},
        Hit{"PlatformOff", hierarchyControl(TPM2_RH_PLATFORM, false), {TPM2_RH_PLATFORM}},
        Hit{"OwnerOn", hierarchyControl(TPM2_RH_OWNER, true), {}}),
    [](const auto& info) { return std::string(info.param.name); });

/// The command does not tell what hierarchy the child of a persistent object is in.
TEST_F(State, ChildrenOfPersistentObjectsDieWithTheirHierarchy) {
    for (const size_t slots : {2u, 3u, 9u}) {
        build({.objects = slots});
        std::vector<TPM2_HANDLE> children;
        for (int i = 0; i < 4; ++i)
            children.push_back(handleOf(a().send(loadChild(kPersistent, "child"))));
        a().send(hierarchyControl(TPM2_RH_OWNER, false));
        a().send(hierarchyControl(TPM2_RH_OWNER, true));
        for (const TPM2_HANDLE each : children)
            EXPECT_EQ(a().send(readPublic(each)), response(0x910)) << slots;
    }
}

TEST_F(State, AContextThatTheClientHoldsLivesOn) {
    build({.objects = 1});
    const TPM2_HANDLE one = object(a(), "one", TPM2_RH_OWNER);
    const Bytes context = saved(a(), one);
    object(a(), "two");
    a().send(hierarchyControl(TPM2_RH_OWNER, false));
    EXPECT_EQ(a().send(readPublic(one)), response(0x910));
    EXPECT_EQ(a().send(contextLoad(context)), response(0x1C5));
    a().send(hierarchyControl(TPM2_RH_OWNER, true));
    EXPECT_EQ(a().send(contextLoad(context)), response().handle(one));
    EXPECT_EQ(a().send(readPublic(one)), named("one"));
}

// ---- The context gap

class Gap : public SwapTest {
  protected:
    /// Sessions of b take turns, so that so many contexts are saved.
    void spend(size_t contexts) {
        if (turns_.empty())
            for (int i = 0; i < 3; ++i) turns_.push_back(session(b()));
        for (const size_t end = tpm().saves + contexts; tpm().saves < end && !HasFailure();) {
            const TPM2_HANDLE each = turns_[next_++ % turns_.size()];
            ASSERT_EQ(codeOf(b().send(policyGetDigest(each))), TPM2_RC_SUCCESS);
        }
    }

    void forgetTurns() { turns_.clear(); }

  private:
    std::vector<TPM2_HANDLE> turns_;
    size_t next_ = 0;
};

TEST_F(Gap, IsNeverSeenAndARenewedContextLoadsOnce) {
    build({.sessions = 2, .gap = 8});
    const TPM2_HANDLE one = session(a());
    a().send(policyCommandCode(one, 7));
    const Bytes context = saved(a(), one);
    spend(100);
    Bytes tampered = context;
    tampered.back() ^= 1;
    EXPECT_EQ(a().send(contextLoad(tampered)), response(0x1DF));
    EXPECT_EQ(a().send(policyGetDigest(one)), response(0x910)) << "its client has it saved";
    EXPECT_EQ(a().send(contextLoad(context)), response().handle(one));
    Bytes digest;
    append(digest, 7, 4);
    EXPECT_EQ(a().send(policyGetDigest(one)), response().tpm2b(digest));
    EXPECT_EQ(a().send(contextLoad(context)), response(0x1CB));
    EXPECT_EQ(a().send(policyGetDigest(one)), response().tpm2b(digest));
}

TEST_F(Gap, IsRepairedOldestFirst) {
    build({.sessions = 2, .gap = 8});
    std::vector<Bytes> contexts;
    for (int i = 0; i < 3; ++i) contexts.push_back(saved(a(), session(a())));
    tpm().takeSent();
    spend(60);
    uint64_t last = 0;
    size_t renewals = 0;
    const Packets sent = tpm().takeSent();
    for (size_t i = 0; i + 1 < sent.size(); ++i) {
        // A renewal: loaded, and saved at once.
        if (!loadsSession(sent[i]) || wire::get32(&sent[i + 1].all()[6]) != kSave) continue;
        if (wire::get32(&sent[i].all()[18]) != wire::get32(&sent[i + 1].all()[10])) continue;
        const uint64_t sequence = wire::get32(&sent[i].all()[14]);
        EXPECT_GT(sequence, last);
        last = sequence;
        ++renewals;
    }
    EXPECT_GE(renewals, 10u);
    for (size_t i = 0; i < contexts.size(); ++i)
        EXPECT_EQ(codeOf(a().send(contextLoad(contexts[i]))), TPM2_RC_SUCCESS) << i;
}

/// At the gap no context but the oldest loads into the last slot; the one that the client brings
/// may be among those that are renewed for it.
TEST_F(Gap, AContextThatIsRenewedForItsOwnLoadLoads) {
    for (size_t spent = 0; spent < 12; ++spent) {
        build({.sessions = 2, .gap = 8});
        std::vector<Bytes> contexts;
        std::vector<TPM2_HANDLE> handles;
        for (int i = 0; i < 4; ++i) {
            handles.push_back(session(a()));
            contexts.push_back(saved(a(), handles.back()));
        }
        // One slot stays taken; the other one's session is saved and loaded by its client.
        session(b());
        const TPM2_HANDLE other = session(b());
        for (size_t i = 0; i < spent; ++i)
            EXPECT_EQ(codeOf(b().send(contextLoad(saved(b(), other)))), TPM2_RC_SUCCESS);
        b().send(flushContext(other));
        for (const size_t i : {1u, 3u, 0u, 2u})
            EXPECT_EQ(a().send(contextLoad(contexts[i])), response().handle(handles[i]))
                << spent << ' ' << i;
    }
}

TEST_F(Gap, AStrandedSessionIsFlushedWhenItsSpaceCloses) {
    build({.sessions = 2, .gap = 8});
    const TPM2_HANDLE one = session(a());
    const Bytes context = saved(a(), one);
    spend(20);
    left = 0;  // its context, as its client has it, cannot be loaded any more
}

/// Renewed when its space had closed: another space can load it yet, until there is none.
TEST_F(Gap, AStrandedSessionOfAClosedSpaceIsFlushedWhenTheLastOneCloses) {
    for (const bool loaded : {false, true}) {
        build({.sessions = 2, .gap = 8});
        const TPM2_HANDLE one = session(a());
        const Bytes context = saved(a(), one);
        closeA();
        EXPECT_EQ(tpm().savedSessions(), 1u);
        spend(20);
        if (loaded) {
            EXPECT_EQ(b().send(contextLoad(context)), response().handle(one));
        }
        closeAndCheck();
        forgetTurns();
    }
}

TEST_F(Gap, ASessionWhoseContextIsStillGoodStaysWhenItsSpaceCloses) {
    build({.sessions = 2, .gap = 8});
    saved(a(), session(a()));
    left = 1;
}

/// Its number may be another process's by now.
TEST_F(Gap, AStrandedSessionIsNotFlushedAfterAReset) {
    build({.sessions = 2, .gap = 8});
    const TPM2_HANDLE one = session(a());
    saved(a(), one);
    spend(30);
    tpm().powerCycle();
    EXPECT_EQ(a().send(startup(TPM2_SU_CLEAR)), response());
    EXPECT_EQ(tpm().sendBehind(startPolicy()), response().handle(one).tpm2b(Bytes(16)));
    tpm().sendBehind(contextSave(one));
    left = 1;
}

TEST_F(Gap, ARenewedContextIsTheTpmsToRefuseWhereAuthorisationsFollow) {
    build({.sessions = 2, .gap = 8});
    const TPM2_HANDLE one = session(a());
    const Bytes context = saved(a(), one);
    spend(30);
    const Packet load = command(kLoad).auth({password()}).raw(context);
    EXPECT_EQ(a().send(load), response(0x145));
    EXPECT_EQ(tpm().takeSent().back(), load);
    EXPECT_EQ(a().send(contextLoad(context)), response().handle(one));
}

// A TPM that resumes still counts from the contexts saved before, which it alone remembers.
TEST_F(Gap, AfterAResumeIsRepairedByOneRenewal) {
    build({.sessions = 3, .gap = 8});
    saved(a(), session(a()));
    const TPM2_HANDLE other = session(a());
    for (int i = 0; i < 7; ++i) a().send(contextLoad(saved(a(), other)));
    a().send(shutdown(TPM2_SU_STATE));
    tpm().powerCycle();
    a().send(startup(TPM2_SU_STATE));
    for (int i = 0; i < 2; ++i) EXPECT_EQ(codeOf(a().send(startPolicy())), TPM2_RC_SUCCESS);
    tpm().takeSent();
    EXPECT_EQ(codeOf(a().send(startPolicy())), TPM2_RC_SUCCESS);
    EXPECT_EQ(tpm().takeSent().size(), 4u) << "the command, ContextLoad, ContextSave, the command";
    left = 0;  // its context was renewed
}

TEST_F(Gap, AtShutdownIsNotRepaired) {
    build({.sessions = 3, .gap = 8});
    const TPM2_HANDLE first = session(a());
    saved(a(), first);
    const TPM2_HANDLE other = session(a());
    for (int i = 0; i < 7; ++i) a().send(contextLoad(saved(a(), other)));
    a().send(shutdown(TPM2_SU_STATE));
    tpm().takeSent();
    EXPECT_EQ(codeOf(a().send(startPolicy())), TPM2_RC_SUCCESS);
    EXPECT_EQ(a().send(startPolicy()), response(0x901));
    for (const Packet& each : tpm().takeSent()) EXPECT_FALSE(isMove(each)) << each;
    left = 1;
}

/// Another process's context is the oldest: one of ours was loaded to be renewed, and cannot be
/// saved again.
class HalfRenewed : public Gap {
  protected:
    void SetUp() override {
        build({.sessions = 3, .gap = 8});
        const TPM2_HANDLE foreign = handleOf(tpm().sendBehind(startPolicy()));
        EXPECT_EQ(codeOf(tpm().sendBehind(contextSave(foreign))), TPM2_RC_SUCCESS);
        left = 1;
        one = session(a());
        a().send(policyCommandCode(one, 7));
        context = saved(a(), one);
        const TPM2_HANDLE other = session(a());
        Packet answer = a().send(contextSave(other));
        while (codeOf(answer) == TPM2_RC_SUCCESS && tpm().saves < 100) {
            const Bytes& all = answer.all();
            a().send(contextLoad(Bytes(all.begin() + 10, all.end())));
            answer = a().send(contextSave(other));
        }
        EXPECT_EQ(answer, response(0x901));
        EXPECT_EQ(tpm().loadedSessions(), 2u);
    }

    TPM2_HANDLE one = 0;
    Bytes context;
};

TEST_F(HalfRenewed, ASessionIsGivenBackForItsContext) {
    EXPECT_EQ(a().send(policyGetDigest(one)), response(0x910)) << "its client has it saved";
    EXPECT_EQ(expectSent(a(), contextLoad(context), {}), response().handle(one));
    Bytes digest;
    append(digest, 7, 4);
    EXPECT_EQ(expectSent(a(), policyGetDigest(one), {policyGetDigest(one)}),
              response().tpm2b(digest))
        << "it need not be saved again";
    EXPECT_EQ(a().send(contextLoad(context)), response(0x1CB)) << "once";
}

TEST_F(HalfRenewed, AnyOtherLoadIsTheTpmsToRefuse) {
    Bytes tampered = context;
    tampered.back() ^= 1;
    for (const Packet& load : {command(kLoad).auth({password()}).raw(context),
                               contextLoad(context).u8(0), contextLoad(tampered)}) {
        tpm().takeSent();
        EXPECT_NE(codeOf(a().send(load)), TPM2_RC_SUCCESS);
        const Packets sent = tpm().takeSent();
        EXPECT_EQ(std::count(sent.begin(), sent.end(), load), 1) << load;
    }
    EXPECT_EQ(a().send(contextLoad(context)), response().handle(one));
}

TEST_F(HalfRenewed, ASessionCostsNothingWhereNoSessionIsConcerned) {
    object(b(), "object");
    for (const Packet& each : {getRandom(), readPublic(kObject0), certify(kObject0, kPersistent)})
        EXPECT_EQ(codeOf(expectSent(b(), each, {each})), TPM2_RC_SUCCESS);
}

TEST_F(HalfRenewed, ASessionIsSavedWhenThatCanBe) {
    tpm().flushBehind(0x03000000);
    left = 0;
    session(b());
    EXPECT_EQ(tpm().savedSessions(), 1u);
    EXPECT_EQ(a().send(contextLoad(context)), response().handle(one));
}

}  // namespace
}  // namespace spaces::test
