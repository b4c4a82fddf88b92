/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Sessions in depth, in a space: nonces, audit digests, encryption, trial sessions.
 * What always holds here: whatever the TPM computes over a command or a response, the client
 * computes the same over what it sent and received, although another space uses the TPM as well.
 */
#include <functional>

#include "shared_and_private.h"
#include "support/crypto.h"
#include "support/session.h"

namespace spaces::test {
namespace {

constexpr TPM2_HANDLE kHmac = TPM2_HMAC_SESSION_FIRST, kPolicy = TPM2_POLICY_SESSION_FIRST;
constexpr uint8_t kContinue = TPMA_SESSION_CONTINUESESSION;
constexpr uint8_t kAudit = kContinue | TPMA_SESSION_AUDIT;

// ---- Nonces

/** A command whose HMAC the TPM accepts once: refused for want of memory it may be repeated, byte
 *  for byte, and after its success never again.  `full` is what it is refused with, 0 if it is
 *  not. */
void expectNonceDiscipline(Simulator& sim, Client& client, Client& other, TPM2_RC full) {
    Session session = Session::start(client, {.bind = TPM2_RH_OWNER});
    makeObjects(other, 3);
    EXPECT_EQ(hex(rc(session.authorize(client, createPrimary()))), hex(full));
    const Bytes command = sim.commands().back();  // whatever made room for it came before
    if (full != 0) {
        EXPECT_EQ(hex(rc(client.send(command))), hex(full));
        other.ok(flushContext(kSecond));
        EXPECT_EQ(hex(rc(client.send(command))), hex(0u));
    }
    other.ok(flushContext(kThird));
    EXPECT_EQ(hex(rc(client.send(command))), hex(0x9A2u));
    EXPECT_EQ(handles(client, kLoaded), Handles{session.handle()});
}

TEST_F(Isolation, NonceDiscipline) {
    expectNonceDiscipline(shared, a, b, unlessSwapping(0x902));
    expectNonceDiscipline(alone, own, own, 0x902);
}

TEST_F(Isolation, NonceDisciplineAcrossInterleavedSpaces) {
    Session ofA = Session::start(a, {.bind = TPM2_RH_OWNER});
    Session ofB = Session::start(b, {.bind = TPM2_RH_OWNER});
    for (int i = 0; i < 10; i++) {
        EXPECT_EQ(hex(rc(ofA.authorize(a, createPrimary()))), hex(0u));
        EXPECT_EQ(hex(rc(ofB.authorize(b, createPrimary()))), hex(0u));
        a.ok(flushContext(kFirst));
        b.ok(flushContext(kFirst));
    }
}

// A failed command rolls no nonce, not even one that never came to the TPM.
TEST_F(Isolation, NonceSurvivesForeignHandles) {
    const Bytes primary = b.ok(createPrimary());
    Session session = Session::start(a, {.bind = TPM2_RH_OWNER});
    EXPECT_EQ(hex(rc(session.authorize(a, certify(kFirst, kFirst), "",
                                       {primaryName(primary), primaryName(primary)}))),
              hex(0x910u));
    Command withForeignSession = createPrimary();
    withForeignSession.session(handle(b.ok(startAuthSession())));
    EXPECT_EQ(hex(rc(a.send(withForeignSession))), hex(0x919u));
    EXPECT_EQ(hex(rc(session.authorize(a, createPrimary()))), hex(0u));
}

// ---- Audit

/** A session's audit digest as the client knows it: every audited command extends it by what was
 *  asked, with Names for handles, and by what was answered. */
class AuditLog {
  public:
    /** `command` as it was sent to the TPM, but for the sessions; `response` with its auth area. */
    void add(Command command, const std::vector<Bytes>& names, const Bytes& response) {
        Bytes asked, answered;
        append(asked, command.code(), 4);
        for (const Bytes& name : names) append(asked, name);
        append(asked, command.parameters());
        append(answered, TPM2_RC_SUCCESS, 4);
        append(answered, command.code(), 4);
        append(answered, parameters(response, responseHandles(command.code())).rest());
        append(digest_, sha256(asked));
        append(digest_, sha256(answered));
        digest_ = sha256(digest_);
    }
    const Bytes& digest() const { return digest_; }

  private:
    Bytes digest_ = Bytes(32);
};

struct SessionAudit {
    bool exclusive;
    Bytes digest;
};

/** What the TPM attests of a session, without a signature. */
SessionAudit attested(Client& client, TPM2_HANDLE session) {
    Cursor attest(parameters(client.ok(getSessionAuditDigest(TPM2_RH_NULL, session))).tpm2b());
    EXPECT_EQ(hex(attest.u32()), hex(TPM2_GENERATED_VALUE));
    EXPECT_EQ(hex(uint32_t{attest.u16()}), hex(uint32_t{TPM2_ST_ATTEST_SESSION_AUDIT}));
    attest.tpm2b();        // qualifiedSigner
    attest.tpm2b();        // extraData
    attest.bytes(17 + 8);  // clockInfo, firmwareVersion
    const bool exclusive = attest.u8() != 0;
    return {exclusive, attest.tpm2b()};
}

/** Five audited commands, among them ones that name and that make objects; `between` happens after
 *  each. */
void expectAuditDigest(Client& client, bool exclusive, const std::function<void()>& between) {
    Session session = Session::start(client);
    AuditLog log;
    const auto audited = [&](const Command& command, const std::vector<Bytes>& names) {
        const Bytes response = session.audit(client, command, names);
        EXPECT_EQ(hex(rc(response)), hex(0u)) << hex(command);
        log.add(command, names, response);
        between();
        return response;
    };
    audited(getRandom(), {});
    const Bytes made = audited(createPrimary(), {handleName(TPM2_RH_OWNER)});
    EXPECT_EQ(hex(handle(made)), hex(kFirst));
    audited(readPublic(kFirst), {primaryName(made)});
    audited(create(kFirst), {primaryName(made)});
    audited(getRandom(), {});
    const SessionAudit audit = attested(client, session.handle());
    EXPECT_EQ(hex(audit.digest), hex(log.digest()));
    EXPECT_EQ(audit.exclusive, exclusive);
    client.ok(flushContext(session.handle()));
    client.ok(flushContext(kFirst));
}

TEST_F(Isolation, AuditDigest) {
    b.ok(createPrimary(TPM2_RH_NULL));  // the TPM's first object is not A's
    expectAuditDigest(a, true, [] {});
    expectAuditDigest(own, true, [] {});
}

// Exclusive status is the TPM's, and so is its end when somebody else sends an ordinary command.
TEST_F(Isolation, AuditDigestAmongOtherSpacesCommands) {
    b.ok(createPrimary(TPM2_RH_NULL));
    expectAuditDigest(a, false, [this] { b.ok(readPublic(kFirst)); });
}

// A session keeps its exclusive status when others come, fail, flush, and leave.
TEST_F(Isolation, ExclusiveAuditSurvivesOpenProbeAndClose) {
    Session session = Session::start(a);
    b.ok(createPrimary());
    b.ok(startAuthSession());
    ASSERT_EQ(hex(rc(session.audit(a, getRandom()))), hex(0u));
    Client c = Client::space(shared);
    EXPECT_EQ(hex(rc(c.send(readPublic(kFirst)))), hex(0x910u));
    EXPECT_EQ(hex(rc(c.send(flushContext(kFirst)))), hex(0x1CBu));
    EXPECT_EQ(hex(rc(c.send(policyGetDigest(kPolicy)))), hex(0x910u));
    EXPECT_EQ(hex(rc(c.send(Command(0x20000001)))), hex(0x143u));
    c.close();
    b.close();
    EXPECT_EQ(hex(rc(session.audit(a, getRandom(), {}, kAudit | TPMA_SESSION_AUDITEXCLUSIVE))),
              hex(0u));
}

TEST_F(Isolation, AuditDigestOfAForeignSession) {
    const TPM2_HANDLE ofB = handle(b.ok(startAuthSession()));
    EXPECT_EQ(hex(bothCode(getSessionAuditDigest(TPM2_RH_NULL, ofB))), hex(0x912u));
    EXPECT_EQ(handles(b, kLoaded), Handles{ofB});
}

// The answer is under an HMAC, so it is the TPM's own word, other spaces' objects included.
TEST_F(Isolation, AuditedGetCapability) {
    b.ok(createPrimary());
    a.ok(createPrimary());
    Session session = Session::start(a);
    AuditLog log;
    const Command command = getCapability(TPM2_CAP_HANDLES, kFirst, TPM2_MAX_CAP_HANDLES);
    const Bytes response = session.audit(a, command);  // verifies the HMAC
    ASSERT_EQ(hex(rc(response)), hex(0u));
    Cursor list = parameters(response);
    EXPECT_EQ(list.u8(), 0);
    EXPECT_EQ(hex(list.u32()), hex(TPM2_CAP_HANDLES));
    if (!capped()) {
        EXPECT_EQ(list.u32(), 2u);
        EXPECT_EQ(hex(list.u32()), hex(kFirst));
        EXPECT_EQ(hex(list.u32()), hex(kSecond));
    }
    log.add(command, {}, response);
    EXPECT_EQ(hex(attested(a, session.handle()).digest), hex(log.digest()));
    EXPECT_EQ(handles(a, kFirst), Handles{kFirst});
}

// ---- Encryption by the very session that the command is about

TEST_F(Isolation, EncryptSessionIsThePolicySessionItself) {
    b.ok(startAuthSession());
    for (Client* client : {&a, &own}) {
        Session policy = Session::start(*client, {.type = TPM2_SE_POLICY, .symmetric = true});
        client->ok(policyCommandCode(policy.handle(), TPM2_CC_Unseal));
        const Bytes plain = client->ok(policyGetDigest(policy.handle()));
        const Bytes kept = policy.audit(*client, policyGetDigest(policy.handle()), {},
                                        kContinue | TPMA_SESSION_ENCRYPT);
        ASSERT_EQ(hex(rc(kept)), hex(0u));
        EXPECT_EQ(hex(parameters(kept).tpm2b()), hex(parameters(plain).tpm2b()));
        EXPECT_EQ(handles(*client, kLoaded), Handles{policy.handle()});

        const Bytes last =
            policy.audit(*client, policyGetDigest(policy.handle()), {}, TPMA_SESSION_ENCRYPT);
        ASSERT_EQ(hex(rc(last)), hex(0u));
        EXPECT_EQ(parameters(last).tpm2b(), Bytes(32));  // the use before has reset the policy
        EXPECT_EQ(handles(*client, kLoaded), Handles{});
        EXPECT_EQ(hex(rc(client->send(policyGetDigest(policy.handle())))), hex(0x910u));
        EXPECT_EQ(hex(rc(client->send(flushContext(policy.handle())))), hex(0x1CBu));
        EXPECT_EQ(hex(handle(client->ok(startAuthSession(TPM2_SE_POLICY)))), hex(policy.handle()));
    }
}

TEST_F(Isolation, ParameterEncryptionWithVirtualHandles) {
    b.ok(createPrimary());  // A's objects have other numbers in the TPM
    const Bytes key = a.ok(loadExternalHmac("key", "auth"));
    const Bytes name = parameters(key, 1).tpm2b();
    Session session = Session::start(a, {.symmetric = true});
    const Bytes answer = session.authorize(a, hmac(handle(key), "data"), "auth", {name},
                                           kContinue | TPMA_SESSION_DECRYPT | TPMA_SESSION_ENCRYPT);
    ASSERT_EQ(hex(rc(answer)), hex(0u));
    EXPECT_EQ(parameters(answer).tpm2b(), hmacSha256(bytes("key"), bytes("data")));
}

// ---- Trial sessions

TEST_F(Isolation, TrialSession) {
    const TPM2_HANDLE trial = handle(both(startAuthSession(TPM2_SE_TRIAL)));
    EXPECT_EQ(hex(trial), hex(kPolicy));
    EXPECT_EQ(hex(bothCode(createPrimary().noAuth().session(trial))), hex(0x982u));
    EXPECT_EQ(hex(rc(b.send(createPrimary().noAuth().session(trial)))), hex(0x918u));
    EXPECT_EQ(hex(rc(b.send(policyPassword(trial)))), hex(0x910u));
    EXPECT_EQ(alike([](Client& client) { return handles(client, kLoaded); }), Handles{trial});
    EXPECT_EQ(hex(bothCode(policyPassword(trial))), hex(0u));
    EXPECT_EQ(hex(rc(b.send(flushContext(trial)))), hex(0x1CBu));
    EXPECT_EQ(hex(bothCode(flushContext(trial))), hex(0u));
    EXPECT_EQ(alike([](Client& client) { return handles(client, kLoaded); }), Handles{});
    EXPECT_EQ(hex(bothCode(flushContext(trial))), hex(0x1CBu));
}

// ---- FlushContext's parameter is an object or a session, and never mistaken for the other

TEST_F(Isolation, FlushContextTellsObjectsFromSessions) {
    both(startAuthSession());
    EXPECT_EQ(hex(bothCode(flushContext(kFirst))), hex(0x1CBu));
    both(createPrimary());
    EXPECT_EQ(hex(bothCode(flushContext(kHmac))), hex(0u));
    EXPECT_EQ(hex(bothCode(readPublic(kFirst))), hex(0u));
    EXPECT_EQ(hex(bothCode(flushContext(kHmac))), hex(0x1CBu));
    EXPECT_EQ(hex(bothCode(flushContext(kPolicy))), hex(0x1CBu));
    EXPECT_EQ(hex(bothCode(flushContext(kFirst))), hex(0u));
}

}  // namespace
}  // namespace spaces::test
