/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Proves the test support itself against a bare swtpm: every ready-made command is accepted once,
 * a session's HMACs verify, the count of commands is exact, a reset resets.
 */
#include <gtest/gtest.h>
#include <signal.h>

#include "client.h"
#include "command.h"
#include "crypto.h"
#include "gate.h"
#include "response.h"
#include "session.h"
#include "simulator.h"

namespace spaces::test {
namespace {

constexpr TPM2_HANDLE kFirst = 0x80000000, kPersistent = 0x81000001, kIndex = 0x01000001;
constexpr TPM2_HANDLE kPcr = 16;

class Support : public testing::Test {
  protected:
    Simulator sim;
    Client client = Client::bare(sim);
};

TEST_F(Support, CountsCommandsExactly) {
    EXPECT_EQ(sim.commandCount(), 0u);
    client.ok(getRandom());
    client.ok(readPublic(handle(client.ok(createPrimary()))));
    EXPECT_EQ(sim.commandCount(), 3u);
    size_t mark = sim.commandCount();
    Bytes last = flushContext(kFirst);
    client.ok(last);
    client.send(Command(0x20000000));
    EXPECT_EQ(sim.commandCodes(mark), (std::vector<TPM2_CC>{TPM2_CC_FlushContext, 0x20000000}));
    EXPECT_EQ(sim.commands(mark).front(), last);
    for (int i = 0; i < 100; i++) client.ok(getRandom());
    EXPECT_EQ(sim.commandCount(), mark + 102);
    EXPECT_THROW(sim.commands(mark + 103), std::out_of_range);
}

TEST_F(Support, BuildsCommandsAndLies) {
    EXPECT_EQ(hex(getRandom(4)), "80010000000c0000017b0004");
    EXPECT_EQ(hex(readPublic(kFirst).password("a")),
              "80020000001c0000017380000000"
              "0000000a"
              "40000009"
              "0000"
              "01"
              "000161");
    EXPECT_EQ(hex(readPublic(kFirst).size(99).tag(0x1234)), "1234000000630000017380000000");
    EXPECT_EQ(hex(readPublic(kFirst).truncate(12)), "80010000000c000001738000");
    EXPECT_EQ(hex(readPublic(kFirst).tag(TPM2_ST_SESSIONS).authSize(5)),
              "8002000000120000017380000000"
              "00000005");
    EXPECT_EQ(rc(client.send(getRandom().tag(0x1234))), 0x084u);
    EXPECT_EQ(rc(client.send(readPublic(kFirst).truncate(12))), 0x19Au);
    EXPECT_EQ(rc(client.send(readPublic(kFirst).tag(TPM2_ST_SESSIONS))), 0x910u);
    EXPECT_THROW(client.ok(readPublic(kFirst)), std::runtime_error);
    EXPECT_EQ(client.transmit(getRandom().size(13)), TSS2_TCTI_RC_BAD_VALUE);
}

TEST_F(Support, MakesObjects) {
    Bytes primary = client.ok(createPrimary(TPM2_RH_OWNER, eccStorage(), "parent"));
    TPM2_HANDLE parent = handle(primary);
    EXPECT_EQ(primaryName(primary), publicName(client.ok(readPublic(parent))));
    Created made = created(client.ok(create(parent, eccSigning(), "key", "", "parent")));
    TPM2_HANDLE key = handle(client.ok(load(parent, made.outPrivate, made.outPublic, "parent")));
    EXPECT_EQ(nameOf(made.outPublic), publicName(client.ok(readPublic(key))));
    client.ok(sign(key, Bytes(32, 7), "key"));
    client.ok(certify(parent, key, "parent", "key"));
    Bytes saved = context(client.ok(contextSave(key)));
    client.ok(flushContext(key));
    EXPECT_EQ(handle(client.ok(contextLoad(saved))), key);
    client.ok(flushContext(key));

    Created secret = created(client.ok(create(parent, sealed(), "", "treasure", "parent")));
    TPM2_HANDLE box =
        handle(client.ok(load(parent, secret.outPrivate, secret.outPublic, "parent")));
    EXPECT_EQ(parameters(client.ok(unseal(box))).tpm2b(), bytes("treasure"));
    EXPECT_EQ(residue(sim), "transient 0x80000000, transient 0x80000001");

    client.ok(evictControl(parent, kPersistent));
    EXPECT_EQ(handles(client, TPM2_PERSISTENT_FIRST), std::vector<TPM2_HANDLE>{kPersistent});
    client.ok(evictControl(kPersistent, kPersistent));
    client.ok(flushContext(parent));
    client.ok(flushContext(box));
    EXPECT_EQ(residue(sim), "");
}

TEST_F(Support, MakesEachKindOfKey) {
    for (const Bytes& area : {eccStorage("a"), rsaStorage(), eccSigning(), hmacKey("b"),
                              eccStorage("", TPMA_OBJECT_STCLEAR)})
        client.ok(flushContext(handle(client.ok(createPrimary(TPM2_RH_NULL, area)))));
    EXPECT_NE(primaryName(client.ok(createPrimary(TPM2_RH_OWNER, eccStorage("a")))),
              primaryName(client.ok(createPrimary(TPM2_RH_OWNER, eccStorage("b")))));
    client.ok(flushContext(kFirst));
    client.ok(flushContext(kFirst + 1));
    client.ok(flushContext(handle(client.ok(loadExternalEcc(TPM2_RH_OWNER)))));
    TPM2_HANDLE key = handle(client.ok(loadExternalHmac("key", "auth")));
    EXPECT_EQ(parameters(client.ok(hmac(key, "data", "auth"))).tpm2b(),
              hmacSha256(bytes("key"), bytes("data")));
}

TEST_F(Support, RunsSequences) {
    TPM2_HANDLE hash = handle(client.ok(hashSequenceStart("auth")));
    client.ok(sequenceUpdate(hash, "ab", "auth"));
    EXPECT_EQ(parameters(client.ok(sequenceComplete(hash, "c", "auth"))).tpm2b(),
              sha256(bytes("abc")));
    TPM2_HANDLE key = handle(client.ok(loadExternalHmac("key")));
    TPM2_HANDLE mac = handle(client.ok(hmacStart(key)));
    client.ok(sequenceUpdate(mac, "da"));
    EXPECT_EQ(parameters(client.ok(sequenceComplete(mac, "ta"))).tpm2b(),
              hmacSha256(bytes("key"), bytes("data")));
    TPM2_HANDLE event = handle(client.ok(hashSequenceStart("", TPM2_ALG_NULL)));
    client.ok(eventSequenceComplete(kPcr, event, "boot"));
    client.ok(pcrExtend(kPcr));
    client.ok(pcrRead(kPcr));
    EXPECT_EQ(residue(sim), "transient " + hex(key));
}

TEST_F(Support, RunsPoliciesAndNv) {
    client.ok(nvDefineSpace(kIndex, 4, "nv"));
    client.ok(nvWrite(kIndex, "data", "nv"));
    EXPECT_EQ(parameters(client.ok(nvRead(kIndex, 4, "nv"))).tpm2b(), bytes("data"));
    TPM2_HANDLE policy = handle(client.ok(startAuthSession(TPM2_SE_POLICY)));
    client.ok(policyCommandCode(policy, TPM2_CC_Unseal));
    client.ok(policyPcr(policy, 16));
    client.ok(policySecret(TPM2_RH_OWNER, policy));
    client.ok(policyNv(kIndex, policy, "data", "nv"));
    client.ok(policyPassword(policy));
    EXPECT_NE(parameters(client.ok(policyGetDigest(policy))).tpm2b(), Bytes(32));
    client.ok(policyRestart(policy));
    EXPECT_EQ(parameters(client.ok(policyGetDigest(policy))).tpm2b(), Bytes(32));
    Bytes saved = context(client.ok(contextSave(policy)));
    EXPECT_EQ(residue(sim), "saved session 0x2000000");
    EXPECT_EQ(handle(client.ok(contextLoad(saved))), policy);
    client.ok(flushContext(policy));
    client.ok(flushContext(handle(client.ok(startAuthSession(TPM2_SE_TRIAL)))));
    EXPECT_EQ(publicName(client.ok(nvReadPublic(kIndex))).size(), 34u);
    client.ok(nvUndefineSpace(kIndex));
}

TEST_F(Support, CommandsTheHierarchies) {
    client.ok(hierarchyControl(TPM2_RH_OWNER, false));
    EXPECT_EQ(rc(client.send(createPrimary())), 0x185u);
    client.ok(hierarchyControl(TPM2_RH_OWNER, true));
    client.ok(changePps());
    client.ok(changeEps());
    client.ok(clear());
    client.ok(clear(TPM2_RH_PLATFORM));
    EXPECT_EQ(
        property(client.ok(getCapability(TPM2_CAP_TPM_PROPERTIES, TPM2_PT_ACTIVE_SESSIONS_MAX))),
        64u);
}

TEST_F(Support, AuthorizesWithAnHmacSession) {
    Session session = Session::start(client);
    Bytes primary = client.ok(createPrimary(TPM2_RH_OWNER, eccStorage(), "secret"));
    TPM2_HANDLE key = handle(primary);
    std::vector<Bytes> names{primaryName(primary)};
    Bytes made = session.authorize(client, create(key), "secret", names);
    ASSERT_EQ(rc(made), 0u);
    EXPECT_EQ(rc(session.authorize(client, create(key), "wrong", names)), 0x9A2u);
    EXPECT_EQ(rc(session.authorize(client, create(key), "secret", names, 0)), 0u);
    EXPECT_EQ(residue(sim), "transient 0x80000000");
    EXPECT_THROW(session.authorize(client, create(key), "secret"), std::logic_error);
}

TEST_F(Support, NoticesAWrongResponseHmac) {
    Session session = Session::start(client);
    // The TPM answers with the new auth value in the HMAC's key; the session still has the old.
    Command change = Command(TPM2_CC_HierarchyChangeAuth).handle(TPM2_RH_OWNER).password();
    EXPECT_THROW(session.authorize(client, change.tpm2b("new")), std::runtime_error);
    client.ok(createPrimary(TPM2_RH_OWNER, eccStorage(), "", "new"));
}

TEST_F(Support, AuthorizesWithABoundSession) {
    Bytes primary = client.ok(createPrimary(TPM2_RH_OWNER, eccStorage(), "secret"));
    TPM2_HANDLE key = handle(primary);
    std::vector<Bytes> names{primaryName(primary)};
    Session bound =
        Session::start(client, {.bind = key, .bindName = names[0], .bindAuth = "secret"});
    EXPECT_EQ(rc(bound.authorize(client, create(key), "secret", names)), 0u);
    Bytes other = client.ok(createPrimary(TPM2_RH_OWNER, eccStorage("x"), "other"));
    EXPECT_EQ(rc(bound.authorize(client, create(handle(other)), "other", {primaryName(other)})),
              0u);
    Session owner = Session::start(client, {.bind = TPM2_RH_OWNER});
    EXPECT_EQ(rc(owner.authorize(client, createPrimary())), 0u);
}

TEST_F(Support, EncryptsParameters) {
    Session session = Session::start(client, {.symmetric = true});
    constexpr uint8_t both =
        TPMA_SESSION_CONTINUESESSION | TPMA_SESSION_DECRYPT | TPMA_SESSION_ENCRYPT;
    Bytes key = client.ok(loadExternalHmac("key", "auth"));
    Bytes name = parameters(key, 1).tpm2b();
    Bytes expected = hmacSha256(bytes("key"), bytes("data"));
    Bytes first = session.authorize(client, hmac(handle(key), "data"), "auth", {name}, both);
    ASSERT_EQ(rc(first), 0u);
    EXPECT_EQ(parameters(first).tpm2b(), expected);
    Session plain = Session::start(client);
    Bytes second = sendWith(client, hmac(handle(key), "data"),
                            {{&plain, "auth"}, {&session, "", both}}, {name});
    ASSERT_EQ(rc(second), 0u);
    EXPECT_EQ(parameters(second).tpm2b(), expected);
    Bytes third = session.audit(client, hmac(handle(key), "data", "auth"), {name}, both);
    ASSERT_EQ(rc(third), 0u);
    EXPECT_EQ(parameters(third).tpm2b(), expected);
}

TEST_F(Support, AuditsWithASession) {
    Session session = Session::start(client);
    Bytes signer = client.ok(createPrimary(TPM2_RH_OWNER, eccSigning()));
    constexpr uint8_t exclusive =
        TPMA_SESSION_CONTINUESESSION | TPMA_SESSION_AUDIT | TPMA_SESSION_AUDITEXCLUSIVE;
    ASSERT_EQ(rc(session.audit(client, getRandom())), 0u);
    ASSERT_EQ(rc(session.audit(client, getRandom(), {}, exclusive)), 0u);
    client.ok(getSessionAuditDigest(handle(signer), session.handle()));
    EXPECT_EQ(rc(session.audit(client, getRandom(), {}, exclusive)), TPM2_RC_EXCLUSIVE);
    EXPECT_EQ(rc(session.audit(client, createPrimary())), 0u);
}

TEST_F(Support, AuthorizesWithAPolicySession) {
    Session trial = Session::start(client, TPM2_SE_TRIAL);
    client.ok(policyAuthValue(trial.handle()));
    Bytes digest = parameters(client.ok(policyGetDigest(trial.handle()))).tpm2b();
    Bytes key = client.ok(createPrimary(TPM2_RH_OWNER, policyOnly(hmacKey(), digest), "secret"));
    EXPECT_EQ(rc(client.send(hmac(handle(key), "data", "secret"))), 0x12Fu);
    Session policy = Session::start(client, TPM2_SE_POLICY);
    for (int i = 0; i < 2; i++) {
        client.ok(policyAuthValue(policy.handle()));
        policy.authValueNeeded = true;
        EXPECT_EQ(
            rc(policy.authorize(client, hmac(handle(key), "data"), "secret", {primaryName(key)})),
            0u);
    }
}

TEST_F(Support, ResetsUnderTheClientsFeet) {
    client.ok(createPrimary());
    sim.reset(AfterReset::none);
    EXPECT_EQ(rc(client.send(getRandom())), TPM2_RC_INITIALIZE);
    client.ok(startup());
    EXPECT_EQ(residue(sim), "");

    TPM2_HANDLE session = handle(client.ok(startAuthSession()));
    Bytes saved = context(client.ok(contextSave(session)));
    client.ok(shutdown(TPM2_SU_STATE));
    sim.reset(AfterReset::startupState);
    EXPECT_EQ(handle(client.ok(contextLoad(saved))), session);
    sim.reset();
    EXPECT_EQ(rc(client.send(contextLoad(saved))), 0x1DFu);
}

TEST_F(Support, DiesAndComesBack) {
    client.ok(nvDefineSpace(kIndex));
    client.ok(createPrimary());
    size_t before = sim.commandCount();
    sim.kill();
    EXPECT_THROW(client.send(getRandom()), std::runtime_error);
    EXPECT_NE(Client::tryOpen(sim.conf()), TSS2_RC_SUCCESS);
    sim.restart();
    EXPECT_EQ(Client::tryOpen(sim.conf()), TSS2_RC_SUCCESS);
    EXPECT_EQ(sim.commandCount(), before);
    Client again = Client::bare(sim);
    EXPECT_EQ(handles(again, TPM2_NV_INDEX_FIRST), std::vector<TPM2_HANDLE>{kIndex});
    EXPECT_EQ(sim.commandCount(), before + 1);
    EXPECT_EQ(residue(sim), "");
    sim.killAndRestart();
    EXPECT_EQ(residue(sim), "");
}

TEST_F(Support, ListsHandlesOverSeveralPages) {
    for (int i = 0; i < 2; i++) client.ok(startAuthSession());
    Client other = Client::bare(sim);
    for (int i = 0; i < 40; i++) {
        TPM2_HANDLE session = handle(other.ok(startAuthSession()));
        other.ok(contextSave(session));
    }
    EXPECT_EQ(handles(client, TPM2_LOADED_SESSION_FIRST).size(), 2u);
    EXPECT_EQ(handles(client, TPM2_ACTIVE_SESSION_FIRST).size(), 40u);
}

TEST_F(Support, AGateHoldsCommandsAndLetsThemThrough) {
    Gate gate(sim);
    Client behind(gate.conf());
    behind.ok(getRandom());
    gate.close();
    ASSERT_EQ(behind.transmit(readPublic(kFirst)), TSS2_RC_SUCCESS);
    EXPECT_EQ(gate.await(), TPM2_CC_ReadPublic);
    EXPECT_EQ(sim.commandCount(), 1u);
    gate.passOne();
    Bytes response;
    ASSERT_EQ(behind.receive(response), TSS2_RC_SUCCESS);
    EXPECT_EQ(rc(response), TPM2_RC_REFERENCE_H0);
    ASSERT_EQ(behind.transmit(getRandom()), TSS2_RC_SUCCESS);
    EXPECT_EQ(gate.await(), TPM2_CC_GetRandom);
    EXPECT_EQ(sim.commandCount(), 2u);
    gate.open();
    ASSERT_EQ(behind.receive(response), TSS2_RC_SUCCESS);
    EXPECT_EQ(gate.commands(), sim.commands());
}

TEST_F(Support, AGateCancelsWhatWaits) {
    Gate gate(sim);
    Client behind(gate.conf());
    for (const auto what : {Gate::OnCancel::answerCanceled, Gate::OnCancel::carryOn}) {
        gate.onCancel(what);
        gate.close();
        ASSERT_EQ(behind.transmit(getRandom()), TSS2_RC_SUCCESS);
        gate.await();
        SwtpmLink(gate.port()).cancel();
        const bool canceled = what == Gate::OnCancel::answerCanceled;
        if (!canceled) gate.open();
        Bytes response;
        ASSERT_EQ(behind.receive(response), TSS2_RC_SUCCESS);
        EXPECT_EQ(rc(response), canceled ? TPM2_RC_CANCELED : TPM2_RC_SUCCESS);
    }
    EXPECT_EQ(gate.cancels(), 2u);
    EXPECT_EQ(gate.commandCount(), 2u);
    EXPECT_EQ(sim.commandCount(), 1u);
}

TEST(SupportSimulator, EndsItsProcess) {
    pid_t pid;
    {
        Simulator one, two;
        EXPECT_NE(one.port(), two.port());
        pid = one.pid();
        EXPECT_EQ(::kill(pid, 0), 0);
    }
    EXPECT_EQ(::kill(pid, 0), -1);
}

}  // namespace
}  // namespace spaces::test
