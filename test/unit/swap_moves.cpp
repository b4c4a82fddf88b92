// SPDX-License-Identifier: BSD-2-Clause
// Unit test of swapping: what moves, when, and at what price.
// Always holds: a test that is about a price compares every command that the TPM hears.
#include <algorithm>
#include <functional>

#include "unit/swap_test.h"

namespace spaces::test {
namespace {

constexpr TPM2_CC kSave = TPM2_CC_ContextSave, kLoad = TPM2_CC_ContextLoad,
                  kFlush = TPM2_CC_FlushContext, kRead = TPM2_CC_ReadPublic;
using Codes = std::vector<TPM2_CC>;

class Moves : public SwapTest {};

TEST_F(Moves, NothingWhileItFits) {
    build();
    object(a(), "one"), object(b(), "two"), object(a(), "three");
    for (int i = 0; i < 3; ++i) session(a());
    tpm().takeSent();
    EXPECT_EQ(a().send(readPublic(kObject1)), named("three"));
    for (const Packet& each : {certify(kObject0, kObject1), unseal(kObject0, {{0x03000001}}),
                               policyGetDigest(0x03000002)})
        EXPECT_EQ(codeOf(a().send(each)), TPM2_RC_SUCCESS);
    EXPECT_EQ(tpm().takeSent(),
              (Packets{readPublic(kObject2), certify(kObject0, kObject2),
                       unseal(kObject0, {{0x03000001}}), policyGetDigest(0x03000002)}));
}

TEST_F(Moves, ACleanObjectIsSavedOnceInItsLife) {
    build({.objects = 1});
    object(a(), "one");
    tpm().takeSent();
    object(a(), "two");
    EXPECT_EQ(sentCodes(), (Codes{TPM2_CC_CreatePrimary, kSave, kFlush, TPM2_CC_CreatePrimary}));
    EXPECT_EQ(a().send(readPublic(kObject0)), named("one"));
    EXPECT_EQ(sentCodes(), (Codes{kSave, kFlush, kLoad, kRead}));
    for (int i = 0; i < 5; ++i) {
        EXPECT_EQ(a().send(readPublic(kObject1)), named("two"));
        EXPECT_EQ(sentCodes(), (Codes{kFlush, kLoad, kRead}));
        EXPECT_EQ(a().send(readPublic(kObject0)), named("one"));
        EXPECT_EQ(sentCodes(), (Codes{kFlush, kLoad, kRead}));
    }
    EXPECT_EQ(tpm().saves, 2u);
}

TEST_F(Moves, AChangedSequenceIsSavedAgainAnUnchangedNot) {
    build({.objects = 1});
    const TPM2_HANDLE sequence = handleOf(a().send(hashSequenceStart()));
    a().send(sequenceUpdate(sequence, "x"));
    const TPM2_HANDLE other = object(a(), "other");
    tpm().takeSent();
    EXPECT_EQ(a().send(sequenceUpdate(sequence, "y")), response());
    EXPECT_EQ(sentCodes(), (Codes{kSave, kFlush, kLoad, TPM2_CC_SequenceUpdate}));
    EXPECT_EQ(a().send(readPublic(other)), named("other"));
    EXPECT_EQ(sentCodes(), (Codes{kSave, kFlush, kLoad, kRead})) << "it changed";
    EXPECT_EQ(codeOf(a().send(readPublic(sequence))), TPM2_RC_SUCCESS);
    EXPECT_EQ(sentCodes(), (Codes{kFlush, kLoad, kRead}));
    EXPECT_EQ(a().send(readPublic(other)), named("other"));
    EXPECT_EQ(sentCodes(), (Codes{kFlush, kLoad, kRead})) << "it was only looked at";
    EXPECT_EQ(a().send(sequenceComplete(sequence)), named("xy"));
    EXPECT_EQ(a().send(readPublic(sequence)), response(0x910));
}

TEST_F(Moves, ASequenceWhoseUpdateWasRefusedIsUnchanged) {
    build({.objects = 1});
    const TPM2_HANDLE sequence = handleOf(a().send(hashSequenceStart()));
    const TPM2_HANDLE other = object(a(), "other");
    a().send(readPublic(sequence));
    tpm().fate = [](const Packet& packet) {
        return ModelTpm::Fate{.code = isMove(packet) ? TPM2_RC{0} : TPM2_RC{0x9A2}};
    };
    EXPECT_EQ(a().send(sequenceUpdate(sequence, "x")), response(0x9A2));
    tpm().fate = nullptr;
    tpm().takeSent();
    a().send(readPublic(other));
    EXPECT_EQ(sentCodes(), (Codes{kFlush, kLoad, kRead}));
    EXPECT_EQ(a().send(sequenceComplete(sequence)), named(""));
}

TEST_F(Moves, AContextThatTheClientSavedServes) {
    build({.objects = 1});
    const TPM2_HANDLE one = object(a(), "one");
    saved(a(), one);
    tpm().takeSent();
    object(a(), "two");
    EXPECT_EQ(sentCodes(), (Codes{TPM2_CC_CreatePrimary, kFlush, TPM2_CC_CreatePrimary}));
    EXPECT_EQ(a().send(readPublic(one)), named("one"));
}

TEST_F(Moves, AContextThatTheClientLoadedServes) {
    build({.objects = 1});
    const Bytes context = saved(a(), object(a(), "one"));
    a().send(flushContext(kObject0));
    EXPECT_EQ(a().send(contextLoad(context)), response().handle(kObject0));
    tpm().takeSent();
    EXPECT_EQ(b().send(contextLoad(context)), response().handle(kObject0));
    EXPECT_EQ(sentCodes(), (Codes{kLoad, kFlush, kLoad}));
    EXPECT_EQ(a().send(readPublic(kObject0)), named("one"));
    EXPECT_EQ(sentCodes(), (Codes{kFlush, kLoad, kRead}));
}

TEST_F(Moves, ALoadedSequencesContextServesUntilItChanges) {
    build({.objects = 1});
    const TPM2_HANDLE first = handleOf(a().send(hashSequenceStart()));
    a().send(sequenceUpdate(first, "x"));
    const Bytes context = saved(a(), first);
    a().send(flushContext(first));
    const TPM2_HANDLE sequence = handleOf(a().send(contextLoad(context)));
    a().send(sequenceUpdate(sequence, "y"));
    tpm().takeSent();
    object(b(), "other");
    EXPECT_EQ(sentCodes(), (Codes{TPM2_CC_CreatePrimary, kSave, kFlush, TPM2_CC_CreatePrimary}));
    EXPECT_EQ(a().send(sequenceComplete(sequence)), named("xy"));
}

TEST_F(Moves, AnObjectThatIsOutIsFlushedWithoutACommand) {
    build({.objects = 1});
    object(a(), "one"), object(a(), "two");
    EXPECT_EQ(expectSent(a(), flushContext(kObject0), {}), response());
    EXPECT_EQ(a().send(readPublic(kObject0)), response(0x910));
    EXPECT_EQ(a().send(flushContext(kObject0)), response(0x1CB));
    EXPECT_EQ(a().send(readPublic(kObject1)), named("two"));
}

// ---- What a command names stays

TEST_F(Moves, BothObjectsOfACommandStay) {
    build({.objects = 2});
    for (int i = 0; i < 5; ++i) object(a(), "o" + std::to_string(i));
    for (TPM2_HANDLE one = kObject0; one < kObject0 + 5; ++one)
        for (TPM2_HANDLE two = kObject0; two < kObject0 + 5; ++two) {
            const auto content = [](TPM2_HANDLE handle) {
                return bytes("o" + std::to_string(handle - kObject0));
            };
            EXPECT_EQ(a().send(certify(one, two)),
                      response().tpm2b(content(one)).tpm2b(content(two)));
        }
}

TEST_F(Moves, SessionsStayWhereverTheyAreNamed) {
    build({.objects = 1});
    const TPM2_HANDLE key = object(a(), "key");
    object(b(), "other");
    std::vector<TPM2_HANDLE> s;
    for (int i = 0; i < 6; ++i) s.push_back(session(a()));
    for (size_t i = 0; i < s.size(); ++i)
        a().send(policyCommandCode(s[i], 0x100 + static_cast<uint32_t>(i)));
    const auto at = [&](size_t i) { return s[i % s.size()]; };
    for (size_t i = 0; i < 12; ++i) {
        const Packet policySecret = command(TPM2_CC_PolicySecret)
                                        .handle(key)
                                        .handle(at(i))
                                        .auth({{at(i + 1)}, {at(i + 3)}});
        Bytes digest;
        append(digest, 0x100 + i % s.size(), 4);
        EXPECT_EQ(a().send(policySecret), response().tpm2b(digest));
    }
}

TEST_F(Moves, ThePersistentObjectsOfACommandHaveSlotsToo) {
    build({.objects = 2});
    const TPM2_HANDLE one = object(a(), "one"), two = object(a(), "two");
    EXPECT_EQ(a().send(readPublic(kPersistent)), named("persistent"));
    EXPECT_EQ(a().send(certify(one, kPersistent)),
              response().tpm2b(bytes("one")).tpm2b(bytes("persistent")));
    EXPECT_EQ(a().send(certify(kPersistent, two)),
              response().tpm2b(bytes("persistent")).tpm2b(bytes("two")));
    EXPECT_EQ(codeOf(a().send(certify(kPersistent, kPersistent))), TPM2_RC_SUCCESS);
    a().send(readPublic(one)), a().send(readPublic(two));
    tpm().takeSent();
    a().send(readPublic(kPersistent));
    EXPECT_EQ(sentCodes(), (Codes{kFlush, kRead})) << "known beforehand";
}

TEST_F(Moves, CreateHasASlotToWorkIn) {
    build({.objects = 2});
    const TPM2_HANDLE parent = object(a(), "parent");
    object(b(), "one"), object(b(), "two");
    const Packet make = command(TPM2_CC_Create).handle(parent).auth({password()}).tpm2b().tpm2b();
    for (int i = 0; i < 3; ++i) {
        EXPECT_EQ(a().send(make), named("created"));
        EXPECT_EQ(a().send(loadChild(parent, "child")).length(), 21u);
        b().send(readPublic(kObject0)), b().send(readPublic(kObject1));
    }
    a().send(readPublic(parent)), b().send(readPublic(kObject0));
    tpm().takeSent();
    a().send(make);
    EXPECT_EQ(sentCodes(), (Codes{kFlush, TPM2_CC_Create})) << "known beforehand";
}

// ---- Slots

TEST_F(Moves, OnceKnownTheSlotsAreNotAskedAgain) {
    build({.objects = 2});
    for (int i = 0; i < 3; ++i) object(a(), "object");
    tpm().takeSent();
    object(a(), "object");
    EXPECT_EQ(sentCodes(), (Codes{kSave, kFlush, TPM2_CC_CreatePrimary}));
}

TEST_F(Moves, SlotsThatOthersLeaveAreFoundAgain) {
    build({.objects = 3});
    for (int i = 0; i < 3; ++i) object(a(), "object");
    a().send(flushContext(kObject2));
    tpm().occupySlots(1);
    object(a(), "object");
    for (int i = 0; i < 3; ++i) EXPECT_EQ(a().send(readPublic(kObject0 + i)), named("object"));
    tpm().freeSlots(1);
    for (int i = 0; i < 300; ++i) a().send(readPublic(kObject0 + i % 3));
    tpm().takeSent();
    for (int i = 0; i < 3; ++i) a().send(readPublic(kObject0 + i));
    EXPECT_EQ(sentCodes(), (Codes{kRead, kRead, kRead}));
}

/// They were never seen free.
TEST_F(Moves, SlotsThatOthersHadFromTheStartAreFound) {
    build({.objects = 1});
    for (int i = 0; i < 3; ++i) object(a(), "object");
    tpm().freeSlots(2);
    for (int i = 0; i < 300; ++i) a().send(readPublic(kObject0 + i % 3));
    tpm().takeSent();
    for (int i = 0; i < 30; ++i) a().send(readPublic(kObject0 + i % 3));
    EXPECT_EQ(sentCodes(), Codes(30, kRead));
}

/// To see that there is no more room costs a command and its moves, ever more seldom.
TEST_F(Moves, ATpmThatStaysSmallIsHardlyAskedForMore) {
    constexpr size_t kRounds = 10000;
    build({.objects = 1, .sessions = 1});
    for (int i = 0; i < 2; ++i) object(a(), "object"), session(a());
    for (const auto& name : {readPublic, policyGetDigest}) {
        const TPM2_HANDLE first = name == readPublic ? kObject0 : 0x03000000;
        for (TPM2_HANDLE i = 0; i < 4; ++i) a().send(name(first + i % 2));
        const size_t before = tpm().sent;
        for (TPM2_HANDLE i = 0; i < kRounds; ++i) a().send(name(first + i % 2));
        EXPECT_LE(tpm().sent - before, 3 * kRounds + 16);
    }
}

TEST_F(Moves, SlotsThatLeftoversHadAreUsed) {
    build({}, {.leftovers = tpm::Leftovers::Policy::Flush});
    for (int i = 0; i < 3; ++i)
        tpm().sendBehind(create("leftover")), tpm().sendBehind(startPolicy());
    for (int i = 0; i < 3; ++i) object(a(), "object"), session(a());
    tpm().takeSent();
    for (int i = 0; i < 3; ++i) {
        EXPECT_EQ(a().send(readPublic(kObject0 + i)), named("object"));
        EXPECT_EQ(a().send(policyGetDigest(0x03000000 + i)), response().tpm2b());
    }
    EXPECT_EQ(tpm().takeSent().size(), 6u) << "all are there";
}

TEST_F(Moves, AfterStartupAllSlotsAreUsed) {
    build({.objects = 1});
    object(a(), "object"), object(a(), "object");
    tpm().powerCycle();
    tpm().freeSlots(2);  // of others
    EXPECT_EQ(a().send(startup(TPM2_SU_CLEAR)), response());
    tpm().takeSent();
    for (int i = 0; i < 3; ++i) object(a(), "object");
    EXPECT_EQ(sentCodes(), Codes(3, TPM2_CC_CreatePrimary));
}

TEST_F(Moves, AtMostSoManyAsTheUserSays) {
    build({.objects = 7, .sessions = 7}, {.objects = 2, .sessions = 1});
    for (int i = 0; i < 4; ++i) object(a(), "object"), session(a());
    EXPECT_EQ(tpm().loadedObjects(), 2u);
    EXPECT_EQ(tpm().loadedSessions(), 1u);
    for (int i = 0; i < 8; ++i) {
        a().send(readPublic(kObject0 + i % 4)), a().send(policyGetDigest(0x03000000 + i % 4));
        EXPECT_EQ(tpm().loadedObjects(), 2u);
        EXPECT_EQ(tpm().loadedSessions(), 1u);
    }
    // What one command names comes first, and only for as long.
    EXPECT_EQ(codeOf(a().send(unseal(kObject0, {{0x03000000}, {0x03000001}, {0x03000002}}))),
              TPM2_RC_SUCCESS);
    EXPECT_EQ(tpm().loadedSessions(), 3u);
    session(a());
    EXPECT_EQ(tpm().loadedSessions(), 1u);
}

TEST_F(Moves, OneSlotAtMostStillServesTwoObjects) {
    build({}, {.objects = 1});
    object(a(), "one"), object(a(), "two");
    EXPECT_EQ(tpm().loadedObjects(), 1u);
    EXPECT_EQ(a().send(certify(kObject0, kObject1)),
              response().tpm2b(bytes("one")).tpm2b(bytes("two")));
}

// ---- Sessions

TEST_F(Moves, SessionsLeaveByContextSaveAlone) {
    build({.sessions = 2});
    const TPM2_HANDLE one = session(a()), two = session(b());
    tpm().takeSent();
    const TPM2_HANDLE three = session(a());
    EXPECT_EQ(sentCodes(), (Codes{TPM2_CC_StartAuthSession, kSave, TPM2_CC_StartAuthSession}));
    for (int i = 0; i < 20; ++i)
        for (const TPM2_HANDLE each : {one, three})
            EXPECT_EQ(a().send(policyCommandCode(each, i)), response());
    EXPECT_EQ(b().send(policyGetDigest(two)), response().tpm2b());
    for (const Packet& each : tpm().takeSent()) EXPECT_NE(wire::get32(&each.all()[6]), kFlush);
}

TEST_F(Moves, ASessionEndsWhereverItIs) {
    build({.sessions = 2});
    std::vector<TPM2_HANDLE> s;
    for (int i = 0; i < 4; ++i) s.push_back(session(a()));
    EXPECT_EQ(codeOf(a().send(unseal(kPersistent, {{s[0], 0}}))), TPM2_RC_SUCCESS);
    EXPECT_EQ(a().send(policyGetDigest(s[0])), response(0x910));
    EXPECT_EQ(a().send(flushContext(s[1])), response());
    EXPECT_EQ(a().send(policyGetDigest(s[1])), response(0x910));
    EXPECT_EQ(a().send(policyGetDigest(s[2])), response().tpm2b());
    EXPECT_EQ(a().send(policyGetDigest(s[3])), response().tpm2b());
}

TEST_F(Moves, TheSlotOfASessionThatEndedIsFree) {
    build({}, {.sessions = 1});
    const TPM2_HANDLE ended = session(a());
    EXPECT_EQ(codeOf(a().send(unseal(kPersistent, {{ended, 0}}))), TPM2_RC_SUCCESS);
    tpm().takeSent();
    session(a());
    EXPECT_EQ(sentCodes(), Codes{TPM2_CC_StartAuthSession});
}

/// HMAC and policy sessions share their numbers: one that is named with the other type is brought
/// in and stays in, for the TPM to refuse.
TEST_F(Moves, ASessionIsKnownByItsNumberAlone) {
    build({.sessions = 2});
    const TPM2_HANDLE one = session(a()), two = session(a()), three = session(a());
    const auto otherTypeOf = [](TPM2_HANDLE session) {
        return TPM2_HMAC_SESSION_FIRST + wire::indexOf(session);
    };
    EXPECT_EQ(a().send(policyGetDigest(otherTypeOf(one))), response(0x18B));
    EXPECT_EQ(a().send(policyGetDigest(two)), response().tpm2b());
    // Of these two, the one used again and again would stay.
    for (int i = 0; i < 8; ++i) EXPECT_EQ(a().send(policyGetDigest(three)), response().tpm2b());
    tpm().takeSent();
    EXPECT_EQ(a().send(command(TPM2_CC_PolicySecret)
                           .handle(TPM2_RH_OWNER)
                           .handle(otherTypeOf(two))
                           .auth({{one}})),
              response(0x28B));
    EXPECT_EQ(sentCodes(), (Codes{kSave, kLoad, TPM2_CC_PolicySecret}));
}

TEST_F(Moves, MoreSessionsThanSlotsInOneCommand) {
    build();
    const TPM2_HANDLE key = object(a(), "key");
    std::vector<TPM2_HANDLE> s;
    for (int i = 0; i < 4; ++i) s.push_back(session(a()));
    const size_t before = tpm().sent;
    EXPECT_EQ(a().send(command(TPM2_CC_GetSessionAuditDigest)
                           .handle(TPM2_RH_ENDORSEMENT)
                           .handle(key)
                           .handle(s[3])
                           .auth({{s[0]}, {s[1]}, {s[2]}})),
              response(0x903));
    EXPECT_LE(tpm().sent - before, 10u);
    for (const TPM2_HANDLE each : s) EXPECT_EQ(a().send(policyGetDigest(each)), response().tpm2b());
    const Packet start = command(TPM2_CC_StartAuthSession)
                             .handle(TPM2_RH_NULL)
                             .handle(TPM2_RH_NULL)
                             .auth({{s[0]}, {s[1]}, {s[2]}})
                             .tpm2b(Bytes(16));
    EXPECT_EQ(a().send(start), response(0x903));
    for (const TPM2_HANDLE each : s) EXPECT_EQ(a().send(policyGetDigest(each)), response().tpm2b());
}

// ---- Anything

/// A small generator, the same everywhere.
class Random {
  public:
    explicit Random(uint32_t seed) : state_(seed) {}
    uint32_t below(size_t limit) {
        state_ = state_ * 1664525 + 1013904223;
        return static_cast<uint32_t>((state_ >> 8) % limit);
    }

  private:
    uint32_t state_;
};

/// Two spaces on a TPM of few slots, and two of the same commands on one where all fits.
class AnyScript : public testing::TestWithParam<size_t> {
  protected:
    AnyScript()
        : small_({.objects = GetParam(), .sessions = GetParam(), .gap = 100}),
          large_({.objects = 1000, .sessions = 1000}, {}, "private", World::Swaps::No) {}

    void send(bool first, const Packet& command) {
        const Packet swapped = (first ? small_.a : small_.b)->send(command);
        const Packet plain = (first ? large_.a : large_.b)->send(command);
        const bool context = wire::get32(&command.all()[6]) == kSave;  // it has another number
        EXPECT_EQ(context ? response(codeOf(swapped)) : swapped,
                  context ? response(codeOf(plain)) : plain)
            << command;
    }
    Packet any(Random& random) {
        const TPM2_HANDLE object = kObject0 + random.below(6), other = kObject0 + random.below(6);
        const TPM2_HANDLE session = 0x03000000 + random.below(8);
        const uint8_t attributes = random.below(8) == 0 ? 0 : 1;
        switch (random.below(GetParam() > 1 ? 11 : 10)) {
            case 0:
                return create("o" + std::to_string(random.below(100)), TPM2_RH_OWNER);
            case 1:
                return random.below(2) ? hashSequenceStart() : startPolicy();
            case 2:
                return sequenceUpdate(object, "data");
            case 3:
                return random.below(4) ? sequenceUpdate(object, "more") : sequenceComplete(object);
            case 4:
                return random.below(3) ? readPublic(object) : flushContext(object);
            case 5:
                return random.below(3) ? policyCommandCode(session, 5) : flushContext(session);
            case 6:
                return policyGetDigest(session);
            case 7:
                return unseal(object, {{session, attributes}});
            case 8:
                return random.below(20) ? readPublic(object) : clear();
            case 9:
                return contextSave(object);
            default:
                return certify(object, other);
        }
    }

    World small_, large_;
};

TEST_P(AnyScript, IsAnsweredAsByATpmWhereAllFits) {
    Random random(static_cast<uint32_t>(GetParam()));
    for (int i = 0; i < 3000 && !HasFailure(); ++i) {
        const bool first = random.below(2) == 0;
        send(first, any(random));
    }
    small_.close();
    large_.close();
    EXPECT_EQ(small_.tpm.loadedObjects(), 0u);
    EXPECT_EQ(small_.tpm.loadedSessions() + small_.tpm.savedSessions(), 0u);
    EXPECT_GT(small_.tpm.sent, large_.tpm.sent) << "nothing was moved";
}

INSTANTIATE_TEST_SUITE_P(Slots, AnyScript, testing::Values(1, 2, 3, 7));

// ---- Over a resource manager

/// One that moves everything that is loaded for each command, and drops everything at the gap.
class Managed : public testing::Test {
  protected:
    void TearDown() override { world.close(); }

    size_t movesFor(const std::function<void()>& work) {
        world.tpm.takeSent();
        work();
        const Packets sent = world.tpm.takeSent();
        return static_cast<size_t>(std::count_if(sent.begin(), sent.end(), isMove));
    }

    World world{{}, {}, "device:/dev/tpmrm0"};
    Client& a = *world.a;
};

TEST_F(Managed, WhatItCanHoldIsLeftToIt) {
    std::vector<TPM2_HANDLE> objects, sessions;
    for (int i = 0; i < 3; ++i) {
        objects.push_back(handleOf(a.send(create("object" + std::to_string(i)))));
        sessions.push_back(handleOf(a.send(startPolicy())));
    }
    EXPECT_EQ(movesFor([&] {
                  for (int round = 0; round < 3; ++round)
                      for (size_t i = 0; i < 3; ++i)
                          a.send(readPublic(objects[i])), a.send(policyGetDigest(sessions[i]));
              }),
              0u);
}

TEST_F(Managed, BeyondThatItHoldsOneOfEachKind) {
    std::vector<TPM2_HANDLE> objects;
    for (int i = 0; i < 4; ++i)
        objects.push_back(handleOf(a.send(create("object" + std::to_string(i)))));
    for (const TPM2_HANDLE object : objects) {
        EXPECT_EQ(codeOf(a.send(readPublic(object))), TPM2_RC_SUCCESS);
        EXPECT_LE(world.tpm.loadedObjects(), object == objects[0] ? 3u : 1u);
    }
    a.send(flushContext(objects[0]));
    for (size_t i = 1; i < 4; ++i) a.send(readPublic(objects[i]));
    EXPECT_EQ(world.tpm.loadedObjects(), 3u) << "three again";
}

/// It flushes what was loaded through a connection when that ends.
TEST_F(Managed, NothingIsMovedForWhatWentWithTheConnection) {
    std::vector<TPM2_HANDLE> gone;
    for (int i = 0; i < 3; ++i) {
        gone.push_back(handleOf(a.send(create("gone"))));
        gone.push_back(handleOf(a.send(startPolicy())));
    }
    world.tpm.fate = [](const Packet&) {
        return ModelTpm::Fate{.receiveFails = TSS2_TCTI_RC_IO_ERROR};
    };
    EXPECT_EQ(codeOf(a.send(getRandom())), TPM2_RC{0xB0101});
    world.tpm.fate = nullptr;
    for (const TPM2_HANDLE each : gone) world.tpm.flushBehind(each);
    EXPECT_EQ(movesFor([&] {
                  for (int i = 0; i < 3; ++i) a.send(create("new")), a.send(startPolicy());
              }),
              0u);
}

/// It saves the loaded session for each command, without our seeing it.
TEST_F(Managed, AnIdleSessionIsRenewedInTime) {
    const TPM2_HANDLE idle = handleOf(a.send(startPolicy()));
    EXPECT_EQ(codeOf(a.send(contextSave(idle))), TPM2_RC_SUCCESS);
    const TPM2_HANDLE busy = handleOf(a.send(startPolicy()));
    const size_t moves = movesFor([&] {
        for (int i = 0; i < 1000; ++i) a.send(policyGetDigest(busy));
    });
    EXPECT_GE(moves, 2u * 4) << "a ContextLoad and a ContextSave each time";
    EXPECT_LE(moves, 2u * 6);
}

/// A command that names all the sessions that can be loaded leaves no room for a renewal, and is
/// not refused for that.
TEST_F(Managed, AnIdleSessionIsRenewedWhenThereIsRoom) {
    for (const size_t slots : {3u, 8u}) {  // the manager refuses a fourth, or must not be asked
        world.close();
        World managed({.sessions = slots}, {}, "device:/dev/tpmrm1");
        Client& client = *managed.a;
        const TPM2_HANDLE idle = handleOf(client.send(startPolicy()));
        const Packet saved = client.send(contextSave(idle));
        std::vector<TPM2_HANDLE> busy;
        for (int i = 0; i < 3; ++i) busy.push_back(handleOf(client.send(startPolicy())));
        const Packet all = command(TPM2_CC_ReadPublic)
                               .handle(handleOf(client.send(create("object"))))
                               .auth({{busy[0]}, {busy[1]}, {busy[2]}});
        managed.tpm.fate = [&](const Packet&) {
            EXPECT_LE(managed.tpm.loadedSessions(), 3u);
            return ModelTpm::Fate{};
        };
        for (int i = 0; i < 300; ++i) ASSERT_EQ(codeOf(client.send(all)), TPM2_RC_SUCCESS);
        managed.tpm.takeSent();
        EXPECT_EQ(codeOf(client.send(policyGetDigest(busy[0]))), TPM2_RC_SUCCESS);
        const Packets sent = managed.tpm.takeSent();
        EXPECT_EQ(std::count(sent.begin(), sent.end(), contextSave(idle)), 1) << "renewed";
        managed.tpm.fate = nullptr;
        managed.close();
    }
}

}  // namespace
}  // namespace spaces::test
