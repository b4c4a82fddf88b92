/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Hierarchies and power in a space: what one space does to a hierarchy happens to all spaces, as
 * it would to all users of one TPM, and each space sees it as the owner of a private TPM would.
 * What always holds here: an object that the TPM flushed is gone from every list and never stands
 * for another one that got its slot.
 */
#include <algorithm>
#include <functional>

#include "shared_and_private.h"

namespace spaces::test {
namespace {

constexpr TPM2_HANDLE kPersistent = 0x81000001;

/** A way to make an object, and the hierarchy that it then belongs to. */
struct Kind {
    const char* name;
    TPM2_RH hierarchy;
    Command make;

    bool isSequence() const { return make.code() == TPM2_CC_HashSequenceStart; }
    Command use(TPM2_HANDLE object) const {
        return isSequence() ? sequenceUpdate(object, "data") : readPublic(object);
    }
};

const std::vector<Kind>& kinds() {
    static const std::vector<Kind> all = {
        {"owner", TPM2_RH_OWNER, createPrimary(TPM2_RH_OWNER)},
        {"endorsement", TPM2_RH_ENDORSEMENT, createPrimary(TPM2_RH_ENDORSEMENT)},
        {"platform", TPM2_RH_PLATFORM, createPrimary(TPM2_RH_PLATFORM)},
        {"null", TPM2_RH_NULL, createPrimary(TPM2_RH_NULL)},
        {"external in owner", TPM2_RH_OWNER, loadExternalEcc(TPM2_RH_OWNER)},
        {"external in null", TPM2_RH_NULL, loadExternalEcc(TPM2_RH_NULL)},
        {"sequence", TPM2_RH_NULL, hashSequenceStart()}};
    return all;
}

/** One object of the kind in each of two spaces and in the private TPM, and a session each: then A
 *  sends the command.  What it hits is gone everywhere, the rest goes on, and the next object gets
 *  the lowest free handle. */
void expectHit(const Kind& kind, const Command& command, bool hit) {
    SCOPED_TRACE(kind.name);
    SharedAndPrivate tpms;
    for (Client* client : {&tpms.a, &tpms.b, &tpms.own})
        EXPECT_EQ(hex(handle(client->ok(kind.make))), hex(kFirst));
    const TPM2_HANDLE hmacOfA = handle(tpms.both(startAuthSession()));
    tpms.own.ok(flushContext(hmacOfA));
    const TPM2_HANDLE policyOfB = handle(tpms.b.ok(startAuthSession(TPM2_SE_POLICY)));
    tpms.b.ok(policyCommandCode(policyOfB, TPM2_CC_Unseal));
    const Bytes digest = tpms.b.ok(policyGetDigest(policyOfB));

    EXPECT_EQ(hex(tpms.bothCode(command)), hex(0u));

    const TPM2_RC expected = hit ? 0x910 : 0;
    for (Client* client : {&tpms.a, &tpms.b, &tpms.own}) {
        EXPECT_EQ(handles(*client, kFirst), hit ? Handles{} : Handles{kFirst});
        EXPECT_EQ(hex(rc(client->send(kind.use(kFirst)))), hex(expected));
    }
    EXPECT_EQ(handles(tpms.a, kLoaded), Handles{hmacOfA});
    EXPECT_EQ(handles(tpms.b, kLoaded), Handles{policyOfB});
    EXPECT_EQ(hex(tpms.b.ok(policyGetDigest(policyOfB))), hex(digest));
    const Bytes next =
        tpms.a.send(createPrimary(TPM2_RH_NULL).noAuth().session(hmacOfA, Bytes(16)));
    ASSERT_EQ(hex(rc(next)), hex(0u));
    EXPECT_EQ(hex(handle(next)), hex(hit ? kFirst : kSecond));
    EXPECT_EQ(hex(handle(tpms.own.ok(createPrimary(TPM2_RH_NULL)))), hex(hit ? kFirst : kSecond));
}

void expectHits(const Command& command, const std::vector<TPM2_RH>& hierarchies) {
    for (const Kind& kind : kinds())
        expectHit(
            kind, command,
            std::find(hierarchies.begin(), hierarchies.end(), kind.hierarchy) != hierarchies.end());
}

TEST(IsolationHierarchy, Clear) { expectHits(clear(), {TPM2_RH_OWNER, TPM2_RH_ENDORSEMENT}); }

TEST(IsolationHierarchy, ClearByPlatform) {
    expectHits(clear(TPM2_RH_PLATFORM), {TPM2_RH_OWNER, TPM2_RH_ENDORSEMENT});
}

TEST(IsolationHierarchy, ChangePps) { expectHits(changePps(), {TPM2_RH_PLATFORM}); }

TEST(IsolationHierarchy, ChangeEps) { expectHits(changeEps(), {TPM2_RH_ENDORSEMENT}); }

TEST(IsolationHierarchy, DisableEach) {
    for (TPM2_RH hierarchy : {TPM2_RH_OWNER, TPM2_RH_ENDORSEMENT, TPM2_RH_PLATFORM})
        expectHits(hierarchyControl(hierarchy, false), {hierarchy});
}

TEST(IsolationHierarchy, EnableHitsNothing) {
    expectHits(hierarchyControl(TPM2_RH_OWNER, true), {});
    expectHits(hierarchyControl(TPM2_RH_PLATFORM_NV, false), {});
}

TEST(IsolationHierarchy, RefusedClearHitsNothing) {
    SharedAndPrivate tpms;
    for (Client* client : {&tpms.a, &tpms.b, &tpms.own}) client->ok(createPrimary());
    tpms.both(Command(TPM2_CC_ClearControl).handle(TPM2_RH_LOCKOUT).password().u8(TPM2_YES));
    EXPECT_EQ(hex(tpms.bothCode(clear())), hex(0x120u));  // DISABLED
    EXPECT_EQ(hex(tpms.bothCode(hierarchyControl(TPM2_RH_OWNER, false, TPM2_RH_ENDORSEMENT))),
              hex(0x124u));  // AUTH_TYPE
    for (Client* client : {&tpms.a, &tpms.b, &tpms.own}) {
        EXPECT_EQ(handles(*client, kFirst), Handles{kFirst});
        client->ok(readPublic(kFirst));
    }
}

/** Loads a child of the key; only the TPM knows its hierarchy when the parent is persistent. */
TPM2_HANDLE loadChild(Client& client, TPM2_HANDLE parent) {
    const Created made = created(client.ok(create(parent, hmacKey())));
    return handle(client.ok(load(parent, made.outPrivate, made.outPublic)));
}

TEST_F(Isolation, ClearFlushesChildrenToo) {
    for (Client* client : {&a, &own}) {
        client->ok(createPrimary());
        loadChild(*client, kFirst);
        client->ok(flushContext(kFirst));
    }
    b.ok(createPrimary(TPM2_RH_NULL));
    b.ok(clear());
    own.ok(clear());
    EXPECT_EQ(hex(bothCode(readPublic(kSecond))), hex(0x910u));
    EXPECT_EQ(handles(a, kFirst), Handles{});
    EXPECT_EQ(handles(b, kFirst), Handles{kFirst});
    EXPECT_EQ(hex(handle(both(createPrimary(TPM2_RH_NULL)))), hex(kFirst));
}

/** Makes the child of a persistent key the client's only object. */
TPM2_HANDLE loadChildOfPersistent(Client& client) {
    client.ok(createPrimary());
    client.ok(evictControl(kFirst, kPersistent));
    client.ok(flushContext(kFirst));
    return loadChild(client, kPersistent);
}

TEST_F(Isolation, ClearFlushesChildrenOfPersistentKeys) {
    const TPM2_HANDLE child = loadChildOfPersistent(a), alone = loadChildOfPersistent(own);
    b.ok(createPrimary(TPM2_RH_NULL));
    b.ok(clear());
    own.ok(clear());
    EXPECT_EQ(hex(rc(a.send(readPublic(child)))), hex(0x910u));
    EXPECT_EQ(hex(rc(own.send(readPublic(alone)))), hex(0x910u));
    EXPECT_EQ(handles(a, kFirst), Handles{});
    EXPECT_EQ(handles(b, kFirst), Handles{kFirst});
}

TEST_F(Isolation, OtherHierarchiesKeepChildrenOfPersistentKeys) {
    const TPM2_HANDLE child = loadChildOfPersistent(a), alone = loadChildOfPersistent(own);
    for (const Command& command :
         {changePps(), changeEps(), hierarchyControl(TPM2_RH_PLATFORM_NV, false),
          hierarchyControl(TPM2_RH_ENDORSEMENT, false),
          hierarchyControl(TPM2_RH_PLATFORM, false)}) {
        SCOPED_TRACE(hex(command));
        b.ok(command);
        own.ok(command);
        EXPECT_EQ(hex(rc(a.send(readPublic(child)))), hex(0u));
        EXPECT_EQ(hex(rc(own.send(readPublic(alone)))), hex(0u));
        EXPECT_EQ(handles(a, kFirst), Handles{child});
    }
}

TEST_F(Isolation, DisableAndEnable) {
    Bytes saved[2];
    for (int i = 0; i < 2; i++) {
        Client& client = i == 0 ? a : own;
        client.ok(createPrimary());
        saved[i] = context(client.ok(contextSave(kFirst)));
        client.ok(hierarchyControl(TPM2_RH_OWNER, false));
        EXPECT_EQ(hex(rc(client.send(contextLoad(saved[i])))), hex(0x1C5u));
        client.ok(hierarchyControl(TPM2_RH_OWNER, true));
        EXPECT_EQ(hex(rc(client.send(readPublic(kFirst)))), hex(0x910u));
        EXPECT_EQ(handles(client, kFirst), Handles{});
        EXPECT_EQ(hex(handle(client.ok(contextLoad(saved[i])))), hex(kFirst));
        client.ok(readPublic(kFirst));
    }
}

TEST_F(Isolation, Disabled) {
    Bytes saved[2];
    for (int i = 0; i < 2; i++) {
        Client& client = i == 0 ? a : own;
        client.ok(createPrimary());
        saved[i] = context(client.ok(contextSave(kFirst)));
        client.ok(evictControl(kFirst, kPersistent));
    }
    b.ok(hierarchyControl(TPM2_RH_OWNER, false));
    own.ok(hierarchyControl(TPM2_RH_OWNER, false));
    EXPECT_EQ(hex(rc(a.send(contextLoad(saved[0])))), hex(0x1C5u));
    EXPECT_EQ(hex(rc(own.send(contextLoad(saved[1])))), hex(0x1C5u));
    EXPECT_EQ(hex(bothCode(readPublic(kPersistent))), hex(0x18Bu));
    EXPECT_EQ(hex(bothCode(createPrimary())), hex(0x185u));
    EXPECT_EQ(hex(bothCode(readPublic(kFirst))), hex(0x910u));
    EXPECT_EQ(hex(bothCode(flushContext(kFirst))), hex(0x1CBu));
    EXPECT_EQ(hex(bothCode(certify(kPersistent, kFirst))), hex(0x18Bu));
}

TEST_F(Isolation, StaleSlotReuse) {
    a.ok(createPrimary());
    b.ok(hierarchyControl(TPM2_RH_OWNER, false));
    const Bytes made = b.ok(createPrimary(TPM2_RH_NULL));
    EXPECT_EQ(residue(shared), "transient " + hex(kFirst));  // it is in the slot that A's was in
    EXPECT_EQ(hex(rc(a.send(readPublic(kFirst)))), hex(0x910u));
    EXPECT_EQ(hex(rc(a.send(flushContext(kFirst)))), hex(0x1CBu));
    EXPECT_EQ(handles(a, kFirst), Handles{});
    a.close();
    EXPECT_EQ(hex(publicName(b.ok(readPublic(kFirst)))), hex(primaryName(made)));
}

TEST_F(Isolation, StaleSlotReuseUnseen) {
    a.ok(createPrimary());
    const TPM2_HANDLE session = handle(a.ok(startAuthSession()));
    {
        Client stranger = Client::bare(shared);
        stranger.ok(flushContext(kFirst));
        stranger.ok(flushContext(session));
    }
    const Bytes made = b.ok(createPrimary());
    EXPECT_EQ(handle(b.ok(startAuthSession(TPM2_SE_POLICY))), session | TPM2_POLICY_SESSION_FIRST);
    EXPECT_EQ(hex(rc(a.send(readPublic(kFirst)))), hex(0x910u));
    EXPECT_EQ(hex(rc(a.send(policyGetDigest(session | TPM2_POLICY_SESSION_FIRST)))), hex(0x910u));
    EXPECT_EQ(handles(a, kLoaded), Handles{});
    a.close();
    EXPECT_EQ(hex(publicName(b.ok(readPublic(kFirst)))), hex(primaryName(made)));
    b.ok(policyGetDigest(session | TPM2_POLICY_SESSION_FIRST));
}

TEST_F(Isolation, FlushedByAStranger) {
    makeObjects(a, 2);
    b.ok(createPrimary());
    Client::bare(shared).ok(flushContext(kFirst));
    if (capped()) {
        // A's first has a context, so nothing is lost, whosever object the stranger flushed.
        EXPECT_EQ(hex(rc(a.send(readPublic(kFirst)))), hex(0u));
    } else {
        EXPECT_EQ(hex(rc(a.send(readPublic(kFirst)))), hex(0x910u));
        EXPECT_EQ(handles(a, kFirst), Handles{kSecond});
        b.ok(readPublic(kFirst));
    }
    a.ok(readPublic(kSecond));
}

// ---- Sixty-four sessions for everybody

/** Starts a session and takes it out of the TPM's loaded ones, `count` times. */
std::vector<Bytes> startAndSave(Client& client, int count) {
    std::vector<Bytes> contexts;
    for (int i = 0; i < count; i++) {
        const TPM2_HANDLE session = handle(client.ok(startAuthSession()));
        contexts.push_back(context(client.ok(contextSave(session))));
    }
    return contexts;
}

TEST_F(Isolation, SixtyFourSessions) {
    const std::vector<Bytes> ofA = startAndSave(a, 40), ofB = startAndSave(b, 24);
    startAndSave(own, 64);
    EXPECT_EQ(hex(bothCode(startAuthSession())), hex(0x905u));
    EXPECT_EQ(hex(rc(b.send(startAuthSession()))), hex(0x905u));
    EXPECT_EQ(handles(a, kSaved).size(), 40u);
    EXPECT_EQ(handles(b, kSaved).size(), 24u);
    for (const Bytes& saved : ofA) a.ok(flushContext(handle(a.ok(contextLoad(saved)))));
    for (const Bytes& saved : ofB) b.ok(flushContext(handle(b.ok(contextLoad(saved)))));
    EXPECT_EQ(residue(shared), "");
    EXPECT_EQ(hex(handle(a.ok(startAuthSession()))), hex(TPM2_HMAC_SESSION_FIRST));
}

TEST_F(Isolation, SixtyFourSessionsWithThreeLoaded) {
    startAndSave(b, 30);
    startAndSave(a, 31);
    startAndSave(own, 61);
    for (int i = 0; i < 3; i++) both(startAuthSession());
    // With room for more loaded ones, the next is one more than there can be at all.
    EXPECT_EQ(hex(rc(a.send(startAuthSession()))), hex(swapping() ? 0x905u : 0x903u));
    EXPECT_EQ(hex(rc(own.send(startAuthSession()))), hex(0x903u));
    const Handles loaded = handles(a, kLoaded);
    EXPECT_EQ(loaded.size(), 3u);
    EXPECT_EQ(handles(a, kSaved).size(), 31u);
    EXPECT_EQ(handles(b, kLoaded), Handles{});
    EXPECT_EQ(handles(b, kSaved).size(), 30u);
    for (Client* client : {&a, &b})
        for (TPM2_HANDLE session : handles(*client, kSaved)) client->ok(flushContext(session));
}

// ---- Power

/** What a client has before the power goes: two objects, a loaded and a saved session. */
struct Before {
    TPM2_HANDLE loaded;
    TPM2_HANDLE saved;
    Bytes object, session;  // their contexts

    explicit Before(Client& client) {
        client.ok(createPrimary());
        client.ok(createPrimary(TPM2_RH_NULL));
        saved = handle(client.ok(startAuthSession(TPM2_SE_POLICY)));
        loaded = handle(client.ok(startAuthSession()));
        object = context(client.ok(contextSave(kFirst)));
        session = context(client.ok(contextSave(saved)));
    }
};

/** What was loaded is gone for the client.  It sees as saved what it had saved, or nothing. */
void expectLost(Client& client, const Before& before, bool savedLives) {
    const TPM2_HANDLE listed = TPM2_HMAC_SESSION_FIRST + (before.saved & 0xFFFFFF);
    EXPECT_EQ(handles(client, kFirst), Handles{});
    EXPECT_EQ(handles(client, kLoaded), Handles{});
    EXPECT_EQ(handles(client, kSaved), savedLives ? Handles{listed} : Handles{});
    EXPECT_EQ(property(client.ok(getCapability(TPM2_CAP_TPM_PROPERTIES, TPM2_PT_HR_ACTIVE))),
              savedLives ? 1u : 0u);
    for (TPM2_HANDLE object : {kFirst, kSecond}) {
        EXPECT_EQ(hex(rc(client.send(readPublic(object)))), hex(0x910u));
        EXPECT_EQ(hex(rc(client.send(flushContext(object)))), hex(0x1CBu));
    }
    EXPECT_EQ(hex(rc(client.send(createPrimary().noAuth().session(before.loaded)))), hex(0x918u));
    EXPECT_EQ(hex(rc(client.send(policyGetDigest(before.saved)))), hex(0x910u));
}

/** What the contexts are worth afterwards, and what the next handles are. */
void expectNewLife(Client& client, const Before& before, bool contextsLive) {
    if (contextsLive) {
        EXPECT_EQ(hex(handle(client.ok(contextLoad(before.session)))), hex(before.saved));
        client.ok(policyGetDigest(before.saved));
        client.ok(flushContext(before.saved));
        EXPECT_EQ(hex(handle(client.ok(contextLoad(before.object)))), hex(kFirst));
        client.ok(readPublic(kFirst));
    } else {
        EXPECT_EQ(hex(rc(client.send(contextLoad(before.session)))), hex(0x1DFu));
        EXPECT_EQ(hex(rc(client.send(contextLoad(before.object)))), hex(0x1DFu));
        EXPECT_EQ(hex(handle(client.ok(createPrimary()))), hex(kFirst));
    }
    EXPECT_EQ(hex(handle(client.ok(startAuthSession()))), hex(TPM2_HMAC_SESSION_FIRST));
}

/** Shutdown, power, Startup; A speaks for both spaces.  `shutdown` may be left out. */
void expectCycle(const std::function<void(Client&)>& shutdown, TPM2_SU startupType, bool live) {
    SharedAndPrivate tpms;
    const Before ofA(tpms.a), alone(tpms.own);
    tpms.b.ok(createPrimary());
    const TPM2_HANDLE sessionOfB = handle(tpms.b.ok(startAuthSession()));
    for (Client* client : {&tpms.a, &tpms.own}) shutdown(*client);
    tpms.resetBoth(AfterReset::none);
    EXPECT_EQ(hex(tpms.bothCode(startup(startupType))), hex(0u));
    EXPECT_EQ(residue(tpms.shared), live ? "saved session 0x2000000" : "");

    expectLost(tpms.a, ofA, live);
    expectLost(tpms.own, alone, live);
    EXPECT_EQ(hex(rc(tpms.b.send(readPublic(kFirst)))), hex(0x910u));
    EXPECT_EQ(hex(rc(tpms.b.send(createPrimary().noAuth().session(sessionOfB)))), hex(0x918u));
    EXPECT_EQ(handles(tpms.b, kSaved), Handles{});
    expectNewLife(tpms.a, ofA, live);
    expectNewLife(tpms.own, alone, live);
}

TEST(IsolationPower, Resume) {
    expectCycle([](Client& client) { client.ok(shutdown(TPM2_SU_STATE)); }, TPM2_SU_STATE, true);
}

TEST(IsolationPower, Restart) {
    expectCycle([](Client& client) { client.ok(shutdown(TPM2_SU_STATE)); }, TPM2_SU_CLEAR, true);
}

TEST(IsolationPower, Reset) {
    expectCycle([](Client&) {}, TPM2_SU_CLEAR, false);
    expectCycle([](Client& client) { client.ok(shutdown(TPM2_SU_CLEAR)); }, TPM2_SU_CLEAR, false);
    expectCycle(
        [](Client& client) {
            client.ok(shutdown(TPM2_SU_STATE));
            client.ok(shutdown(TPM2_SU_CLEAR));
        },
        TPM2_SU_CLEAR, false);
}

// A ContextSave after Shutdown voids the state that was saved: the TPM cannot resume any more.
TEST_F(Isolation, ContextSaveAfterShutdown) {
    const Before ofA(a), alone(own);
    for (Client* client : {&a, &own}) {
        client->ok(shutdown(TPM2_SU_STATE));
        client->ok(contextSave(kFirst));
    }
    resetBoth(AfterReset::none);
    EXPECT_EQ(hex(bothCode(startup(TPM2_SU_STATE))), hex(0x1C4u));
    EXPECT_EQ(hex(bothCode(startup())), hex(0u));
    expectLost(a, ofA, false);
    expectLost(own, alone, false);
}

TEST_F(Isolation, CloseAfterShutdown) {
    b.ok(createPrimary());
    b.ok(startAuthSession());
    a.ok(shutdown(TPM2_SU_STATE));
    b.close();
    shared.reset(AfterReset::none);
    EXPECT_EQ(hex(rc(a.send(startup(TPM2_SU_STATE)))), hex(0u));
}

TEST_F(Isolation, StartupTwice) {
    both(createPrimary());
    EXPECT_EQ(hex(bothCode(startup())), hex(0x100u));
    EXPECT_EQ(hex(bothCode(readPublic(kFirst))), hex(0u));
}

TEST_F(Isolation, ResetUnderOurFeet) {
    for (Client* client : {&a, &own}) {
        makeObjects(*client, 2);
        client->ok(startAuthSession());
    }
    resetBoth();
    size_t mark = shared.commandCount();
    EXPECT_EQ(hex(bothCode(readPublic(kFirst))), hex(0x910u));
    EXPECT_LE(shared.commandCount() - mark, 4u);  // it, and a look at each of the other two
    EXPECT_EQ(hex(bothCode(readPublic(kSecond))), hex(0x910u));
    EXPECT_EQ(hex(bothCode(createPrimary().noAuth().session(TPM2_HMAC_SESSION_FIRST))),
              hex(0x918u));
    EXPECT_EQ(handles(a, kFirst), Handles{});
    EXPECT_EQ(handles(a, kLoaded), Handles{});
    EXPECT_EQ(hex(handle(both(createPrimary()))), hex(kFirst));
    EXPECT_EQ(hex(bothCode(readPublic(kFirst))), hex(0u));
    EXPECT_EQ(hex(handle(both(startAuthSession()))), hex(TPM2_HMAC_SESSION_FIRST));
}

// What the TPM's own list lacks is not in the space's either.
TEST_F(Isolation, ResetUnderOurFeetEndsSavedSessions) {
    for (Client* client : {&a, &own})
        client->ok(contextSave(handle(client->ok(startAuthSession()))));
    resetBoth();
    EXPECT_EQ(alike([](Client& client) { return handles(client, kSaved); }), Handles{});
}

TEST_F(Isolation, ResetAndAnotherSpaceTakesTheSlots) {
    a.ok(createPrimary());
    const TPM2_HANDLE session = handle(a.ok(startAuthSession()));
    shared.reset();
    const Bytes made = b.ok(createPrimary());
    EXPECT_EQ(handle(b.ok(startAuthSession())), session);
    EXPECT_EQ(hex(rc(a.send(readPublic(kFirst)))), hex(0x910u));
    EXPECT_EQ(hex(rc(a.send(createPrimary().noAuth().session(session)))), hex(0x918u));
    a.close();
    EXPECT_EQ(hex(publicName(b.ok(readPublic(kFirst)))), hex(primaryName(made)));
    EXPECT_EQ(handles(b, kLoaded), Handles{session});
    b.ok(flushContext(session));
}

TEST_F(Isolation, ResetSeenAndAStrangerTakesTheSlots) {
    a.ok(createPrimary());
    const TPM2_HANDLE session = handle(a.ok(startAuthSession()));
    shared.reset(AfterReset::none);
    EXPECT_EQ(hex(rc(a.send(getRandom()))), hex(0x100u));
    Client stranger = Client::bare(shared);
    stranger.ok(startup());
    stranger.ok(createPrimary());
    EXPECT_EQ(handle(stranger.ok(startAuthSession())), session);
    EXPECT_EQ(hex(rc(a.send(readPublic(kFirst)))), hex(0x910u));
    a.close();
    stranger.ok(readPublic(kFirst));
    stranger.ok(flushContext(kFirst));
    stranger.ok(flushContext(session));
}

TEST_F(Isolation, BeforeStartup) {
    for (Client* client : {&a, &own}) {
        client->ok(createPrimary());
        client->ok(startAuthSession());
    }
    b.ok(createPrimary());
    resetBoth(AfterReset::none);
    // Own handles, foreign ones, none: all the same.
    for (TPM2_HANDLE object : {kFirst, kSecond, kPersistent}) {
        EXPECT_EQ(hex(bothCode(readPublic(object))), hex(0x100u));
        EXPECT_EQ(hex(bothCode(flushContext(object))), hex(0x100u));
        EXPECT_EQ(hex(bothCode(contextSave(object))), hex(0x100u));
        EXPECT_EQ(hex(rc(b.send(certify(object, kFirst)))), hex(0x100u));
    }
    EXPECT_EQ(hex(bothCode(createPrimary().noAuth().session(TPM2_HMAC_SESSION_FIRST))),
              hex(0x100u));
    EXPECT_EQ(hex(bothCode(createPrimary().noAuth().session(0x02000005))), hex(0x100u));
    EXPECT_EQ(hex(bothCode(getCapability(TPM2_CAP_HANDLES, kFirst))), hex(0x100u));
    both(startup());
    for (Client* client : {&a, &b, &own}) {
        EXPECT_EQ(handles(*client, kFirst), Handles{});
        EXPECT_EQ(handles(*client, kLoaded), Handles{});
        EXPECT_EQ(handles(*client, kSaved), Handles{});
    }
    EXPECT_EQ(hex(handle(both(createPrimary()))), hex(kFirst));
}

TEST_F(Isolation, BeforeStartupEveryCommand) {
    resetBoth(AfterReset::none);
    int known = 0;
    for (TPM2_CC code = TPM2_CC_FIRST; code <= TPM2_CC_LAST + 8; code++) {
        if (code == TPM2_CC_Startup) continue;
        for (Command command : {Command(code), Command(code).u32(kFirst).u32(kFirst).u32(kFirst),
                                Command(code).tag(TPM2_ST_SESSIONS)}) {
            const TPM2_RC answer = bothCode(command);
            EXPECT_TRUE(answer == 0x100u || answer == 0x143u) << hex(command);
            known += answer == 0x100u;
        }
    }
    EXPECT_GT(known, 300);
    both(startup());
}

}  // namespace
}  // namespace spaces::test
