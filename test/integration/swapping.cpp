// SPDX-License-Identifier: BSD-2-Clause
//
// Swapping over a real TPM, with three slots for objects and three for loaded sessions: spaces that
// hold more of both are answered as a private TPM with room enough would answer.
//
// What always holds here: nothing is said about who leaves the TPM, only about what clients see and
// which commands the layer may send; and when the spaces have closed, the TPM is empty. Every test
// also holds for spaces that may use only some of the slots: $SPACES_TEST_OPTIONS says how many.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "support/client.h"
#include "support/command.h"
#include "support/crypto.h"
#include "support/response.h"
#include "support/session.h"
#include "support/simulator.h"

namespace spaces::test {
namespace {

constexpr TPM2_HANDLE kFirst = TPM2_TRANSIENT_FIRST, kSecond = kFirst + 1, kThird = kFirst + 2;
constexpr TPM2_HANDLE kLoaded = TPM2_LOADED_SESSION_FIRST, kSaved = TPM2_ACTIVE_SESSION_FIRST;
constexpr TPM2_HANDLE kPersistent = 0x81000001, kUndefined = 0x81000002;
constexpr int kPcr = 16;
constexpr uint8_t kContinue = TPMA_SESSION_CONTINUESESSION;
constexpr uint8_t kAudit = kContinue | TPMA_SESSION_AUDIT;

using Handles = std::vector<TPM2_HANDLE>;

/** The same command, authorised by a session without an HMAC: the auth value is empty. */
Command with(Command command, TPM2_HANDLE session, uint8_t attributes = kContinue) {
    return command.noAuth().session(session, {}, attributes);
}

/** A command that needs three sessions in the TPM at once. */
Command withThreeSessions(const Handles& sessions) {
    return Command(TPM2_CC_GetCommandAuditDigest)
        .handle(TPM2_RH_ENDORSEMENT)
        .handle(TPM2_RH_NULL)
        .session(sessions[0])
        .session(sessions[1])
        .session(sessions[2], {}, kAudit)
        .tpm2b()
        .u16(TPM2_ALG_NULL);
}

/** An object whose answers can be computed: an HMAC key that is known. */
struct Key {
    std::string secret;
    TPM2_HANDLE object;
    Bytes name;

    Key(Client& client, const std::string& itsSecret, const std::string& auth = "")
        : secret(itsSecret) {
        const Bytes made = client.ok(loadExternalHmac(secret, auth));
        object = handle(made);
        name = parameters(made, 1).tpm2b();
    }
    Bytes mac(const std::string& data) const { return hmacSha256(bytes(secret), bytes(data)); }
    void expectUsable(Client& client) const {
        EXPECT_EQ(hex(parameters(client.ok(hmac(object, "data"))).tpm2b()), hex(mac("data")));
    }
};

std::vector<Key> makeKeys(Client& client, int count, const std::string& auth = "") {
    std::vector<Key> keys;
    for (int i = 0; i < count; i++) keys.emplace_back(client, "key " + std::to_string(i), auth);
    return keys;
}

Handles startSessions(Client& client, int count, TPM2_SE type = TPM2_SE_HMAC) {
    Handles sessions;
    for (int i = 0; i < count; i++) sessions.push_back(handle(client.ok(startAuthSession(type))));
    return sessions;
}

Bytes policyDigest(Client& client, TPM2_HANDLE policy) {
    return parameters(client.ok(policyGetDigest(policy))).tpm2b();
}

class Swapping : public testing::Test {
  protected:
    void TearDown() override {
        a.close();
        b.close();
        EXPECT_EQ(residue(sim), "");
    }

    /** B needs every slot of the TPM for a while.  Who leaves for that is the policy's choice;
     * tests that must have something moved hold more than the TPM can. */
    void crowd() {
        const std::vector<Key> keys = makeKeys(b, 3);
        const Handles sessions = startSessions(b, 3);
        for (const Key& key : keys) key.expectUsable(b);
        for (const Key& key : keys) b.ok(flushContext(key.object));
        b.ok(withThreeSessions(sessions));
        for (TPM2_HANDLE session : sessions) b.ok(flushContext(session));
    }

    /** The code that A is answered. */
    std::string answer(const Bytes& command) { return hex(rc(a.send(command))); }

    size_t countOf(TPM2_CC code, size_t mark = 0) {
        const std::vector<TPM2_CC> codes = sim.commandCodes(mark);
        return static_cast<size_t>(std::count(codes.begin(), codes.end(), code));
    }

    Simulator sim;
    Simulator own;  ///< for a client that is alone
    Client a = Client::space(sim), b = Client::space(sim);
};

// ---- Objects

// Handles are the lowest free ones, however many there are.
TEST_F(Swapping, FirstHandle) {
    const auto make = [](Client& client) { return handle(client.ok(loadExternalEcc())); };
    for (uint32_t i = 0; i < 6; i++) EXPECT_EQ(hex(make(a)), hex(kFirst + i));
    EXPECT_EQ(hex(make(b)), hex(kFirst));
    for (TPM2_HANDLE hole : {kThird, kFirst + 4, kFirst}) a.ok(flushContext(hole));
    EXPECT_EQ(handles(a, kFirst), (Handles{kSecond, kFirst + 3, kFirst + 5}));
    for (TPM2_HANDLE hole : {kFirst, kThird, kFirst + 4, kFirst + 6})
        EXPECT_EQ(hex(make(a)), hex(hole));
    a.ok(flushContext(kFirst + 6));
    EXPECT_EQ(answer(flushContext(kFirst + 6)), hex(0x1CBu));
    EXPECT_EQ(handles(b, kFirst), Handles{kFirst});
}

// The cpHash of an HMAC session covers the objects' Names.
TEST_F(Swapping, TenObjects) {
    const std::vector<Key> keys = makeKeys(a, 10, "auth");
    Session session = Session::start(a);
    for (int round = 0; round < 3; round++)
        for (uint32_t i = 0; i < 10; i++) {
            EXPECT_EQ(hex(keys[i].object), hex(kFirst + i));
            const Bytes answer =
                session.authorize(a, hmac(keys[i].object, "data"), "auth", {keys[i].name});
            ASSERT_EQ(hex(rc(answer)), hex(0u));
            EXPECT_EQ(hex(parameters(answer).tpm2b()), hex(keys[i].mac("data")));
        }
    EXPECT_EQ(handles(a, kFirst).size(), 10u);
}

// A clean object is saved once in its life.
TEST_F(Swapping, ThreeAndThree) {
    struct Owner {
        Client& client;
        std::string text;
        std::vector<Key> keys;
        TPM2_HANDLE data;
    };
    std::vector<Owner> owners;
    for (Client* client : {&a, &b}) {
        const std::string text = client == &a ? "A's" : "B's";
        const TPM2_HANDLE parent = handle(client->ok(createPrimary(TPM2_RH_NULL)));
        const Created box = created(client->ok(create(parent, sealed(), "", text)));
        const TPM2_HANDLE data = handle(client->ok(load(parent, box.outPrivate, box.outPublic)));
        owners.push_back({*client, text, {Key(*client, text)}, data});
    }
    for (int i = 0; i < 500; i++)
        for (Owner& each : owners) {
            const std::string message = std::to_string(i);
            ASSERT_EQ(parameters(each.client.ok(hmac(each.keys[0].object, message))).tpm2b(),
                      each.keys[0].mac(message));
            ASSERT_EQ(parameters(each.client.ok(unseal(each.data))).tpm2b(), bytes(each.text));
        }
    EXPECT_LE(countOf(TPM2_CC_ContextSave), 6u);
}

TEST_F(Swapping, SequenceInterleave) {
    std::vector<std::string> texts(5);
    for (uint32_t i = 0; i < 5; i++) EXPECT_EQ(handle(a.ok(hashSequenceStart())), kFirst + i);
    for (int round = 0; round < 6; round++)
        for (uint32_t i = 0; i < 5; i++) {
            const std::string chunk = std::to_string(round) + "-" + std::to_string(i) + ";";
            texts[i] += chunk;
            a.ok(sequenceUpdate(kFirst + i, chunk));
        }
    for (uint32_t i = 0; i < 5; i++)
        EXPECT_EQ(hex(parameters(a.ok(sequenceComplete(kFirst + i))).tpm2b()),
                  hex(sha256(bytes(texts[i]))));
    EXPECT_EQ(handles(a, kFirst), Handles{});
}

// A sequence that refuses an update, or is saved by its client, goes on as it was.
TEST_F(Swapping, SequencesAndTheirContexts) {
    a.ok(hashSequenceStart("auth"));
    a.ok(sequenceUpdate(kFirst, "ab", "auth"));
    const Bytes saved = context(a.ok(contextSave(kFirst)));
    a.ok(sequenceUpdate(kFirst, "c", "auth"));
    crowd();
    EXPECT_EQ(answer(sequenceUpdate(kFirst, "d", "wrong")), hex(0x9A2u));
    crowd();
    EXPECT_EQ(handle(a.ok(contextLoad(saved))), kSecond);
    crowd();
    const auto complete = [&](TPM2_HANDLE sequence, const std::string& data) {
        return hex(parameters(a.ok(sequenceComplete(sequence, data, "auth"))).tpm2b());
    };
    EXPECT_EQ(complete(kSecond, "x"), hex(sha256(bytes("abx"))));
    crowd();
    EXPECT_EQ(complete(kFirst, "d"), hex(sha256(bytes("abcd"))));
    EXPECT_EQ(answer(sequenceComplete(kFirst, "", "auth")), hex(0x910u));
}

// Create makes no object, but needs a slot to work in.
TEST_F(Swapping, CreateWithThreeLoaded) {
    const auto fill = [](Client& client) {
        client.ok(createPrimary());
        for (int i = 0; i < 2; i++) client.ok(loadExternalEcc());
    };
    Simulator full;
    Client alone = Client::bare(full);
    fill(alone);
    EXPECT_EQ(hex(rc(alone.send(create(kFirst)))), hex(0x902u));
    fill(a);
    const Created made = created(a.ok(create(kFirst)));
    EXPECT_EQ(handle(a.ok(load(kFirst, made.outPrivate, made.outPublic))), kFirst + 3);
    EXPECT_EQ(answer(sign(kFirst + 3)), hex(0u));
}

TEST_F(Swapping, PersistentUnderPressure) {
    const Bytes primary = a.ok(createPrimary(TPM2_RH_OWNER, eccSigning()));
    a.ok(evictControl(kFirst, kPersistent));
    for (Client* client : {&a, &b}) makeKeys(*client, 3);
    for (Client* client : {&a, &b}) {
        EXPECT_EQ(hex(publicName(client->ok(readPublic(kPersistent)))), hex(primaryName(primary)));
        EXPECT_EQ(hex(rc(client->send(readPublic(kUndefined)))), hex(0x18Bu));
    }
    EXPECT_EQ(answer(certify(kFirst, kPersistent)), hex(0u));
    EXPECT_EQ(answer(certify(kPersistent, kPersistent)), hex(0u));
}

/** Rewrap of rubbish from the parent to itself: its parents are both found before it is. */
Command rewrap(TPM2_HANDLE parent) {
    return Command(TPM2_CC_Rewrap)
        .handle(parent)
        .handle(parent)
        .password()
        .tpm2b(Bytes(64))
        .tpm2b(Bytes(34))
        .tpm2b(Bytes(64));
}

TEST_F(Swapping, SameObjectTwice) {
    const TPM2_HANDLE parent = handle(a.ok(createPrimary()));
    const TPM2_HANDLE signer = handle(a.ok(createPrimary(TPM2_RH_OWNER, eccSigning())));
    const Created made = created(a.ok(create(parent, hmacKey())));
    const TPM2_HANDLE child = handle(a.ok(load(parent, made.outPrivate, made.outPublic)));
    const Command changeAuth =
        Command(TPM2_CC_ObjectChangeAuth).handle(child).handle(parent).password().tpm2b("new");
    Client private_ = Client::bare(own);
    private_.ok(createPrimary());
    const auto expectLoads = [&](const Command& command, TPM2_RC code, size_t loads) {
        crowd();
        const size_t mark = sim.commandCount();
        EXPECT_EQ(answer(command), hex(code));
        EXPECT_LE(countOf(TPM2_CC_ContextLoad, mark), loads) << hex(command);
    };
    expectLoads(certify(signer, signer), 0, 1);
    expectLoads(changeAuth, 0, 2);
    expectLoads(rewrap(parent), rc(private_.send(rewrap(kFirst))), 1);
}

TEST_F(Swapping, ContextLoadUnderPressure) {
    const std::vector<Key> ofA = makeKeys(a, 3), ofB = makeKeys(b, 3);
    const Bytes saved = context(a.ok(contextSave(kSecond)));
    EXPECT_EQ(handle(a.ok(contextLoad(saved))), kFirst + 3);
    EXPECT_EQ(handle(b.ok(contextLoad(saved))), kFirst + 3);
    for (Client* client : {&a, &b}) {
        const Bytes mac = parameters(client->ok(hmac(kFirst + 3, "data"))).tpm2b();
        EXPECT_EQ(hex(mac), hex(ofA[1].mac("data")));
    }
    for (const Key& key : ofA) key.expectUsable(a);
    for (const Key& key : ofB) key.expectUsable(b);
}

// An object that a command has failed to bring in is still there for the next one.
TEST_F(Swapping, FailuresChangeNothing) {
    std::vector<Key> keys = makeKeys(a, 6, "auth");
    const TPM2_HANDLE gone = keys.back().object;
    a.ok(flushContext(gone));
    keys.pop_back();
    const TPM2_HANDLE policy = startSessions(a, 1, TPM2_SE_POLICY)[0];
    for (const Key& key : keys) {
        EXPECT_EQ(answer(hmac(key.object, "data", "wrong")), hex(0x9A2u));
        EXPECT_EQ(answer(hmac(key.object, "data", "auth").truncate(30)), hex(0x095u));
        EXPECT_EQ(answer(certify(key.object, gone)), hex(0x911u));
        EXPECT_EQ(answer(certify(gone, key.object)), hex(0x910u));
        EXPECT_EQ(answer(certify(key.object, kLoaded)), hex(0x284u));
        EXPECT_EQ(answer(policyGetDigest(policy)), hex(0u));
    }
    for (const Key& key : keys) EXPECT_EQ(answer(hmac(key.object, "data", "auth")), hex(0u));
}

// An object context has a counter of its own: saving objects brings no session nearer to the gap.
// TheGap in gap.cpp is what happens when sessions are saved as often.
TEST(SwappingWithoutRecord, SeventyThousandEvictions) {
    Simulator sim(Record::nothing);
    Client a = Client::space(sim, "objects=1"), b = Client::space(sim, "objects=1");
    const TPM2_HANDLE session = startSessions(a, 1)[0];
    const Bytes saved = context(a.ok(contextSave(session)));
    const TPM2_HANDLE ofA = handle(a.ok(hashSequenceStart()));
    const TPM2_HANDLE ofB = handle(b.ok(hashSequenceStart()));
    constexpr int kRounds = 35000;  // in each of them two sequences leave that have changed
    for (int i = 0; i < kRounds; i++) {
        ASSERT_EQ(hex(rc(a.send(sequenceUpdate(ofA, "a")))), hex(0u)) << i;
        ASSERT_EQ(hex(rc(b.send(sequenceUpdate(ofB, "b")))), hex(0u)) << i;
    }
    EXPECT_EQ(hex(parameters(a.ok(sequenceComplete(ofA))).tpm2b()),
              hex(sha256(Bytes(kRounds, 'a'))));
    EXPECT_EQ(hex(parameters(b.ok(sequenceComplete(ofB))).tpm2b()),
              hex(sha256(Bytes(kRounds, 'b'))));
    EXPECT_EQ(handle(a.ok(contextLoad(saved))), session);
}

// ---- Sessions

// Each session's state, nonces and digest, is its own.
TEST_F(Swapping, TenSessions) {
    const auto steps = [](Client& client, TPM2_HANDLE policy, int number) {
        if (number % 2 == 0) client.ok(policyPcr(policy, kPcr));
        client.ok(policyCommandCode(policy, TPM2_CC_HMAC + static_cast<TPM2_CC>(number % 3)));
        if (number % 5 == 0) client.ok(policyPassword(policy));
    };
    std::vector<Session> hmacs;
    for (int i = 0; i < 4; i++) hmacs.push_back(Session::start(a, {.bind = TPM2_RH_OWNER}));
    const Handles policies = startSessions(a, 6, TPM2_SE_POLICY);
    const Key key(a, "key", "auth");
    for (int i = 0; i < 6; i++) {
        steps(a, policies[static_cast<size_t>(i)], i);
        for (Session& session : hmacs) {
            const Bytes answer = session.authorize(a, hmac(key.object, "data"), "auth", {key.name});
            EXPECT_EQ(hex(rc(answer)), hex(0u));
            EXPECT_EQ(hex(rc(session.audit(a, getRandom()))), hex(0u));
        }
    }
    Client alone = Client::bare(own);
    for (int i = 0; i < 6; i++) {
        const TPM2_HANDLE policy = startSessions(alone, 1, TPM2_SE_POLICY)[0];
        steps(alone, policy, i);
        EXPECT_EQ(hex(policyDigest(a, policies[static_cast<size_t>(i)])),
                  hex(policyDigest(alone, policy)));
        alone.ok(flushContext(policy));
    }
    EXPECT_EQ(handles(a, kLoaded).size(), 10u);
    EXPECT_EQ(handles(a, kSaved), Handles{});
}

// All the sessions that there can be, loaded as far as their clients can see.
TEST_F(Swapping, SixtyFourSessions) {
    Handles ofA = startSessions(a, 40, TPM2_SE_POLICY);
    const Handles ofB = startSessions(b, 24);
    for (Client* client : {&a, &b})
        EXPECT_EQ(hex(rc(client->send(startAuthSession()))), hex(0x905u));
    EXPECT_EQ(handles(a, kLoaded), ofA);
    EXPECT_EQ(handles(b, kLoaded), ofB);
    for (TPM2_HANDLE each : ofA) a.ok(policyCommandCode(each, TPM2_CC_Unseal));
    for (TPM2_HANDLE each : ofB) b.ok(with(createPrimary(TPM2_RH_NULL, hmacKey()), each, 0));
    ofA.push_back(handle(a.ok(startAuthSession())));
    EXPECT_EQ(handles(a, kLoaded), ofA);
    EXPECT_EQ(handles(b, kLoaded), Handles{});
}

TEST_F(Swapping, TooManySessionsInOneCommand) {
    Handles sessions = startSessions(a, 4);
    size_t mark = sim.commandCount();
    Command fourSessions = getSessionAuditDigest(TPM2_RH_NULL, sessions[3]).noAuth();
    for (size_t i = 0; i < 3; i++) fourSessions.session(sessions[i]);
    EXPECT_EQ(answer(fourSessions), hex(0x903u));
    EXPECT_LE(sim.commandCount() - mark, 20u);

    // An audit, a decryption and an encryption session, and a slot for the one that starts.
    std::vector<Session> three;
    for (int i = 0; i < 3; i++) three.push_back(Session::start(a, {.symmetric = true}));
    for (const Session& each : three) sessions.push_back(each.handle());
    mark = sim.commandCount();
    const Bytes started = sendWith(a, startAuthSession(),
                                   {{&three[0], "", kAudit},
                                    {&three[1], "", kContinue | TPMA_SESSION_DECRYPT},
                                    {&three[2], "", kContinue | TPMA_SESSION_ENCRYPT}});
    EXPECT_EQ(hex(rc(started)), hex(0x903u));
    EXPECT_LE(sim.commandCount() - mark, 20u);

    EXPECT_EQ(handles(a, kLoaded), sessions);
    for (TPM2_HANDLE each : sessions)
        EXPECT_EQ(answer(getRandom().session(each, {}, kAudit)), hex(0u));
}

// A context that was loaded once is void for ever, although the layer has saved the session since.
TEST_F(Swapping, StaleBlobVersusSwap) {
    const TPM2_HANDLE session = startSessions(a, 1)[0];
    const Bytes saved = context(a.ok(contextSave(session)));
    EXPECT_EQ(answer(getRandom().session(session, {}, kAudit)), hex(0x918u));
    a.ok(contextLoad(saved));
    const Handles others = startSessions(a, 4);
    for (int round = 0; round < 3; round++) {
        EXPECT_EQ(answer(contextLoad(saved)), hex(0x1CBu));
        for (TPM2_HANDLE each : others) a.ok(getRandom().session(each, {}, kAudit));
        EXPECT_EQ(answer(contextLoad(saved)), hex(0x1CBu));
        EXPECT_EQ(answer(getRandom().session(session, {}, kAudit)), hex(0u));
    }
}

// What the client itself saved is saved for it, and it alone can bring it back.
TEST_F(Swapping, ClientSavedSessionsStaySaved) {
    const Handles sessions = startSessions(a, 6, TPM2_SE_POLICY);
    std::vector<Bytes> contexts;
    for (size_t i = 0; i < 3; i++) contexts.push_back(context(a.ok(contextSave(sessions[i]))));
    EXPECT_EQ(handles(a, kLoaded), Handles(sessions.begin() + 3, sessions.end()));
    EXPECT_EQ(handles(a, kSaved), (Handles{kLoaded, kLoaded + 1, kLoaded + 2}));
    crowd();
    for (size_t i = 0; i < 3; i++) {
        EXPECT_EQ(answer(policyGetDigest(sessions[i])), hex(0x910u));
        EXPECT_EQ(answer(contextSave(sessions[i])), hex(0x910u));
    }
    EXPECT_EQ(handle(b.ok(contextLoad(contexts[0]))), sessions[0]);  // it moves to B
    b.ok(policyGetDigest(sessions[0]));
    EXPECT_EQ(handle(a.ok(contextLoad(contexts[1]))), sessions[1]);
    EXPECT_EQ(answer(contextLoad(contexts[0])), hex(0x1CBu));
    a.ok(flushContext(sessions[2]));
    EXPECT_EQ(answer(contextLoad(contexts[2])), hex(0x1CBu));
    EXPECT_EQ(handles(a, kLoaded), (Handles{sessions[1], sessions[3], sessions[4], sessions[5]}));
}

// The session keeps its key and knows its object, whichever slot that is in.
TEST_F(Swapping, BoundAndSaltedSession) {
    const Bytes storage = a.ok(createPrimary());
    Cursor area(parameters(storage, 1).tpm2b());
    area.bytes(area.left() - 2 * 34);  // all but the public point
    const Key bound(a, "key", "auth");
    Session session = Session::start(a, {.bind = bound.object,
                                         .bindName = bound.name,
                                         .bindAuth = "auth",
                                         .symmetric = true,
                                         .tpmKey = handle(storage),
                                         .tpmKeyX = area.tpm2b()});
    a.ok(flushContext(handle(storage)));
    const Key filler(a, "filler");  // takes the lowest number
    for (int i = 0; i < 3; i++) {
        crowd();
        const Bytes answer =
            session.authorize(a, hmac(bound.object, "data"), "auth", {bound.name},
                              kContinue | TPMA_SESSION_DECRYPT | TPMA_SESSION_ENCRYPT);
        ASSERT_EQ(hex(rc(answer)), hex(0u));
        EXPECT_EQ(hex(parameters(answer).tpm2b()), hex(bound.mac("data")));
    }
}

/** PolicySecret with an expiration: that many seconds from now on. */
Command policySecretFor(TPM2_HANDLE policy, int32_t seconds) {
    Command command = policySecret(TPM2_RH_OWNER, policy);
    command.parameters().resize(command.parameters().size() - 4);
    return command.u32(static_cast<uint32_t>(seconds));
}

/** A key that the policy opens. */
struct PolicyKey {
    TPM2_HANDLE object;
    Bytes name;

    PolicyKey(Client& client, const Bytes& digest, const std::string& auth = "") {
        const Bytes made =
            client.ok(createPrimary(TPM2_RH_NULL, policyOnly(hmacKey(), digest), auth));
        object = handle(made);
        name = primaryName(made);
    }
};

// What a policy session has noted beside its digest: that the auth value or the password is
// needed, and until when it is good.
TEST_F(Swapping, PolicyStateSurvives) {
    Session authValue = Session::start(a, TPM2_SE_POLICY);
    const Handles policies = startSessions(a, 5, TPM2_SE_POLICY);
    const TPM2_HANDLE password = policies[0], brief = policies[1], lasting = policies[2];
    const auto opening = [&](const Command& step, TPM2_HANDLE policy, const char* auth = "") {
        a.ok(step);
        return PolicyKey(a, policyDigest(a, policy), auth);
    };
    const PolicyKey one = opening(policyAuthValue(authValue.handle()), authValue.handle(), "auth");
    const PolicyKey two = opening(policyPassword(password), password, "auth");
    const PolicyKey three = opening(policySecretFor(brief, 1), brief);
    const PolicyKey four = opening(policySecretFor(lasting, 3600), lasting);
    authValue.authValueNeeded = true;

    crowd();
    EXPECT_EQ(hex(rc(authValue.authorize(a, hmac(one.object, "data"), "auth", {one.name}))),
              hex(0u));
    const Command useOfTwo = hmac(two.object, "data").noAuth();
    EXPECT_EQ(answer(Command(useOfTwo).session(password)), hex(0x9A2u));
    EXPECT_EQ(answer(Command(useOfTwo).session(password, {}, kContinue, bytes("auth"))), hex(0u));
    crowd();
    EXPECT_EQ(answer(with(hmac(four.object, "data"), lasting)), hex(0u));
    usleep(1'100'000);  // however long it takes, the time is over then
    EXPECT_EQ(answer(with(hmac(three.object, "data"), brief)), hex(0x9A3u));
}

/** Opens the hierarchy by what the session's policy is now. */
void setPrimaryPolicy(Client& client, TPM2_RH hierarchy, TPM2_HANDLE policy) {
    client.ok(Command(TPM2_CC_SetPrimaryPolicy)
                  .handle(hierarchy)
                  .password()
                  .tpm2b(policyDigest(client, policy))
                  .u16(TPM2_ALG_SHA256));
}

// Also, that it is for one command, or for one object.
TEST_F(Swapping, PolicyBindingsSurvive) {
    const Handles policies = startSessions(a, 6, TPM2_SE_POLICY);
    const TPM2_HANDLE cpHash = policies[0], nameHash = policies[1];
    Command allowed = createPrimary(TPM2_RH_OWNER, hmacKey());
    Bytes input;
    append(input, allowed.code(), 4);
    append(input, handleName(TPM2_RH_OWNER));
    append(input, allowed.parameters());
    a.ok(Command(TPM2_CC_PolicyCpHash).handle(cpHash).tpm2b(sha256(input)));
    a.ok(Command(TPM2_CC_PolicyNameHash)
             .handle(nameHash)
             .tpm2b(sha256(handleName(TPM2_RH_ENDORSEMENT))));
    setPrimaryPolicy(a, TPM2_RH_OWNER, cpHash);
    setPrimaryPolicy(a, TPM2_RH_ENDORSEMENT, nameHash);
    setPrimaryPolicy(a, TPM2_RH_PLATFORM, nameHash);

    crowd();
    EXPECT_EQ(answer(with(createPrimary(TPM2_RH_OWNER, eccSigning()), cpHash)), hex(0x99Du));
    EXPECT_EQ(answer(with(createPrimary(TPM2_RH_PLATFORM), nameHash)), hex(0x99Du));
    crowd();
    EXPECT_EQ(answer(with(allowed, cpHash)), hex(0u));
    EXPECT_EQ(answer(with(createPrimary(TPM2_RH_ENDORSEMENT), nameHash)), hex(0u));
}

// A session's nonces roll with each use, and its response is an HMAC over what the TPM has said.
TEST_F(Swapping, NoncesAcrossSpaces) {
    std::vector<Session> ofA, ofB;
    for (int i = 0; i < 3; i++) {
        ofA.push_back(Session::start(a, {.bind = TPM2_RH_OWNER}));
        ofB.push_back(Session::start(b, {.bind = TPM2_RH_OWNER}));
    }
    for (int round = 0; round < 5; round++)
        for (size_t i = 0; i < 3; i++) {
            EXPECT_EQ(hex(rc(ofA[i].audit(a, getRandom()))), hex(0u));
            EXPECT_EQ(hex(rc(ofB[i].audit(b, getRandom()))), hex(0u));
            const Command twoSessions = createPrimary(TPM2_RH_NULL, hmacKey());
            const Bytes made = sendWith(a, twoSessions, {{&ofA[0]}, {&ofA[1], "", kAudit}});
            EXPECT_EQ(hex(rc(made)), hex(0u));
            a.ok(flushContext(handle(made)));
        }
    const TPM2_HANDLE ended = ofA[2].handle();
    EXPECT_EQ(hex(rc(ofA[2].audit(a, getRandom(), {}, TPMA_SESSION_AUDIT))), hex(0u));
    EXPECT_EQ(answer(getRandom().session(ended, {}, kAudit)), hex(0x918u));
}

// ---- Audit

/** What the TPM attests of an audit session, without a signature. */
struct SessionAudit {
    bool exclusive;
    Bytes digest;

    SessionAudit(Client& client, TPM2_HANDLE session) {
        const Bytes answer = client.ok(getSessionAuditDigest(TPM2_RH_NULL, session));
        Cursor attest(parameters(answer).tpm2b());
        attest.bytes(4 + 2);   // magic, type
        attest.tpm2b();        // qualifiedSigner
        attest.tpm2b();        // extraData
        attest.bytes(17 + 8);  // clockInfo, firmwareVersion
        exclusive = attest.u8() != 0;
        digest = attest.tpm2b();
    }
};

/** The digest after one more audited command. */
Bytes extended(Bytes digest, Command command, const std::vector<Bytes>& names,
               const Bytes& response) {
    Bytes asked, answered;
    append(asked, command.code(), 4);
    for (const Bytes& name : names) append(asked, name);
    append(asked, command.parameters());
    append(answered, TPM2_RC_SUCCESS, 4);
    append(answered, command.code(), 4);
    append(answered, parameters(response, responseHandles(command.code())).rest());
    append(digest, sha256(asked));
    append(digest, sha256(answered));
    return sha256(digest);
}

// Swapping is no command of anybody's: the session stays exclusive even when it has been out
// itself. An ordinary command of another space is one.
TEST_F(Swapping, ExclusiveAuditInvisibleToSwap) {
    const std::vector<Key> keys = makeKeys(a, 5);
    startSessions(a, 5);
    Session session = Session::start(a);
    EXPECT_EQ(hex(rc(session.audit(a, getRandom()))), hex(0u));
    Session other = Session::start(b);  // is not exclusive: it comes too late, but ends the status
    EXPECT_EQ(hex(rc(session.audit(a, getRandom(), {}, kAudit | TPMA_SESSION_AUDITEXCLUSIVE))),
              hex(0x121u));
    EXPECT_EQ(hex(rc(session.audit(a, getRandom(), {}, kAudit | TPMA_SESSION_AUDITRESET))),
              hex(0u));
    for (int round = 0; round < 3; round++)
        for (const Key& key : keys) {
            const Bytes answer = session.audit(a, readPublic(key.object), {key.name},
                                               kAudit | TPMA_SESSION_AUDITEXCLUSIVE);
            ASSERT_EQ(hex(rc(answer)), hex(0u));
            EXPECT_EQ(answer.at(answer.size() - 35), 0x83);  // before the HMAC
        }
    b.ok(readPublic(handle(b.ok(loadExternalEcc()))));
    EXPECT_EQ(hex(rc(session.audit(a, getRandom(), {}, kAudit | TPMA_SESSION_AUDITEXCLUSIVE))),
              hex(0x121u));
}

// The session itself leaves between its uses, by commands that end no exclusive status.
TEST_F(Swapping, ExclusiveAuditSurvivesItsOwnSwap) {
    Session session = Session::start(a);
    std::vector<Bytes> contexts;
    for (TPM2_HANDLE each : startSessions(b, 4))
        contexts.push_back(context(b.ok(contextSave(each))));
    EXPECT_EQ(hex(rc(session.audit(a, getRandom()))), hex(0u));
    for (const Bytes& saved : contexts) b.ok(contextLoad(saved));
    EXPECT_EQ(hex(rc(session.audit(a, getRandom(), {}, kAudit | TPMA_SESSION_AUDITEXCLUSIVE))),
              hex(0u));
}

TEST_F(Swapping, AuditDigest) {
    Session session = Session::start(a);
    Bytes digest(32);
    for (int i = 0; i < 5; i++) {
        const Key key(a, std::to_string(i));
        const Bytes response = session.audit(a, readPublic(key.object), {key.name});
        ASSERT_EQ(hex(rc(response)), hex(0u));
        digest = extended(digest, readPublic(key.object), {key.name}, response);
        crowd();
    }
    EXPECT_EQ(hex(SessionAudit(a, session.handle()).digest), hex(digest));
}

// The answer is under an HMAC, so it is the TPM's own word about what is in its slots.
TEST_F(Swapping, AuditedGetCapability) {
    makeKeys(a, 5);
    Session session = Session::start(a);
    const Command command = getCapability(TPM2_CAP_HANDLES, kFirst, TPM2_MAX_CAP_HANDLES);
    const Bytes response = session.audit(a, command);  // verifies the HMAC
    ASSERT_EQ(hex(rc(response)), hex(0u));
    EXPECT_EQ(hex(SessionAudit(a, session.handle()).digest),
              hex(extended(Bytes(32), command, {}, response)));
    EXPECT_EQ(handles(a, kFirst).size(), 5u);
}

TEST_F(Swapping, EncryptSessionIsThePolicySessionItself) {
    Session policy = Session::start(a, {.type = TPM2_SE_POLICY, .symmetric = true});
    a.ok(policyCommandCode(policy.handle(), TPM2_CC_Unseal));
    const Bytes plain = policyDigest(a, policy.handle());
    startSessions(a, 4);
    crowd();
    const Bytes last = policy.audit(a, policyGetDigest(policy.handle()), {}, TPMA_SESSION_ENCRYPT);
    ASSERT_EQ(hex(rc(last)), hex(0u));
    EXPECT_EQ(hex(parameters(last).tpm2b()), hex(plain));
    EXPECT_EQ(answer(policyGetDigest(policy.handle())), hex(0x910u));
    EXPECT_EQ(handles(a, kLoaded).size(), 4u);
}

// ---- Hierarchies

struct Kind {
    TPM2_RH hierarchy;
    Command make;
    Command use(TPM2_HANDLE object) const {
        const bool sequence = make.code() == TPM2_CC_HashSequenceStart;
        return sequence ? sequenceUpdate(object, "data") : readPublic(object);
    }
};

std::vector<Kind> kinds() {
    return {{TPM2_RH_OWNER, createPrimary()},
            {TPM2_RH_ENDORSEMENT, createPrimary(TPM2_RH_ENDORSEMENT)},
            {TPM2_RH_PLATFORM, createPrimary(TPM2_RH_PLATFORM)},
            {TPM2_RH_NULL, createPrimary(TPM2_RH_NULL)},
            {TPM2_RH_OWNER, loadExternalEcc(TPM2_RH_OWNER)},
            {TPM2_RH_NULL, loadExternalEcc(TPM2_RH_NULL)},
            {TPM2_RH_NULL, hashSequenceStart()}};
}

/** Two spaces have an object of each kind, most of them swapped out, when A sends the commands:
 *  what the hierarchies hold is gone in both, and nothing else. */
void expectHit(const std::vector<Command>& commands, const std::vector<TPM2_RH>& hierarchies) {
    SCOPED_TRACE(hex(commands[0]));
    Simulator sim;
    Client a = Client::space(sim), b = Client::space(sim);
    const auto isHit = [&](const Kind& kind) {
        return std::count(hierarchies.begin(), hierarchies.end(), kind.hierarchy) != 0;
    };
    Handles left;
    for (TPM2_HANDLE next = kFirst; const Kind& kind : kinds()) {
        for (Client* client : {&a, &b}) EXPECT_EQ(hex(handle(client->ok(kind.make))), hex(next));
        if (!isHit(kind)) left.push_back(next);
        next++;
    }
    const Handles ofA = startSessions(a, 3), ofB = startSessions(b, 3, TPM2_SE_POLICY);
    for (const Command& command : commands) a.ok(command);
    for (Client* client : {&a, &b}) {
        EXPECT_EQ(handles(*client, kFirst), left);
        for (TPM2_HANDLE next = kFirst; const Kind& kind : kinds()) {
            EXPECT_EQ(hex(rc(client->send(kind.use(next)))), hex(isHit(kind) ? 0x910u : 0u));
            next++;
        }
    }
    for (TPM2_HANDLE each : ofA) a.ok(getRandom().session(each, {}, kAudit));
    for (TPM2_HANDLE each : ofB) b.ok(policyGetDigest(each));
    a.close();
    b.close();
    EXPECT_EQ(residue(sim), "");
}

TEST(SwappingHierarchy, Clear) { expectHit({clear()}, {TPM2_RH_OWNER, TPM2_RH_ENDORSEMENT}); }
TEST(SwappingHierarchy, ChangePps) { expectHit({changePps()}, {TPM2_RH_PLATFORM}); }
TEST(SwappingHierarchy, ChangeEps) { expectHit({changeEps()}, {TPM2_RH_ENDORSEMENT}); }

// The contexts of a disabled hierarchy's objects would load again once it is enabled.
TEST(SwappingHierarchy, DisableAndEnable) {
    for (TPM2_RH each : {TPM2_RH_OWNER, TPM2_RH_ENDORSEMENT})
        expectHit({hierarchyControl(each, false), hierarchyControl(each, true)}, {each});
    expectHit({hierarchyControl(TPM2_RH_PLATFORM_NV, false)}, {});
}

// Only the TPM knows the hierarchy of a persistent key's child.
TEST_F(Swapping, ClearFlushesChildrenOfPersistentKeys) {
    a.ok(createPrimary());
    a.ok(evictControl(kFirst, kPersistent));
    a.ok(flushContext(kFirst));
    const Created made = created(a.ok(create(kPersistent, hmacKey())));
    Handles children;
    for (int i = 0; i < 5; i++)
        children.push_back(handle(a.ok(load(kPersistent, made.outPrivate, made.outPublic))));
    b.ok(clear());
    for (TPM2_HANDLE each : children) EXPECT_EQ(answer(readPublic(each)), hex(0x910u));
    EXPECT_EQ(handles(a, kFirst), Handles{});
}

TEST_F(Swapping, ClientsContextOutlivesDisableAndEnable) {
    a.ok(createPrimary());
    const Bytes saved = context(a.ok(contextSave(kFirst)));
    crowd();
    b.ok(hierarchyControl(TPM2_RH_OWNER, false));
    EXPECT_EQ(answer(contextLoad(saved)), hex(0x1C5u));
    EXPECT_EQ(answer(readPublic(kFirst)), hex(0x910u));
    b.ok(hierarchyControl(TPM2_RH_OWNER, true));
    EXPECT_EQ(answer(readPublic(kFirst)), hex(0x910u));
    EXPECT_EQ(handle(a.ok(contextLoad(saved))), kFirst);
    a.ok(readPublic(kFirst));
}

// ---- Power

// After Shutdown nothing may be saved any more, or the TPM could not resume: what is clean can
// still move, and what would have to be saved stays.
TEST_F(Swapping, ShutdownThenPressure) {
    const std::vector<Key> keys = makeKeys(a, 5);
    for (const Key& key : keys) key.expectUsable(a);
    const Handles sessions = startSessions(a, 5);
    b.ok(hashSequenceStart());
    a.ok(shutdown(TPM2_SU_STATE));
    const size_t mark = sim.commandCount();
    for (const Key& key : keys) a.send(hmac(key.object, "data"));
    for (TPM2_HANDLE each : sessions) a.send(getRandom().session(each, {}, kAudit));
    b.send(sequenceUpdate(kFirst, "data"));
    b.send(createPrimary());
    b.send(startAuthSession());
    b.close();
    EXPECT_EQ(countOf(TPM2_CC_ContextSave, mark), 0u);
    sim.reset(AfterReset::none);
    EXPECT_EQ(answer(startup(TPM2_SU_STATE)), hex(0u));
    EXPECT_EQ(handles(a, kFirst), Handles{});
    EXPECT_EQ(handles(a, kLoaded), Handles{});
}

/** What clients find when the TPM comes back with its saved state: only what they had saved. */
void expectRestart(TPM2_SU type) {
    Simulator sim;
    Client a = Client::space(sim), b = Client::space(sim);
    const std::vector<Key> keys = makeKeys(a, 5);
    const TPM2_HANDLE saved = startSessions(a, 1, TPM2_SE_POLICY)[0];
    const Handles ofA = startSessions(a, 3), ofB = startSessions(b, 3);
    const Bytes session = context(a.ok(contextSave(saved)));
    a.ok(shutdown(TPM2_SU_STATE));
    sim.reset(AfterReset::none);
    a.ok(startup(type));
    EXPECT_EQ(residue(sim), "saved session 0x2000000");
    for (Client* client : {&a, &b}) {
        EXPECT_EQ(handles(*client, kFirst), Handles{});
        EXPECT_EQ(handles(*client, kLoaded), Handles{});
        EXPECT_EQ(handles(*client, kSaved), client == &a ? Handles{kLoaded} : Handles{});
    }
    for (const Key& key : keys) EXPECT_EQ(hex(rc(a.send(readPublic(key.object)))), hex(0x910u));
    for (TPM2_HANDLE each : ofA)
        EXPECT_EQ(hex(rc(a.send(getRandom().session(each, {}, kAudit)))), hex(0x918u));
    for (TPM2_HANDLE each : ofB)
        EXPECT_EQ(hex(rc(b.send(getRandom().session(each, {}, kAudit)))), hex(0x918u));
    EXPECT_EQ(handle(a.ok(contextLoad(session))), saved);
    a.ok(policyGetDigest(saved));
    for (const Key& key : makeKeys(a, 5)) key.expectUsable(a);
}

TEST(SwappingPower, Resume) { expectRestart(TPM2_SU_STATE); }
TEST(SwappingPower, Restart) { expectRestart(TPM2_SU_CLEAR); }

// The first command that meets a reset shows it, whether the object was in the TPM or not; from
// then on nothing that A had is taken for what a stranger has put there.
TEST_F(Swapping, ResetUnderOurFeet) {
    const std::vector<Key> keys = makeKeys(a, 5);
    const Handles sessions = startSessions(a, 5);
    sim.reset();
    const size_t mark = sim.commandCount();
    EXPECT_EQ(answer(readPublic(kFirst)), hex(0x910u));
    Client stranger = Client::bare(sim);
    stranger.ok(loadExternalEcc());
    for (const Key& key : keys) EXPECT_EQ(answer(readPublic(key.object)), hex(0x910u));
    for (TPM2_HANDLE each : sessions)
        EXPECT_EQ(answer(getRandom().session(each, {}, kAudit)), hex(0x918u));
    EXPECT_LE(sim.commandCount() - mark, 40u);
    EXPECT_EQ(handles(a, kFirst), Handles{});
    EXPECT_EQ(handles(a, kLoaded), Handles{});
    for (const Key& key : makeKeys(a, 4)) key.expectUsable(a);
    a.close();
    stranger.ok(readPublic(kFirst));
    stranger.ok(flushContext(kFirst));
}

// ---- Properties, and cancel

TEST_F(Swapping, Properties) {
    makeKeys(a, 5);
    startSessions(a, 5);
    startSessions(b, 2);
    const auto value = [](Client& client, uint32_t name) {
        return property(client.ok(getCapability(TPM2_CAP_TPM_PROPERTIES, name)));
    };
    EXPECT_EQ(value(a, TPM2_PT_HR_LOADED), 5u);
    EXPECT_EQ(value(a, TPM2_PT_HR_LOADED_AVAIL), 1u);
    EXPECT_EQ(value(a, TPM2_PT_HR_ACTIVE), 5u);
    EXPECT_EQ(value(a, TPM2_PT_HR_ACTIVE_AVAIL), 57u);  // of all spaces
    EXPECT_EQ(value(a, TPM2_PT_HR_TRANSIENT_AVAIL), 1u);
    EXPECT_EQ(value(a, TPM2_PT_HR_TRANSIENT_MIN), 3u);
    EXPECT_EQ(value(a, TPM2_PT_HR_LOADED_MIN), 3u);
    EXPECT_EQ(value(b, TPM2_PT_HR_LOADED), 2u);
    EXPECT_EQ(value(b, TPM2_PT_HR_LOADED_AVAIL), 1u);
    EXPECT_EQ(value(b, TPM2_PT_HR_TRANSIENT_AVAIL), 3u);
}

// Whatever has become of the command, what the space has is what it says it has.
TEST_F(Swapping, CancelWhileMakingRoom) {
    makeKeys(b, 3);
    makeKeys(a, 2);
    for (int i = 0; i < 5; i++) {
        const size_t before = handles(a, kFirst).size();
        ASSERT_EQ(a.transmit(loadExternalEcc()), TSS2_RC_SUCCESS);
        a.cancel();
        Bytes response;
        ASSERT_EQ(a.receive(response), TSS2_RC_SUCCESS);
        const bool done = rc(response) == TPM2_RC_SUCCESS;
        if (!done) {
            EXPECT_EQ(hex(rc(response)), hex(0x909u));
        }
        const Handles now = handles(a, kFirst);
        EXPECT_EQ(now.size(), before + (done ? 1 : 0));
        for (TPM2_HANDLE each : now) a.ok(readPublic(each));
    }
}

// A command that is cancelled while it waits in line moves nothing.
TEST_F(Swapping, CancelInLine) {
    makeKeys(b, 3);
    a.ok(getRandom());
    const size_t mark = sim.commandCount();
    ASSERT_EQ(b.transmit(getRandom()), TSS2_RC_SUCCESS);
    ASSERT_EQ(a.transmit(loadExternalEcc()), TSS2_RC_SUCCESS);
    EXPECT_EQ(a.cancel(), TSS2_RC_SUCCESS);
    Bytes response;
    ASSERT_EQ(a.receive(response), TSS2_RC_SUCCESS);
    EXPECT_EQ(hex(rc(response)), hex(0x909u));
    ASSERT_EQ(b.receive(response), TSS2_RC_SUCCESS);
    EXPECT_EQ(sim.commandCodes(mark), std::vector<TPM2_CC>{TPM2_CC_GetRandom});
}

// ---- Closing

// Only what is in the TPM, or known to it, needs a FlushContext.
TEST_F(Swapping, CloseFlushes) {
    for (Client* client : {&a, &b}) {
        makeKeys(*client, 4);
        client->ok(hashSequenceStart());
        startSessions(*client, 4, TPM2_SE_POLICY);
    }
    a.close();
    for (uint32_t i = 0; i < 4; i++) b.ok(readPublic(kFirst + i));
    b.ok(sequenceUpdate(kFirst + 4, "data"));
    for (TPM2_HANDLE each : handles(b, kLoaded)) b.ok(policyGetDigest(each));
    const size_t mark = sim.commandCount();
    b.close();
    EXPECT_EQ(sim.commandCount() - mark, countOf(TPM2_CC_FlushContext, mark));
    EXPECT_LE(countOf(TPM2_CC_FlushContext, mark), 3u + 4u);
}

TEST_F(Swapping, CloseKeepsClientSaved) {
    const Handles sessions = startSessions(a, 4, TPM2_SE_POLICY);
    a.ok(policyCommandCode(sessions[0], TPM2_CC_Unseal));
    const Bytes digest = policyDigest(a, sessions[0]);
    const Bytes saved = context(a.ok(contextSave(sessions[0])));
    crowd();
    a.close();
    EXPECT_EQ(handle(b.ok(contextLoad(saved))), sessions[0]);
    EXPECT_EQ(hex(policyDigest(b, sessions[0])), hex(digest));
}

TEST_F(Swapping, FinalizeWithoutReceive) {
    for (const Command& command : {startAuthSession(), loadExternalEcc(), hashSequenceStart()}) {
        Client c = Client::space(sim);
        makeKeys(c, 4);
        startSessions(c, 4);
        ASSERT_EQ(c.transmit(command), TSS2_RC_SUCCESS);
        c.close();
        EXPECT_EQ(residue(sim), "") << hex(command);
    }
}

}  // namespace
}  // namespace spaces::test

int main(int argc, char** argv) {
    setenv("SPACES_TEST_OPTIONS", "swap=on", 0);
    testing::InitGoogleTest(&argc, argv);
    return RUN_ALL_TESTS();
}
