/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What spaces share in one TPM, and what each has of it: counting properties, dictionary attack
 * counters, PIN indices, persistent objects, localities, the line before the TPM, command audit.
 * What always holds here: what is shared by nature is told honestly, and a refused command has
 * used up nothing.
 */
#include <functional>
#include <utility>

#include "shared_and_private.h"
#include "support/crypto.h"
#include "support/session.h"

namespace spaces::test {
namespace {

constexpr TPM2_HANDLE kPersistent = 0x81000001, kIndex = 0x01000001;

Command getProperties(uint32_t first, uint32_t count) {
    return getCapability(TPM2_CAP_TPM_PROPERTIES, first, count);
}

/** The list in a GetCapability response: property and value by turns. */
std::vector<uint32_t> propertyList(const Bytes& response) {
    Cursor cursor = parameters(response);
    cursor.u8();  // moreData
    EXPECT_EQ(hex(cursor.u32()), hex(TPM2_CAP_TPM_PROPERTIES));
    std::vector<uint32_t> list(2 * cursor.u32());
    for (uint32_t& each : list) each = cursor.u32();
    return list;
}

// ---- Properties

TEST_F(Isolation, PropertiesOfASpaceAlone) {
    for (Client* client : {&a, &own}) {
        client->ok(createPrimary());
        const TPM2_HANDLE saved = handle(client->ok(startAuthSession(TPM2_SE_POLICY)));
        client->ok(contextSave(saved));
        client->ok(startAuthSession());
    }
    for (auto [first, count] : {std::pair{0x203u, 6u},
                                {0x200u, 1u},
                                {0x200u, 64u},
                                {0x1FFu, 1u},
                                {0x10Eu, 8u},
                                {0x100u, 64u},
                                {0x20Au, 1u},
                                {0x300u, 1u},
                                {0x203u, 0u}}) {
        SCOPED_TRACE(hex(first));
        EXPECT_EQ(hex(both(getProperties(first, count))), hex(own.ok(getProperties(first, count))));
    }
    EXPECT_EQ(parameters(a.ok(getProperties(0x200, 1))).u8(), 1);
    const Bytes empty = a.ok(getProperties(0x1FF, 1));
    EXPECT_EQ(hex(empty),
              "800100000013000000000000000006"
              "00000000");
    for (TPM2_HANDLE saved : handles(a, kSaved)) a.ok(flushContext(saved));
}

TEST_F(Isolation, PropertiesAmongOthers) {
    for (Client* client : {&a, &own}) {
        client->ok(createPrimary());
        client->ok(contextSave(handle(client->ok(startAuthSession(TPM2_SE_POLICY)))));
        client->ok(startAuthSession());
    }
    b.ok(createPrimary());
    b.ok(startAuthSession());
    b.ok(contextSave(handle(b.ok(startAuthSession()))));
    // What is available is what the TPM has left for everybody; slots that others have are
    // available with swapping.
    const uint32_t slots = swapping() ? 2 : 1;
    EXPECT_EQ(propertyList(a.ok(getProperties(TPM2_PT_HR_LOADED, 6))),
              (std::vector<uint32_t>{TPM2_PT_HR_LOADED, 1, TPM2_PT_HR_LOADED_AVAIL, slots,
                                     TPM2_PT_HR_ACTIVE, 2, TPM2_PT_HR_ACTIVE_AVAIL, 60,
                                     TPM2_PT_HR_TRANSIENT_AVAIL, slots, TPM2_PT_HR_PERSISTENT, 0}));
    EXPECT_EQ(propertyList(own.ok(getProperties(TPM2_PT_HR_LOADED, 6))),
              (std::vector<uint32_t>{TPM2_PT_HR_LOADED, 1, TPM2_PT_HR_LOADED_AVAIL, 2,
                                     TPM2_PT_HR_ACTIVE, 2, TPM2_PT_HR_ACTIVE_AVAIL, 62,
                                     TPM2_PT_HR_TRANSIENT_AVAIL, 2, TPM2_PT_HR_PERSISTENT, 0}));
    EXPECT_EQ(property(b.ok(getProperties(TPM2_PT_HR_ACTIVE, 1))), 2u);
    Client c = Client::space(shared);
    EXPECT_EQ(property(c.ok(getProperties(TPM2_PT_HR_LOADED, 1))), 0u);
    EXPECT_EQ(property(c.ok(getProperties(TPM2_PT_HR_ACTIVE, 1))), 0u);
    for (Client* client : {&a, &b})
        for (TPM2_HANDLE saved : handles(*client, kSaved)) client->ok(flushContext(saved));
}

// ---- Dictionary attack protection

/** A storage key that a wrong auth value is counted for. */
Bytes protectedStorage() {
    Bytes area = eccStorage();
    area.at(6) &= static_cast<uint8_t>(~(TPMA_OBJECT_NODA >> 8));
    return area;
}

uint32_t lockoutCounter(Client& client) {
    return property(client.ok(getProperties(TPM2_PT_LOCKOUT_COUNTER, 1)));
}

TEST_F(Isolation, DaRetry) {
    both(createPrimary(TPM2_RH_OWNER, protectedStorage(), "right"));
    EXPECT_EQ(hex(bothCode(create(kFirst, eccSigning(), "", "", "right"))), hex(0x922u));
    EXPECT_EQ(hex(bothCode(create(kFirst, eccSigning(), "", "", "right"))), hex(0u));
    makeObjects(b, 2);
    if (!swapping()) makeObjects(own, 2);
    EXPECT_EQ(hex(bothCode(create(kFirst, eccSigning(), "", "", "right"))),
              hex(unlessSwapping(0x902)));
    EXPECT_EQ(alike(lockoutCounter), 0u);
    EXPECT_EQ(hex(bothCode(create(kFirst, eccSigning(), "", "", "wrong"))), hex(0x98Eu));
    EXPECT_EQ(alike(lockoutCounter), 1u);
    EXPECT_EQ(lockoutCounter(b), 1u);  // one TPM, one counter
}

// A command with a foreign handle or session never comes to its authorisation.
TEST_F(Isolation, DaCountsNoCommandThatCannotRun) {
    both(createPrimary(TPM2_RH_OWNER, protectedStorage(), "right"));
    bothCode(create(kFirst, eccSigning(), "", "", "right"));
    const TPM2_HANDLE foreign = handle(b.ok(startAuthSession()));
    EXPECT_EQ(hex(bothCode(create(kFirst, eccSigning(), "", "", "wrong").session(foreign))),
              hex(0x919u));
    b.ok(createPrimary());
    EXPECT_EQ(hex(bothCode(certify(kFirst, kSecond, "wrong", ""))), hex(0x911u));
    EXPECT_EQ(alike(lockoutCounter), 0u);
}

// ---- PIN-Pass

/** An index that its PIN, "pin", opens five times; the owner writes it and reads it uncounted. */
void definePinPass(Client& client) {
    constexpr TPMA_NV attributes = (TPM2_NT_PIN_PASS << TPMA_NV_TPM2_NT_SHIFT) | TPMA_NV_AUTHREAD |
                                   TPMA_NV_OWNERWRITE | TPMA_NV_OWNERREAD | TPMA_NV_NO_DA;
    Bytes area;
    append(area, kIndex, 4);
    append(area, TPM2_ALG_SHA256, 2);
    append(area, attributes, 4);
    appendTpm2b(area, {});
    append(area, 8, 2);
    client.ok(
        Command(TPM2_CC_NV_DefineSpace).handle(TPM2_RH_OWNER).password().tpm2b("pin").tpm2b(area));
    const Bytes fresh = {0, 0, 0, 0, 0, 0, 0, 5};  // pinCount, pinLimit
    client.ok(Command(TPM2_CC_NV_Write)
                  .handle(TPM2_RH_OWNER)
                  .handle(kIndex)
                  .password()
                  .tpm2b(fresh)
                  .u16(0));
}

uint32_t pinCount(Client& client) {
    const Bytes data = client.ok(
        Command(TPM2_CC_NV_Read).handle(TPM2_RH_OWNER).handle(kIndex).password().u16(8).u16(0));
    return Cursor(parameters(data).tpm2b()).u32();
}

TEST_F(Isolation, PinPass) {
    for (Client* client : {&a, &own}) {
        client->ok(createPrimary(TPM2_RH_OWNER, eccSigning()));
        client->ok(evictControl(kFirst, kPersistent));
        definePinPass(*client);
    }
    makeObjects(b, 2);
    if (!swapping()) makeObjects(own, 2);
    const Command nvCertify = Command(TPM2_CC_NV_Certify)
                                  .handle(kPersistent)
                                  .handle(kIndex)
                                  .handle(kIndex)
                                  .password()
                                  .password("pin")
                                  .tpm2b()
                                  .u16(TPM2_ALG_NULL)
                                  .u16(8)
                                  .u16(0);
    if (!swapping()) {
        EXPECT_EQ(hex(bothCode(nvCertify)), hex(0x902u));  // the signer finds no slot
        EXPECT_EQ(alike(pinCount), 0u);
        b.ok(flushContext(kSecond));
        own.ok(flushContext(kThird));
    }
    EXPECT_EQ(hex(bothCode(nvCertify)), hex(0u));
    EXPECT_EQ(alike(pinCount), 1u);
}

// ---- Persistent objects

TEST_F(Isolation, EvictControl) {
    b.ok(createPrimary(TPM2_RH_NULL));
    const Bytes name = primaryName(both(createPrimary()));
    EXPECT_EQ(hex(bothCode(evictControl(kSecond, kPersistent))), hex(0x911u));
    both(evictControl(kFirst, kPersistent));
    EXPECT_EQ(hex(publicName(both(readPublic(kFirst)))), hex(name));
    EXPECT_EQ(alike([](Client& client) { return handles(client, kFirst); }), Handles{kFirst});
    for (Client* client : {&a, &b}) {
        EXPECT_EQ(hex(publicName(client->ok(readPublic(kPersistent)))), hex(name));
        EXPECT_EQ(handles(*client, TPM2_PERSISTENT_FIRST), Handles{kPersistent});
    }
    EXPECT_EQ(hex(rc(b.send(evictControl(kSecond, 0x81000002)))), hex(0x911u));  // A's
    b.ok(flushContext(kFirst));
    for (Client* client : {&a, &b}) client->ok(create(kPersistent));
    b.ok(evictControl(kPersistent, kPersistent));
    EXPECT_EQ(hex(rc(a.send(readPublic(kPersistent)))), hex(0x18Bu));
    EXPECT_EQ(hex(publicName(a.ok(readPublic(kFirst)))), hex(name));
}

// While a command runs, its persistent keys take the lowest free slots, and what it makes comes
// after them.
TEST_F(Isolation, ObjectsMadeUnderPersistentKeys) {
    for (Client* client : {&a, &own}) {
        client->ok(createPrimary());
        client->ok(evictControl(kFirst, kPersistent));
        client->ok(flushContext(kFirst));
        const Created made = created(client->ok(create(kPersistent, hmacKey())));
        EXPECT_EQ(hex(handle(client->ok(load(kPersistent, made.outPrivate, made.outPublic)))),
                  hex(kSecond));
        EXPECT_EQ(hex(handle(client->ok(load(kPersistent, made.outPrivate, made.outPublic)))),
                  hex(kThird));
        EXPECT_EQ(hex(handle(client->ok(createPrimary()))), hex(kFirst));
        EXPECT_EQ(handles(*client, kFirst), (Handles{kFirst, kSecond, kThird}));
    }
}

// ---- Cancel

TEST_F(Isolation, CancelWhileTheTpmWorks) {
    for (Client* client : {&a, &own}) {
        ASSERT_EQ(client->transmit(createPrimary(TPM2_RH_OWNER, rsaStorage())), TSS2_RC_SUCCESS);
        EXPECT_EQ(hex(client->cancel()), hex(TSS2_TCTI_RC_NOT_IMPLEMENTED));  // swtpm's TCTI
        Bytes response;
        ASSERT_EQ(client->receive(response), TSS2_RC_SUCCESS);
        EXPECT_EQ(hex(handle(response)), hex(kFirst));
        EXPECT_EQ(handles(*client, kFirst), Handles{kFirst});
    }
}

TEST_F(Isolation, CancelInLine) {
    const Bytes command = createPrimary(TPM2_RH_OWNER, eccStorage("never made"));
    ASSERT_EQ(a.transmit(createPrimary()), TSS2_RC_SUCCESS);
    ASSERT_EQ(b.transmit(command), TSS2_RC_SUCCESS);
    EXPECT_EQ(b.cancel(), TSS2_RC_SUCCESS);
    Bytes response;
    ASSERT_EQ(b.receive(response), TSS2_RC_SUCCESS);
    EXPECT_EQ(hex(response), "80010000000a00000909");
    ASSERT_EQ(a.receive(response), TSS2_RC_SUCCESS);
    EXPECT_EQ(hex(rc(response)), hex(0u));
    for (const Bytes& seen : shared.commands()) EXPECT_NE(hex(seen), hex(command));
    EXPECT_EQ(handles(b, kFirst), Handles{});
    b.ok(command);  // the context goes on, and so does the command
}

TEST_F(Isolation, CancelInTheMiddleOfTheLine) {
    Client c = Client::space(shared);
    const size_t mark = shared.commandCount();
    ASSERT_EQ(a.transmit(getRandom(11)), TSS2_RC_SUCCESS);
    ASSERT_EQ(b.transmit(getRandom(12)), TSS2_RC_SUCCESS);
    ASSERT_EQ(c.transmit(getRandom(13)), TSS2_RC_SUCCESS);
    EXPECT_EQ(b.cancel(), TSS2_RC_SUCCESS);
    Bytes response;
    ASSERT_EQ(c.receive(response), TSS2_RC_SUCCESS);
    EXPECT_EQ(parameters(response).tpm2b().size(), 13u);
    ASSERT_EQ(a.receive(response), TSS2_RC_SUCCESS);
    EXPECT_EQ(parameters(response).tpm2b().size(), 11u);
    ASSERT_EQ(b.receive(response), TSS2_RC_SUCCESS);
    EXPECT_EQ(hex(response), "80010000000a00000909");
    EXPECT_EQ(shared.commands(mark), (std::vector<Bytes>{getRandom(11), getRandom(13)}));
}

// What is ready to be fetched stays what it is.
TEST_F(Isolation, CancelTooLate) {
    ASSERT_EQ(a.transmit(createPrimary()), TSS2_RC_SUCCESS);
    ASSERT_EQ(b.transmit(getRandom()), TSS2_RC_SUCCESS);
    Bytes response;
    ASSERT_EQ(b.receive(response), TSS2_RC_SUCCESS);  // so A's is there too
    a.cancel();
    ASSERT_EQ(a.receive(response), TSS2_RC_SUCCESS);
    EXPECT_EQ(hex(handle(response)), hex(kFirst));
    a.ok(readPublic(kFirst));
}

// ---- Locality.  swtpm has one for everybody, which every new context sets to 0: so here no client
// is opened after the first setLocality.

constexpr TPM2_HANDLE kDrtmPcr = 17;  // extended from localities 2 to 4 only

TEST_F(Isolation, Locality) {
    ASSERT_EQ(b.setLocality(3), TSS2_RC_SUCCESS);
    for (int i = 0; i < 3; i++) {
        EXPECT_EQ(hex(bothCode(pcrExtend(kDrtmPcr))), hex(0x907u));
        EXPECT_EQ(hex(rc(b.send(pcrExtend(kDrtmPcr)))), hex(0u));
    }
    ASSERT_EQ(own.setLocality(3), TSS2_RC_SUCCESS);
    EXPECT_EQ(hex(rc(own.send(pcrExtend(kDrtmPcr)))), hex(0u));
    ASSERT_EQ(a.setLocality(4), TSS2_RC_SUCCESS);
    EXPECT_EQ(hex(rc(a.send(pcrExtend(kDrtmPcr)))), hex(0u));
    ASSERT_EQ(b.setLocality(0), TSS2_RC_SUCCESS);
    EXPECT_EQ(hex(rc(b.send(pcrExtend(kDrtmPcr)))), hex(0x907u));
    EXPECT_EQ(hex(rc(a.send(pcrExtend(kDrtmPcr)))), hex(0u));
}

TEST_F(Isolation, LocalityOfCommandsInLine) {
    ASSERT_EQ(b.setLocality(3), TSS2_RC_SUCCESS);
    ASSERT_EQ(a.transmit(pcrExtend(kDrtmPcr)), TSS2_RC_SUCCESS);
    ASSERT_EQ(b.transmit(pcrExtend(kDrtmPcr)), TSS2_RC_SUCCESS);
    Bytes ofA, ofB;
    ASSERT_EQ(b.receive(ofB), TSS2_RC_SUCCESS);
    ASSERT_EQ(a.transmit(getRandom()), TSS2_TCTI_RC_BAD_SEQUENCE);
    ASSERT_EQ(a.receive(ofA), TSS2_RC_SUCCESS);
    EXPECT_EQ(hex(rc(ofA)), hex(0x907u));
    EXPECT_EQ(hex(rc(ofB)), hex(0u));
}

TEST_F(Isolation, PolicyLocality) {
    Bytes digests[2];
    for (int i = 0; i < 2; i++) {
        Client& client = i == 0 ? b : own;
        constexpr uint8_t localityThree = 1 << 3;
        const Command policyLocality =
            Command(TPM2_CC_PolicyLocality).handle(TPM2_POLICY_SESSION_FIRST).u8(localityThree);
        client.ok(startAuthSession(TPM2_SE_POLICY));
        client.ok(policyLocality);
        const Bytes digest =
            parameters(client.ok(policyGetDigest(TPM2_POLICY_SESSION_FIRST))).tpm2b();
        client.ok(createPrimary(TPM2_RH_OWNER, policyOnly(hmacKey(), digest)));
        const Command use =
            hmac(kFirst, "data").noAuth().session(TPM2_POLICY_SESSION_FIRST, Bytes(16));
        EXPECT_EQ(hex(rc(client.send(use))), hex(0x907u));
        ASSERT_EQ(client.setLocality(3), TSS2_RC_SUCCESS);
        a.ok(getRandom());
        EXPECT_EQ(hex(rc(client.send(use))), hex(0u));
        digests[i] = digest;
    }
    EXPECT_EQ(hex(digests[0]), hex(digests[1]));
}

TEST_F(Isolation, LocalityThatTheChildRefuses) {
    const TSS2_RC refused = own.setLocality(5);
    EXPECT_NE(refused, TSS2_RC_SUCCESS);
    EXPECT_EQ(hex(a.setLocality(5)), hex(refused));
    a.ok(getRandom());
    EXPECT_EQ(hex(rc(a.send(pcrExtend(kDrtmPcr)))), hex(0x907u));  // still at 0
}

// ---- Session indices are the TPM's own

TEST_F(Isolation, SessionIndexLeak) {
    for (int i = 0; i < 3; i++) b.ok(contextSave(handle(b.ok(startAuthSession()))));
    Session hmacSession = Session::start(a, {.bind = TPM2_RH_OWNER});
    EXPECT_EQ(hex(hmacSession.handle()), hex(TPM2_HMAC_SESSION_FIRST + 3));
    const TPM2_HANDLE policy = handle(a.ok(startAuthSession(TPM2_SE_POLICY)));
    EXPECT_EQ(hex(policy), hex(TPM2_POLICY_SESSION_FIRST + 4));
    EXPECT_EQ(handles(a, kLoaded), (Handles{hmacSession.handle(), policy}));
    EXPECT_EQ(handles(a, kLoaded + 4), Handles{policy});

    // The policy session's handle is its Name, in the HMAC of the other one.
    EXPECT_EQ(hex(rc(hmacSession.authorize(a, policySecret(TPM2_RH_OWNER, policy)))), hex(0u));
    EXPECT_EQ(hex(rc(hmacSession.authorize(a, createPrimary()))), hex(0u));
    const Bytes saved = context(a.ok(contextSave(policy)));
    EXPECT_EQ(handles(a, kSaved), Handles{TPM2_HMAC_SESSION_FIRST + 4});
    EXPECT_EQ(hex(handle(a.ok(contextLoad(saved)))), hex(policy));
    EXPECT_NE(parameters(a.ok(policyGetDigest(policy))).tpm2b(), Bytes(32));
    for (TPM2_HANDLE session : handles(b, kSaved)) b.ok(flushContext(session));
}

// ---- Command audit: one digest for the whole TPM, whoever sends the audited commands

Bytes commandAuditDigest(Client& client) {
    Cursor attest(parameters(client.ok(Command(TPM2_CC_GetCommandAuditDigest)
                                           .handle(TPM2_RH_ENDORSEMENT)
                                           .handle(TPM2_RH_NULL)
                                           .password()
                                           .password()
                                           .tpm2b()
                                           .u16(TPM2_ALG_NULL)))
                      .tpm2b());
    attest.bytes(4 + 2);   // magic, type
    attest.tpm2b();        // qualifiedSigner
    attest.tpm2b();        // extraData
    attest.bytes(17 + 8);  // clockInfo, firmwareVersion
    attest.u64();          // auditCounter
    EXPECT_EQ(attest.u16(), TPM2_ALG_SHA256);
    return attest.tpm2b();
}

void setAuditStatus(Client& client, TPMI_ALG_HASH algorithm, const std::vector<TPM2_CC>& codes) {
    Command command = Command(TPM2_CC_SetCommandCodeAuditStatus)
                          .handle(TPM2_RH_OWNER)
                          .password()
                          .u16(algorithm)
                          .u32(static_cast<uint32_t>(codes.size()));
    for (TPM2_CC code : codes) command.u32(code);
    client.ok(command.u32(0));
}

/** Has the TPM audit the command with SHA-256; returns the digest it starts with, which is not
 *  empty: the setting is audited as well. */
Bytes auditCommand(Client& client, TPM2_CC code) {
    setAuditStatus(client, TPM2_ALG_SHA256, {});
    setAuditStatus(client, TPM2_ALG_NULL, {code});
    return commandAuditDigest(client);
}

/** The digest after one more command, without sessions. */
Bytes extended(Bytes digest, const Command& command, const std::vector<Bytes>& names,
               const Bytes& response) {
    Bytes asked, answered;
    append(asked, command.code(), 4);
    for (const Bytes& name : names) append(asked, name);
    append(asked, Command(command).parameters());
    append(answered, TPM2_RC_SUCCESS, 4);
    append(answered, command.code(), 4);
    append(answered, Bytes(response.begin() + 10, response.end()));
    append(digest, sha256(asked));
    append(digest, sha256(answered));
    return sha256(digest);
}

TEST_F(Isolation, CommandAuditOfContextSave) {
    const Bytes nameOfB = primaryName(b.ok(createPrimary(TPM2_RH_NULL)));
    const Bytes nameOfA = primaryName(a.ok(createPrimary()));
    const Bytes start = auditCommand(a, TPM2_CC_ContextSave);
    if (capped()) {
        // Swapping saves, and the TPM audits that like everything else.
        b.ok(hashSequenceStart());
        a.ok(createPrimary());
        b.ok(readPublic(kFirst));
        EXPECT_NE(hex(commandAuditDigest(a)), hex(start));
        return;
    }

    // Isolation itself saves nothing: not when a space opens, probes, or closes.
    Client c = Client::space(shared);
    c.ok(createPrimary());
    c.send(readPublic(kSecond));
    c.close();
    EXPECT_EQ(hex(commandAuditDigest(a)), hex(start));

    const Command save = contextSave(kFirst);
    Bytes expected = extended(start, save, {nameOfA}, a.ok(save));
    EXPECT_EQ(hex(commandAuditDigest(a)), hex(expected));
    expected = extended(expected, save, {nameOfB}, b.ok(save));
    EXPECT_EQ(hex(commandAuditDigest(a)), hex(expected));
    EXPECT_EQ(hex(commandAuditDigest(b)), hex(expected));
}

// Closing a space flushes what it leaves, and the audit of FlushContext sees that.
TEST_F(Isolation, CommandAuditOfFlushContext) {
    b.ok(createPrimary(TPM2_RH_NULL));
    b.ok(createPrimary(TPM2_RH_NULL));
    const Bytes start = auditCommand(a, TPM2_CC_FlushContext);
    b.close();
    if (capped()) {
        // What is not in the TPM needs no FlushContext.
        EXPECT_NE(hex(commandAuditDigest(a)), hex(start));
        return;
    }
    const Bytes header = {0x80, 0x01, 0, 0, 0, 10, 0, 0, 0, 0};
    Bytes expected = extended(start, flushContext(kFirst), {}, header);
    expected = extended(expected, flushContext(kSecond), {}, header);
    EXPECT_EQ(hex(commandAuditDigest(a)), hex(expected));
}

}  // namespace
}  // namespace spaces::test
