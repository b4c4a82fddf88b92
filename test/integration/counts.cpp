/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What a space costs in TPM commands: nothing, while what is named fits.  The TPM hears the
 * client's own commands, in order, and at the end one FlushContext for each thing that the space
 * still has.  A client that is alone with a TPM does the same steps, and the two TPMs' records are
 * compared; where the two spaces A and B share a TPM, what they send is written down here.
 */
#include <gtest/gtest.h>

#include <algorithm>
#include <iterator>
#include <stdexcept>

#include "support/client.h"
#include "support/command.h"
#include "support/response.h"
#include "support/session.h"
#include "support/simulator.h"

namespace spaces::test {
namespace {

constexpr TPM2_HANDLE kFirst = 0x80000000, kSecond = 0x80000001, kThird = 0x80000002;
constexpr TPM2_HANDLE kHmac = 0x02000000, kPersistent = 0x81000001;
constexpr TPM2_HANDLE kIndex = 0x01000001, kPcr = 16;
constexpr TPM2_CC kNoSuchCommand = 0x123, kNoSuchVendorCommand = 0x20000001;

using Codes = std::vector<TPM2_CC>;

Codes flushes(size_t count) { return Codes(count, TPM2_CC_FlushContext); }

Codes operator+(Codes first, const Codes& second) {
    first.insert(first.end(), second.begin(), second.end());
    return first;
}

/** The same command, authorised by a session without an HMAC: the auth value is empty. */
Command with(Command command, TPM2_HANDLE session,
             uint8_t attributes = TPMA_SESSION_CONTINUESESSION) {
    return command.noAuth().session(session, {}, attributes);
}

void expect(Client& client, TPM2_RC code, const Bytes& command) {
    EXPECT_EQ(rc(client.send(command)), code) << hex(command);
}

// ---- What clients do all day.  Each leaves the TPM as it found it.

void useObjects(Client& client) {
    const TPM2_HANDLE parent = handle(client.ok(createPrimary()));
    const Created key = created(client.ok(create(parent)));
    const Created box = created(client.ok(create(parent, sealed(), "", "treasure")));
    const TPM2_HANDLE signer = handle(client.ok(load(parent, key.outPrivate, key.outPublic)));
    const TPM2_HANDLE data = handle(client.ok(load(parent, box.outPrivate, box.outPublic)));
    for (int i = 0; i < 3; i++) {
        client.ok(sign(signer));
        client.ok(unseal(data));
        client.ok(certify(parent, signer));
        client.ok(readPublic(parent));
    }
    // With swapping there is nothing to refuse, but it would not be free either.
    if (!swapping()) expect(client, 0x902, createPrimary());
    client.ok(flushContext(data));
    client.ok(evictControl(parent, kPersistent));
    client.ok(readPublic(kPersistent));
    client.ok(evictControl(kPersistent, kPersistent));
    client.ok(flushContext(signer));
    client.ok(flushContext(handle(client.ok(loadExternalEcc()))));
    client.ok(flushContext(parent));
}

void useSessions(Client& client) {
    const Bytes primary = client.ok(createPrimary(TPM2_RH_OWNER, eccSigning(), "secret"));
    const std::vector<Bytes> names{primaryName(primary)};
    Session hmac = Session::start(client, {.bind = TPM2_RH_OWNER, .symmetric = true});
    constexpr uint8_t encrypt = TPMA_SESSION_CONTINUESESSION | TPMA_SESSION_ENCRYPT;
    for (int i = 0; i < 3; i++) {
        EXPECT_EQ(rc(hmac.authorize(client, sign(handle(primary)), "secret", names)), 0u);
        EXPECT_EQ(rc(hmac.authorize(client, sign(handle(primary)), "wrong", names)), 0x9A2u);
        EXPECT_EQ(rc(hmac.audit(client, getRandom(), {}, encrypt)), 0u);
        EXPECT_EQ(rc(hmac.audit(client, getRandom())), 0u);
    }
    EXPECT_EQ(rc(hmac.authorize(client, sign(handle(primary)), "secret", names, 0)), 0u);
    expect(client, 0x918, with(createPrimary(), hmac.handle()));
    client.ok(flushContext(handle(primary)));
}

void usePolicies(Client& client) {
    const TPM2_HANDLE trial = handle(client.ok(startAuthSession(TPM2_SE_TRIAL)));
    client.ok(policyCommandCode(trial, TPM2_CC_HMAC));
    const Bytes digest = parameters(client.ok(policyGetDigest(trial))).tpm2b();
    client.ok(flushContext(trial));
    const Bytes area = policyOnly(hmacKey(), digest);
    const TPM2_HANDLE key = handle(client.ok(createPrimary(TPM2_RH_OWNER, area)));
    const TPM2_HANDLE policy = handle(client.ok(startAuthSession(TPM2_SE_POLICY)));
    expect(client, 0x99D, with(hmac(key, "data"), policy));
    client.ok(policyCommandCode(policy, TPM2_CC_HMAC));
    client.ok(with(hmac(key, "data"), policy));
    client.ok(policyPcr(policy, kPcr));
    client.ok(policySecret(TPM2_RH_OWNER, policy));
    client.ok(policyPassword(policy));
    client.ok(policyRestart(policy));
    client.ok(policyCommandCode(policy, TPM2_CC_HMAC));
    client.ok(with(hmac(key, "data"), policy, 0));
    client.ok(flushContext(key));
}

void useSequences(Client& client) {
    const TPM2_HANDLE key = handle(client.ok(loadExternalHmac("key")));
    const TPM2_HANDLE hash = handle(client.ok(hashSequenceStart("auth")));
    const TPM2_HANDLE mac = handle(client.ok(hmacStart(key)));
    for (int i = 0; i < 3; i++) {
        client.ok(sequenceUpdate(hash, "abc", "auth"));
        client.ok(sequenceUpdate(mac, "abc"));
    }
    expect(client, 0x9A2, sequenceComplete(hash, "", "wrong"));
    client.ok(sequenceComplete(hash, "", "auth"));
    expect(client, 0x910, sequenceComplete(hash, "", "auth"));
    const TPM2_HANDLE event = handle(client.ok(hashSequenceStart("", TPM2_ALG_NULL)));
    client.ok(eventSequenceComplete(kPcr, event, "boot"));
    client.ok(sequenceComplete(mac));
    client.ok(flushContext(key));
}

void useContexts(Client& client) {
    const TPM2_HANDLE object = handle(client.ok(createPrimary()));
    const Bytes saved = context(client.ok(contextSave(object)));
    client.ok(flushContext(handle(client.ok(contextLoad(saved)))));
    client.ok(flushContext(object));
    expect(client, 0x910, contextSave(object));
    client.ok(flushContext(handle(client.ok(contextLoad(saved)))));
    for (TPM2_SE type : {TPM2_SE_HMAC, TPM2_SE_POLICY}) {
        const TPM2_HANDLE session = handle(client.ok(startAuthSession(type)));
        for (int i = 0; i < 2; i++) {
            const Bytes context = test::context(client.ok(contextSave(session)));
            expect(client, 0x910, contextSave(session));
            client.ok(contextLoad(context));
            expect(client, 0x1CB, contextLoad(context));
        }
        client.ok(contextSave(session));
        client.ok(flushContext(session));
    }
}

void useNv(Client& client) {
    client.ok(nvDefineSpace(kIndex, 4, "nv"));
    client.ok(nvWrite(kIndex, "data", "nv"));
    client.ok(nvRead(kIndex, 4, "nv"));
    expect(client, 0x9A2, nvRead(kIndex, 4, "wrong"));
    client.ok(nvReadPublic(kIndex));
    const TPM2_HANDLE policy = handle(client.ok(startAuthSession(TPM2_SE_POLICY)));
    client.ok(policyNv(kIndex, policy, "data", "nv"));
    client.ok(flushContext(policy));
    client.ok(nvUndefineSpace(kIndex));
    expect(client, 0x18B, nvReadPublic(kIndex));
}

void useCapabilities(Client& client) {
    const TPM2_HANDLE object = handle(client.ok(createPrimary()));
    const TPM2_HANDLE session = handle(client.ok(startAuthSession()));
    for (TPM2_HANDLE type : {0x00u, 0x01u, 0x02u, 0x03u, 0x40u, 0x80u, 0x81u})
        client.ok(getCapability(TPM2_CAP_HANDLES, type << TPM2_HR_SHIFT, 100));
    expect(client, 0x2CB, getCapability(TPM2_CAP_HANDLES, 0x04000000, 100));
    client.ok(getCapability(TPM2_CAP_TPM_PROPERTIES, TPM2_PT_FIXED, 100));
    client.ok(getCapability(TPM2_CAP_TPM_PROPERTIES, TPM2_PT_VAR, 100));
    client.ok(getCapability(TPM2_CAP_COMMANDS, TPM2_CC_FIRST, 256));
    client.ok(flushContext(session));
    client.ok(flushContext(object));
}

void useHierarchies(Client& client) {
    for (TPM2_RH hierarchy : {TPM2_RH_OWNER, TPM2_RH_ENDORSEMENT, TPM2_RH_PLATFORM}) {
        client.ok(createPrimary(hierarchy));
        client.ok(loadExternalEcc(hierarchy));
        if (hierarchy == TPM2_RH_PLATFORM) {
            client.ok(changePps());
        } else {
            client.ok(hierarchyControl(hierarchy, false));
            client.ok(hierarchyControl(hierarchy, true));
        }
        expect(client, 0x910, readPublic(kFirst));
        expect(client, 0x1CB, flushContext(kSecond));
    }
    client.ok(createPrimary());
    client.ok(createPrimary(TPM2_RH_NULL));
    client.ok(clear());
    expect(client, 0x910, readPublic(kFirst));
    client.ok(readPublic(kSecond));
    client.ok(createPrimary(TPM2_RH_ENDORSEMENT));
    client.ok(changeEps());
    client.ok(flushContext(kSecond));
    client.ok(shutdown());
    expect(client, TPM2_RC_INITIALIZE, startup());
}

void fail(Client& client) {
    expect(client, 0x143, Command(kNoSuchCommand));
    expect(client, 0x143, Command(kNoSuchVendorCommand).u32(1));
    expect(client, 0x143, Command(kNoSuchVendorCommand).password());
    expect(client, 0x084, getRandom().tag(0x1234));
    expect(client, 0x19A, readPublic(kFirst).truncate(12));
    expect(client, 0x910, readPublic(kFirst));
    expect(client, 0x184, readPublic(0x80000003));
    expect(client, 0x184, readPublic(kHmac));
    expect(client, 0x18B, readPublic(kPersistent));
    expect(client, 0x910, certify(kFirst, kSecond));
    expect(client, 0x284, certify(kFirst, kHmac));
    expect(client, 0x918, with(createPrimary(), kHmac));
    expect(client, 0x919, createPrimary().session(kHmac));
    expect(client, 0x984, with(createPrimary(), 0x02000040));
    expect(client, 0xC95, createPrimary().password().password().password());
    expect(client, 0x910, policyGetDigest(0x03000000));
    expect(client, 0x1CB, flushContext(kFirst));
    expect(client, 0x1C4, flushContext(kPersistent));
    expect(client, 0x1DA, flushContext(kFirst).truncate(12));
    expect(client, 0x145, flushContext(kFirst).password());
    expect(client, 0x125, createPrimary().noAuth());
}

void useEverything(Client& client) {
    useObjects(client);
    useSessions(client);
    usePolicies(client);
    useSequences(client);
    useContexts(client);
    useNv(client);
    useCapabilities(client);
    useHierarchies(client);
    fail(client);
    client.ok(pcrExtend(kPcr));
    client.ok(pcrRead(kPcr));
}

class Counts : public testing::Test {
  protected:
    /** Does it through a space and alone, and compares what the two TPMs heard. */
    void sameCommands(void (*use)(Client&)) {
        Simulator own;
        Client alone = Client::bare(own), space = Client::space(sim);
        use(space);
        use(alone);
        const Codes codes = sim.commandCodes();
        EXPECT_EQ(codes, own.commandCodes());
        EXPECT_NE(codes, Codes{});
        space.close();
        EXPECT_EQ(sim.commandCount(), codes.size()) << "nothing was left to flush";
        EXPECT_EQ(residue(sim), "");
    }

    Simulator sim;
};

TEST_F(Counts, OpeningSendsNothing) {
    Client a = Client::space(sim), b = Client::space(sim);
    EXPECT_EQ(sim.commandCodes(), Codes{});
    a.ok(getRandom());
    Client c = Client::space(sim);
    EXPECT_EQ(sim.commandCodes(), Codes{TPM2_CC_GetRandom});
}

TEST_F(Counts, ClosingAnEmptySpaceSendsNothing) {
    Client a = Client::space(sim), b = Client::space(sim);
    a.ok(createPrimary());
    const TPM2_HANDLE session = handle(a.ok(startAuthSession()));
    a.ok(flushContext(kFirst));
    a.ok(with(createPrimary(), session, 0));
    a.ok(flushContext(kFirst));
    a.ok(hashSequenceStart());
    a.ok(sequenceComplete(kFirst));
    const size_t mark = sim.commandCount();
    a.close();
    b.close();
    EXPECT_EQ(sim.commandCodes(mark), Codes{});
}

TEST_F(Counts, ClosingFlushesEachThingOnce) {
    Client a = Client::space(sim), b = Client::space(sim);
    b.ok(createPrimary());
    a.ok(createPrimary());
    a.ok(hashSequenceStart());
    a.ok(startAuthSession());
    b.ok(startAuthSession());
    const TPM2_HANDLE saved = handle(a.ok(startAuthSession(TPM2_SE_POLICY)));
    a.ok(contextSave(saved));
    a.ok(startAuthSession(TPM2_SE_POLICY));
    const size_t mark = sim.commandCount();
    a.close();
    std::vector<Bytes> heard = sim.commands(mark);
    std::sort(heard.begin(), heard.end());
    // Physical handles; not B's, and not the session that A has saved.
    const std::vector<Bytes> expected{flushContext(0x02000000), flushContext(0x03000003),
                                      flushContext(kSecond), flushContext(kThird)};
    EXPECT_EQ(heard, expected);
    EXPECT_EQ(residue(sim),
              "transient 0x80000000, loaded session 0x2000001, saved session 0x2000002");
}

TEST_F(Counts, ClosingDoesNotFlushWhatTheTpmHasFlushed) {
    Client a = Client::space(sim), b = Client::space(sim);
    a.ok(createPrimary());
    a.ok(createPrimary(TPM2_RH_NULL));
    b.ok(clear());
    const size_t mark = sim.commandCount();
    a.close();
    EXPECT_EQ(sim.commands(mark), std::vector<Bytes>{flushContext(kSecond)});
}

TEST_F(Counts, FinalizingBeforeTheResponse) {
    for (const Command& command : {createPrimary(), startAuthSession(), hashSequenceStart()}) {
        Client a = Client::space(sim);
        size_t mark = sim.commandCount(), size = 0;
        ASSERT_EQ(a.transmit(command), TSS2_RC_SUCCESS);
        ASSERT_EQ(a.receiveSize(size), TSS2_RC_SUCCESS);
        a.close();
        EXPECT_EQ(sim.commandCodes(mark), Codes{command.code()} + flushes(1));
    }
}

TEST_F(Counts, SizeQueriesSendNothing) {
    Client a = Client::space(sim);
    size_t size = 0;
    ASSERT_EQ(a.transmit(getRandom()), TSS2_RC_SUCCESS);
    for (int i = 0; i < 3; i++) ASSERT_EQ(a.receiveSize(size), TSS2_RC_SUCCESS);
    Bytes response;
    ASSERT_EQ(a.receive(response), TSS2_RC_SUCCESS);
    EXPECT_EQ(sim.commandCodes(), Codes{TPM2_CC_GetRandom});
}

TEST_F(Counts, LocalitySendsNothing) {
    Client a = Client::space(sim), b = Client::space(sim);
    ASSERT_EQ(b.setLocality(3), TSS2_RC_SUCCESS);
    for (Client* each : {&a, &b, &a}) each->ok(getRandom());
    EXPECT_EQ(sim.commandCodes(), Codes(3, TPM2_CC_GetRandom));
}

TEST_F(Counts, Objects) { sameCommands(useObjects); }
TEST_F(Counts, Sessions) { sameCommands(useSessions); }
TEST_F(Counts, Policies) { sameCommands(usePolicies); }
TEST_F(Counts, Sequences) { sameCommands(useSequences); }
TEST_F(Counts, Contexts) { sameCommands(useContexts); }
TEST_F(Counts, Nv) { sameCommands(useNv); }
TEST_F(Counts, Capabilities) { sameCommands(useCapabilities); }
TEST_F(Counts, Hierarchies) { sameCommands(useHierarchies); }
TEST_F(Counts, FailingCommands) { sameCommands(fail); }
TEST_F(Counts, Everything) { sameCommands(useEverything); }

// ---- Two spaces on one TPM

/** A space that writes down what is sent through it. */
class Recorded {
  public:
    Recorded(const Simulator& sim, Codes& sent) : space(Client::space(sim)), sent_(sent) {}

    Bytes send(const Command& command) {
        sent_.push_back(command.code());
        return space.send(command);
    }
    Bytes ok(const Command& command) {
        sent_.push_back(command.code());
        return space.ok(command);
    }
    void refused(TPM2_RC code, const Command& command) {
        EXPECT_EQ(rc(send(command)), code) << hex(command);
    }

    Client space;

  private:
    Codes& sent_;
};

class CountsOfTwo : public testing::Test {
  protected:
    Simulator sim;
    Codes sent;
    Recorded a{sim, sent}, b{sim, sent};
};

TEST_F(CountsOfTwo, TakingTurnsIsFree) {
    a.ok(createPrimary(TPM2_RH_OWNER, eccSigning("A")));
    b.ok(createPrimary(TPM2_RH_OWNER, eccSigning("B")));
    b.ok(hashSequenceStart());
    const TPM2_HANDLE ofA = handle(a.ok(startAuthSession()));
    const TPM2_HANDLE ofB = handle(b.ok(startAuthSession()));
    for (int i = 0; i < 20; i++) {
        a.ok(with(sign(kFirst), ofA));
        b.ok(with(sign(kFirst), ofB));
        b.ok(sequenceUpdate(kSecond, "data"));
        a.ok(readPublic(kFirst));
        b.ok(getCapability(TPM2_CAP_HANDLES, kFirst, 100));
    }
    EXPECT_EQ(sim.commandCodes(), sent);
    a.space.close();
    EXPECT_EQ(sim.commandCodes(), sent + flushes(2));
    b.space.close();
    EXPECT_EQ(sim.commandCodes(), sent + flushes(5));
    EXPECT_EQ(residue(sim), "");
}

TEST_F(CountsOfTwo, ForeignHandlesAreFree) {
    b.ok(createPrimary());
    a.ok(createPrimary());
    a.ok(createPrimary());
    const TPM2_HANDLE hmac = handle(a.ok(startAuthSession()));
    const TPM2_HANDLE policy = handle(a.ok(startAuthSession(TPM2_SE_POLICY)));
    b.refused(0x910, readPublic(kSecond));
    b.refused(0x910, sign(kSecond));
    b.refused(0x911, certify(kFirst, kSecond));
    b.refused(0x910, certify(kSecond, kFirst));
    b.refused(0x910, certify(kSecond, kThird));
    b.refused(0x911, evictControl(kSecond, kPersistent));
    b.refused(0x911, startAuthSession(TPM2_SE_HMAC, kSecond));
    b.refused(0x910, contextSave(kSecond));
    b.refused(0x1CB, flushContext(kSecond));
    b.refused(0x095, flushContext(kSecond).u8(0));
    b.refused(0x910, contextSave(hmac));
    b.refused(0x1CB, flushContext(hmac));
    b.refused(0x918, with(createPrimary(), hmac));
    b.refused(0x919, createPrimary().session(hmac));
    b.refused(0x918, with(createPrimary(), policy));
    b.refused(0x910, policyGetDigest(policy));
    b.refused(0x911, policySecret(TPM2_RH_OWNER, policy));
    b.refused(0x912, getSessionAuditDigest(TPM2_RH_NULL, hmac));
    EXPECT_EQ(sim.commandCodes(), sent);
}

/** The commands that the client did not send: what `heard` has beyond `sent`. */
Codes added(const Codes& heard, const Codes& sent) {
    Codes rest;
    auto next = sent.begin();
    for (TPM2_CC code : heard) {
        if (next != sent.end() && *next == code)
            ++next;
        else
            rest.push_back(code);
    }
    if (next != sent.end())
        throw std::runtime_error("a command of the client did not reach the TPM");
    return rest;
}

/** All but the three commands that a space sends to make room; a command that had to be sent again
 *  after that counts once. */
Codes withoutMoves(Codes codes) {
    std::erase_if(codes, [](TPM2_CC code) {
        return code == TPM2_CC_ContextSave || code == TPM2_CC_ContextLoad ||
               code == TPM2_CC_FlushContext;
    });
    codes.erase(std::unique(codes.begin(), codes.end()), codes.end());
    return codes;
}

TEST_F(CountsOfTwo, FullSlotsAreFree) {
    for (int i = 0; i < 3; i++) a.ok(createPrimary());
    for (int i = 0; i < 3; i++) a.ok(startAuthSession());
    EXPECT_EQ(sim.commandCodes(), sent);
    if (swapping()) {
        // No slot more than the one that is needed, and an object is saved once in its life.
        b.ok(createPrimary());
        b.ok(startAuthSession());
        const Codes making = sim.commandCodes(sent.size() - 2);
        EXPECT_EQ(making, (Codes{TPM2_CC_CreatePrimary, TPM2_CC_ContextSave, TPM2_CC_FlushContext,
                                 TPM2_CC_CreatePrimary, TPM2_CC_StartAuthSession,
                                 TPM2_CC_ContextSave, TPM2_CC_StartAuthSession}))
            << "each is refused once, which is how a slot is known to be missing";
        return;
    }
    b.refused(0x902, createPrimary());
    b.refused(0x902, hashSequenceStart());
    b.refused(0x902, readPublic(kPersistent));
    b.refused(0x903, startAuthSession());
    EXPECT_EQ(sim.commandCodes(), sent);
    b.space.close();
    EXPECT_EQ(sim.commandCodes(), sent);
}

TEST_F(CountsOfTwo, LayerSendsNothingElse) {
    a.ok(createPrimary());
    const Bytes saved = context(a.ok(contextSave(kFirst)));
    for (int i = 0; i < 5; i++) {
        Recorded c(sim, sent);
        b.ok(contextLoad(saved));
        c.ok(createPrimary(TPM2_RH_NULL));
        const TPM2_HANDLE session = handle(c.ok(startAuthSession(TPM2_SE_POLICY)));
        if (swapping()) {
            b.ok(createPrimary());  // one more than fits
            b.ok(flushContext(kSecond));
        } else {
            b.refused(0x902, createPrimary());
        }
        b.refused(0x910, policyRestart(session));
        a.refused(0x143, Command(kNoSuchCommand));
        c.ok(getCapability(TPM2_CAP_HANDLES, kFirst, 100));
        c.refused(0x910, readPublic(kSecond));
        b.ok(flushContext(kFirst));
        c.ok(hashSequenceStart());
        c.ok(contextSave(session));
        c.ok(flushContext(session));
        c.ok(startAuthSession());
    }
    a.ok(clear());
    a.refused(0x910, readPublic(kFirst));
    b.ok(createPrimary());
    a.space.close();
    b.space.close();
    if (swapping()) {
        EXPECT_EQ(withoutMoves(sim.commandCodes()), withoutMoves(sent));
    } else {
        // Each C leaves an object, a sequence and a session; B leaves one; A's went with Clear.
        EXPECT_EQ(added(sim.commandCodes(), sent), flushes(5 * 3 + 1));
    }
    EXPECT_EQ(residue(sim), "");
}

}  // namespace
}  // namespace spaces::test
