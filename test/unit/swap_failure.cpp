// SPDX-License-Identifier: BSD-2-Clause
// Unit test of swapping: what goes wrong in the middle of it.
// Always holds: whatever fails, wherever, costs at most the object or session that it is about,
// within a bounded number of commands; everything else answers as before.
#include "unit/swap_test.h"

namespace spaces::test {
namespace {

using Fate = ModelTpm::Fate;
using Kind = Thing::Kind;

constexpr TPM2_CC kSave = TPM2_CC_ContextSave, kLoad = TPM2_CC_ContextLoad,
                  kFlush = TPM2_CC_FlushContext;

/// For one command: every session renewed, with room to spare.
constexpr size_t kBound = 500;

bool isBusy(TPM2_RC code) {
    return code == TPM2_RC_RETRY || code == TPM2_RC_YIELDED || code == TPM2_RC_TESTING;
}
/// What a move is about is not there, or its context is void.
bool saysGone(TPM2_RC code) { return (code & TPM2_RC_FMT1) != 0 || code == TPM2_RC_REFERENCE_H0; }
TPM2_RC base(TPM2_RC code) { return code & ~TSS2_RC_LAYER_MASK; }

// ---- Storms

struct Storm {
    TPM2_RC code;
    bool onMoves;  // or on the clients' commands
};

class Storms : public SwapTest, public testing::WithParamInterface<Storm> {};

TEST_P(Storms, EndAndLeaveEverythingAsItWas) {
    build({.objects = 2, .sessions = 2});
    std::vector<Thing> things;
    for (int i = 0; i < 3; ++i)
        for (Client* client : {&a(), &b()})
            for (const Kind kind : {Kind::Object, Kind::Sequence, Kind::Session})
                things.emplace_back(*client, kind, "thing" + std::to_string(i));
    for (Thing& each : things) EXPECT_EQ(each.use(), TPM2_RC_SUCCESS);
    tpm().fate = [](const Packet& packet) {
        return Fate{.code = isMove(packet) == GetParam().onMoves ? GetParam().code : TPM2_RC{0}};
    };
    size_t refused = 0;
    for (Thing& each : things) {
        const size_t before = tpm().sent;
        const TPM2_RC code = each.use();
        EXPECT_LE(tpm().sent - before, kBound);
        if (code == TPM2_RC_SUCCESS) continue;
        EXPECT_EQ(code, GetParam().code);
        ++refused;
    }
    EXPECT_GE(refused, things.size() / 2);
    const size_t before = tpm().sent;
    for (const Packet& making : {create("new"), startPolicy(), hashSequenceStart()})
        if (!GetParam().onMoves) {
            EXPECT_EQ(a().send(making), response(GetParam().code));
        }
    EXPECT_LE(tpm().sent - before, 3 * kBound);
    tpm().fate = nullptr;
    for (Thing& each : things) EXPECT_EQ(each.use(), TPM2_RC_SUCCESS);
    for (Thing& each : things) EXPECT_EQ(each.check(), TPM2_RC_SUCCESS);
}

INSTANTIATE_TEST_SUITE_P(Of, Storms,
                         testing::Values(Storm{0x902, true}, Storm{0x901, true}, Storm{0x903, true},
                                         Storm{0x922, true}, Storm{0x902, false},
                                         Storm{0x901, false}, Storm{0x903, false},
                                         Storm{0x922, false}),
                         [](const auto& info) {
                             char name[40];
                             snprintf(name, sizeof(name), "%X%s", info.param.code,
                                      info.param.onMoves ? "OnMoves" : "OnCommands");
                             return std::string(name);
                         });

// ---- One failure, everywhere

/// What became of a script in which one move failed.
struct Outcome {
    size_t renewals = 0;            // against the context gap
    bool failed = false;            // it came to the move that was to fail
    std::vector<TPM2_RC> refusals;  // what clients got beside success
    size_t lost = 0;
    size_t unmade = 0;                         // new objects, sequences and sessions after it
    size_t leftObjects = 0, leftSessions = 0;  // in the TPM, at the end
};

/// Objects, sequences and sessions of two spaces take turns on two slots of each kind, and one
/// more of each is made; a session that its client saved stands in the way of the context gap.
class Script {
  public:
    static constexpr uint64_t kGap = 8;

    Script(size_t position, const Fate& fate, uint64_t gap = kGap)
        : world_({.objects = 2, .sessions = 2, .gap = gap}) {
        for (int i = 0; i < 2; ++i)
            for (Client* client : {world_.a.get(), world_.b.get()})
                for (const Kind kind : {Kind::Object, Kind::Sequence, Kind::Session})
                    things_.emplace_back(*client, kind, "thing" + std::to_string(i));
        Client& a = *world_.a;
        saved_ = handleOf(a.send(startPolicy()));
        const Packet answer = a.send(contextSave(saved_));
        context_ = Bytes(answer.all().begin() + 10, answer.all().end());
        for (Thing& each : things_) EXPECT_EQ(each.use(), TPM2_RC_SUCCESS);
        world_.tpm.fate = [this, position, fate](const Packet& packet) {
            // Loaded, and saved at once.
            const TPM2_CC code = wire::get32(&packet.all()[6]);
            if (code == TPM2_CC_ContextSave && wire::get32(&packet.all()[10]) == loaded_)
                ++outcome_.renewals;
            loaded_ = code == TPM2_CC_ContextLoad ? wire::get32(&packet.all()[18]) : 0;
            if (!isMove(packet) || ++moves_ != position) return Fate{};
            outcome_.failed = true;
            if (saysGone(fate.code)) loseSubjectOf(packet);
            return fate;
        };
    }

    Outcome run() {
        for (int round = 0; round < 4; ++round)
            for (Thing& each : things_) note(each.use());
        note(codeOf(world_.a->send(create("new"))));
        const Packet started = world_.a->send(startPolicy());
        note(codeOf(started));
        // The number of one that was lost may be used again.
        if (codeOf(started) == TPM2_RC_SUCCESS)
            for (Thing& each : things_)
                if (each.handle == handleOf(started)) each.forget();
        world_.tpm.fate = nullptr;
        // What was refused once is not lost.
        for (Thing& each : things_) note(each.use());
        for (Thing& each : things_) outcome_.lost += each.check() == TPM2_RC_SUCCESS ? 0 : 1;
        const Packet loaded = world_.a->send(contextLoad(context_));
        outcome_.lost += loaded == response().handle(saved_) ? 0 : 1;
        for (Client* client : {world_.a.get(), world_.b.get()})
            for (const Packet& making : {create("new"), startPolicy(), hashSequenceStart()})
                outcome_.unmade += codeOf(client->send(making)) == TPM2_RC_SUCCESS ? 0 : 1;
        world_.close();
        outcome_.leftObjects = world_.tpm.loadedObjects();
        outcome_.leftSessions = world_.tpm.loadedSessions() + world_.tpm.savedSessions();
        return outcome_;
    }

  private:
    /// The TPM tells the truth.
    void loseSubjectOf(const Packet& move) {
        const bool loads = wire::get32(&move.all()[6]) == TPM2_CC_ContextLoad;
        const TPM2_HANDLE subject = wire::get32(&move.all()[loads ? 18 : 10]);
        if (!loads || wire::isSession(subject)) world_.tpm.flushBehind(subject);
    }
    void note(TPM2_RC code) {
        if (code != TPM2_RC_SUCCESS) outcome_.refusals.push_back(code);
    }

    World world_;
    std::vector<Thing> things_;
    TPM2_HANDLE saved_ = 0;
    Bytes context_;
    size_t moves_ = 0;
    TPM2_HANDLE loaded_ = 0;  // the session that was loaded last
    Outcome outcome_;
};

/// Calls `check` with the outcome of the script for each of its moves failing. Returns how many
/// there are.
template <class Check>
size_t failEverywhere(const Fate& fate, Check check, uint64_t gap = Script::kGap) {
    for (size_t position = 1;; ++position) {
        SCOPED_TRACE("move " + std::to_string(position));
        const Outcome outcome = Script(position, fate, gap).run();
        if (!outcome.failed || testing::Test::HasFailure()) return position - 1;
        check(outcome);
    }
}

TEST(Failures, NoneLosesNothing) {
    const Outcome outcome = Script(0, {}).run();
    EXPECT_TRUE(outcome.refusals.empty());
    EXPECT_EQ(outcome.lost, 0u);
    EXPECT_EQ(outcome.leftObjects + outcome.leftSessions, 0u);
    EXPECT_GE(outcome.renewals, 2u) << "the script has every kind of move";
}

class OneFailure : public testing::TestWithParam<TPM2_RC> {};

TEST_P(OneFailure, CostsAtMostWhatItIsAbout) {
    const TPM2_RC code = GetParam();
    const size_t moves = failEverywhere({.code = code}, [&](const Outcome& outcome) {
        EXPECT_LE(outcome.lost, saysGone(code) ? 1u : 0u);
        EXPECT_EQ(outcome.unmade, 0u);
        EXPECT_EQ(outcome.leftObjects, 0u);
        EXPECT_EQ(outcome.leftSessions, 0u);
        EXPECT_TRUE(!isBusy(code) || outcome.refusals.empty());
        if (saysGone(code)) return;
        EXPECT_LE(outcome.refusals.size(), 1u);
        for (const TPM2_RC refusal : outcome.refusals) EXPECT_EQ(base(refusal), code);
    });
    EXPECT_GE(moves, 40u);
}

INSTANTIATE_TEST_SUITE_P(Of, OneFailure,
                         testing::Values(0x902, 0x903, 0x901, 0x908, 0x90A, 0x922, 0x909, 0x1DF,
                                         0x1C5, 0x1CB, 0x910, 0x920, 0x923, 0x101),
                         [](const auto& info) {
                             char name[20];
                             snprintf(name, sizeof(name), "Code%X", info.param);
                             return std::string(name);
                         });

/// The child failed before the TPM saw the command: all is as it was.
TEST(Failures, ToTransmitCostNothing) {
    const size_t moves = failEverywhere(kNotSent, [](const Outcome& outcome) {
        EXPECT_EQ(outcome.refusals, std::vector<TPM2_RC>{0xB0101});
        EXPECT_EQ(outcome.lost + outcome.unmade, 0u);
        EXPECT_EQ(outcome.leftObjects, 0u);
        EXPECT_EQ(outcome.leftSessions, 0u);
    });
    EXPECT_GE(moves, 40u);
}

/// The TPM did what was asked and the answer was lost: with it the session that was being saved,
/// whose place in the TPM is freed; and a slot, where it was an object that was being loaded.
TEST(Failures, ToReceiveCostAtMostTheSessionConcerned) {
    const size_t moves = failEverywhere(kAnswerLost, [](const Outcome& outcome) {
        EXPECT_GE(outcome.refusals.size(), 1u);
        EXPECT_LE(outcome.lost, 1u);
        EXPECT_EQ(outcome.unmade, 0u);
        EXPECT_LE(outcome.leftObjects, 1u);
        EXPECT_EQ(outcome.leftSessions, 0u);
    });
    EXPECT_GE(moves, 40u);
}

/// The TPM lost power between two moves.
TEST(Failures, OfPowerLoseEverythingAndNothingMore) {
    for (size_t position = 1;; ++position) {
        SCOPED_TRACE("move " + std::to_string(position));
        World world({.objects = 2, .sessions = 2});
        std::vector<Thing> things;
        for (int i = 0; i < 2; ++i)
            for (Client* client : {world.a.get(), world.b.get()})
                for (const Kind kind : {Kind::Object, Kind::Sequence, Kind::Session})
                    things.emplace_back(*client, kind, "thing");
        size_t moves = 0;
        world.tpm.fate = [&](const Packet& packet) {
            if (isMove(packet) && ++moves == position) world.tpm.powerCycle();
            return Fate{};
        };
        for (Thing& each : things) each.use();
        if (moves < position) break;
        EXPECT_EQ(things[0].use(), TPM2_RC{TPM2_RC_INITIALIZE});
        EXPECT_EQ(world.b->send(startup(TPM2_SU_CLEAR)), response());
        for (Thing& each : things) EXPECT_EQ(each.check(), TPM2_RC{TPM2_RC_REFERENCE_H0});
        things.clear();
        for (int i = 0; i < 3; ++i)
            for (const Kind kind : {Kind::Object, Kind::Sequence, Kind::Session})
                things.emplace_back(*world.a, kind, "new");
        for (Thing& each : things) EXPECT_EQ(each.use(), TPM2_RC_SUCCESS);
        for (Thing& each : things) EXPECT_EQ(each.check(), TPM2_RC_SUCCESS);
        world.close();
        EXPECT_EQ(
            world.tpm.loadedObjects() + world.tpm.loadedSessions() + world.tpm.savedSessions(), 0u);
        ASSERT_FALSE(testing::Test::HasFailure());
    }
}

// ---- What a failure says to the client

class Told : public SwapTest {};

TEST_F(Told, AnObjectWhoseContextIsVoidIsAbsentWhereItIsNamed) {
    build({.objects = 2});
    for (int i = 0; i < 4; ++i) object(a(), "o" + std::to_string(i));
    a().send(certify(kObject2, kObject3));
    failNext(TPM2_CC_ContextLoad, {.code = 0x1DF});
    EXPECT_EQ(a().send(certify(kObject3, kObject0)), response(0x911));
    EXPECT_EQ(a().send(readPublic(kObject0)), response(0x910));
    for (const int i : {1, 2, 3})
        EXPECT_EQ(a().send(readPublic(kObject0 + i)), named("o" + std::to_string(i)));
    EXPECT_EQ(object(a(), "new"), kObject0);
}

TEST_F(Told, ASessionWhoseContextIsVoidIsAbsentWhereItIsNamed) {
    build({.sessions = 2});
    std::vector<TPM2_HANDLE> s;
    for (int i = 0; i < 5; ++i) s.push_back(session(a()));
    failNext(TPM2_CC_ContextLoad, {.code = 0x1CB});
    EXPECT_EQ(a().send(unseal(kPersistent, {{s[4]}, {s[0]}})), response(0x919));
    failNext(TPM2_CC_ContextLoad, {.code = 0x1DF});
    EXPECT_EQ(a().send(policyGetDigest(s[1])), response(0x910));
    failNext(TPM2_CC_ContextLoad, {.code = 0x1CB});
    EXPECT_EQ(
        a().send(
            command(TPM2_CC_PolicySecret).handle(TPM2_RH_OWNER).handle(s[2]).auth({password()})),
        response(0x911));
    EXPECT_EQ(a().send(policyGetDigest(s[3])), response().tpm2b());
    EXPECT_EQ(a().send(policyGetDigest(s[4])), response().tpm2b());
    for (int i = 0; i < 3; ++i) tpm().flushBehind(s[static_cast<size_t>(i)]);  // the TPM lied
}

TEST_F(Told, WhatIsNotTheClientsFaultHasTheLayersMark) {
    build({.objects = 1});
    object(a(), "one"), object(a(), "two");
    failNext(TPM2_CC_ContextSave, {.code = 0x184});
    EXPECT_EQ(a().send(readPublic(kObject0)), response(0xB0184));
    EXPECT_EQ(a().send(readPublic(kObject0)), named("one"));
    EXPECT_EQ(a().send(readPublic(kObject1)), named("two"));
}

/// At every point of a swap: the move that is under way is finished, none follows it, and the
/// command is not sent.
TEST_F(Told, ACancelDuringASwapLeavesNothingHalfDone) {
    for (const TPM2_CC code : {TPM2_CC_ContextSave, TPM2_CC_FlushContext, TPM2_CC_ContextLoad}) {
        build({.objects = 1, .sessions = 1});
        object(a(), "one"), object(a(), "two");
        const TPM2_HANDLE one = session(a()), two = session(b());
        for (const Packet& each : {readPublic(kObject0), policyGetDigest(one)}) {
            if (code == TPM2_CC_FlushContext && each == policyGetDigest(one)) continue;
            tpm().takeSent();
            tpm().notYet = [&](const Packet& sent) { return wire::get32(&sent.all()[6]) == code; };
            a().start(each);
            EXPECT_FALSE(a().space.wait(kNone));
            EXPECT_EQ(a().space.cancel(), TSS2_RC_SUCCESS);
            tpm().notYet = nullptr;
            EXPECT_EQ(a().finish(), response(0x909));
            for (const Packet& sent : tpm().takeSent()) EXPECT_TRUE(isMove(sent)) << sent;
            EXPECT_EQ(codeOf(a().send(each)), TPM2_RC_SUCCESS);
        }
        EXPECT_EQ(a().send(readPublic(kObject1)), named("two"));
        EXPECT_EQ(b().send(policyGetDigest(two)), response().tpm2b());
    }
}

// ---- Answers that are lost

class Lost : public SwapTest {
  protected:
    const Packet lost = response(0xB0101);
};

/// Until then another object could be where it was.
TEST_F(Lost, AnObjectThatMayBeFlushedIsFlushedBeforeAnythingElse) {
    for (const Fate& fate : {kNotSent, kAnswerLost}) {
        build({.objects = 1});
        object(a(), "one"), object(a(), "two");
        failNext(kFlush, fate);
        EXPECT_EQ(a().send(readPublic(kObject0)), lost);
        EXPECT_EQ(codeOf(expectSent(b(), getRandom(), {flushContext(kObject0), getRandom()})),
                  TPM2_RC_SUCCESS);
        expectSent(b(), getRandom(), {getRandom()});
        EXPECT_EQ(a().send(readPublic(kObject0)), named("one"));
        EXPECT_EQ(a().send(readPublic(kObject1)), named("two"));
        closeAndCheck();
    }
}

TEST_F(Lost, NoObjectAnswersForAnother) {
    build({.objects = 2});
    const auto use = [this](TPM2_HANDLE handle) {
        for (int i = 0; i < 9; ++i) a().send(readPublic(handle));
    };
    for (const char* name : {"zero", "one"}) saved(a(), object(a(), name));
    use(kObject0);
    object(a(), "two"), use(kObject2);  // where one was
    tpm().takeSent();
    failNext(kFlush, kAnswerLost);
    EXPECT_EQ(a().send(readPublic(kObject1)), lost);
    EXPECT_EQ(tpm().takeSent(), Packets{flushContext(kObject0)}) << "zero";
    failNext(kLoad, kAnswerLost);  // of one, to where zero was
    EXPECT_EQ(a().send(certify(kObject0, kObject1)), lost);
    const char* names[] = {"zero", "one", "two"};
    for (const TPM2_HANDLE i : {0, 1, 2, 0})
        EXPECT_EQ(a().send(readPublic(kObject0 + i)), named(names[i])) << i;
    tpm().flushBehind(kObject0);  // the load that nobody knows of
}

TEST_F(Lost, AnObjectThatMayBeFlushedIsFlushedByItsClient) {
    for (const Fate& fate : {kNotSent, kAnswerLost}) {
        build({.objects = 1});
        object(a(), "one"), object(a(), "two");
        failNext(kFlush, fate);
        EXPECT_EQ(a().send(readPublic(kObject0)), lost);
        EXPECT_EQ(a().send(flushContext(kObject1)), response());
        EXPECT_EQ(a().send(readPublic(kObject1)), response(0x910));
        EXPECT_EQ(a().send(readPublic(kObject0)), named("one"));
        closeAndCheck();
    }
}

TEST_F(Lost, AnObjectThatMayBeFlushedDoesNotStandInStartupsWay) {
    build({.objects = 1});
    object(a(), "one"), object(a(), "two");
    failNext(kFlush, kAnswerLost);
    EXPECT_EQ(a().send(readPublic(kObject0)), lost);
    tpm().powerCycle();
    EXPECT_EQ(a().send(startup(TPM2_SU_CLEAR)), response());
}

/// The TPM loaded it and saved it again, and neither answer came: its context, the older one, is
/// void. When that has turned out, the next command frees its place in the TPM.
TEST_F(Lost, ASessionWhoseContextIsNotTheLastIsFlushed) {
    build({.sessions = 1});
    const TPM2_HANDLE one = session(a()), two = session(b());
    failNext(kLoad, kAnswerLost);
    EXPECT_EQ(a().send(policyGetDigest(one)), lost);
    failNext(kSave, kAnswerLost);
    EXPECT_EQ(a().send(policyGetDigest(one)), lost);
    EXPECT_EQ(tpm().savedSessions(), 2u);
    EXPECT_EQ(a().send(policyGetDigest(one)), response(0x910));
    EXPECT_EQ(b().send(policyGetDigest(two)), response().tpm2b());
    EXPECT_EQ(tpm().savedSessions(), 0u);
    EXPECT_EQ(tpm().loadedSessions(), 1u);
}

/// The TPM may have written down what it was asked to.
TEST_F(Lost, AShutdownMayHaveBeenMade) {
    build({.sessions = 1});
    const TPM2_HANDLE one = session(a()), two = session(a());
    failNext(TPM2_CC_Shutdown, kAnswerLost);
    EXPECT_EQ(a().send(shutdown(TPM2_SU_STATE)), lost);
    tpm().powerCycle();
    EXPECT_EQ(a().send(startup(TPM2_SU_STATE)), response());
    EXPECT_EQ(tpm().savedSessions(), 0u);
    for (const TPM2_HANDLE each : {one, two})
        EXPECT_EQ(a().send(policyGetDigest(each)), response(0x910));
    // That says nothing about the next restart.
    session(a()), session(a());
    tpm().powerCycle();
    EXPECT_EQ(expectSent(a(), startup(TPM2_SU_CLEAR), {startup(TPM2_SU_CLEAR)}), response());
}

/// Its client does not have it, and loads it again.
TEST_F(Lost, ASessionThatMayBeLoadedIsLoadedFromTheSameContext) {
    for (const Fate& fate : {kNotSent, kAnswerLost}) {
        build({.sessions = 2});
        const TPM2_HANDLE one = session(a());
        a().send(policyCommandCode(one, 7));
        const Bytes context = saved(a(), one);
        failNext(kLoad, fate);
        EXPECT_EQ(a().send(contextLoad(context)), lost);
        EXPECT_EQ(a().send(contextLoad(context)), response().handle(one));
        Bytes digest;
        append(digest, 7, 4);
        EXPECT_EQ(a().send(policyGetDigest(one)), response().tpm2b(digest));
        closeAndCheck();
    }
}

TEST_F(Lost, ALookAtWhatElseIsThereLeavesTheCommandRefused) {
    for (const Fate& fate : {kNotSent, kAnswerLost}) {
        build({.objects = 1}, {.leftovers = tpm::Leftovers::Policy::Flush});
        tpm().sendBehind(create("leftover"));
        failNext(TPM2_CC_GetCapability, fate);
        EXPECT_EQ(a().send(create("one")), response(0x902));
        EXPECT_EQ(codeOf(a().send(create("one"))), TPM2_RC_SUCCESS);
        closeAndCheck();
    }
}

}  // namespace
}  // namespace spaces::test
