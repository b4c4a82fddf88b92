/* SPDX-License-Identifier: BSD-2-Clause
 *
 * One client over the kernel's devices: what a space promises, with swapping off and on.
 */
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/time.h>
#include <tss2/tss2_esys.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <stdexcept>

#include "device.h"
#include "support/crypto.h"
#include "support/response.h"
#include "support/session.h"

namespace spaces::test {
namespace {

constexpr TPM2_HANDLE kFirst = TPM2_TRANSIENT_FIRST;

class Clients : public EachWay {};
INSTANTIATE_TEST_SUITE_P(, Clients, testing::ValuesIn(kWays),
                         [](const auto& info) { return std::string(info.param.name); });

// ---- ESAPI

void check(TSS2_RC result, const char* what) {
    if (result != TSS2_RC_SUCCESS)
        throw std::runtime_error(std::string(what) + " answered " + hex(result));
}

/** An ESAPI context over a TCTI context that it owns. */
class Esapi {
  public:
    explicit Esapi(Client client) : client_(std::move(client)) {
        check(Esys_Initialize(&context_, client_.context(), nullptr), "Esys_Initialize");
    }
    ~Esapi() { Esys_Finalize(&context_); }
    Esapi(const Esapi&) = delete;
    Esapi& operator=(const Esapi&) = delete;
    operator ESYS_CONTEXT*() const { return context_; }

  private:
    Client client_;
    ESYS_CONTEXT* context_ = nullptr;
};

template <class T>
using Owned = std::unique_ptr<T, decltype(&Esys_Free)>;
template <class T>
Owned<T> owned(T* pointer) {
    return {pointer, Esys_Free};
}

TPM2B_PUBLIC eccSigningKey() {
    TPM2B_PUBLIC area{};
    area.publicArea.type = TPM2_ALG_ECC;
    area.publicArea.nameAlg = TPM2_ALG_SHA256;
    area.publicArea.objectAttributes = TPMA_OBJECT_USERWITHAUTH | TPMA_OBJECT_SIGN_ENCRYPT |
                                       TPMA_OBJECT_FIXEDTPM | TPMA_OBJECT_FIXEDPARENT |
                                       TPMA_OBJECT_SENSITIVEDATAORIGIN | TPMA_OBJECT_NODA;
    TPMS_ECC_PARMS& parms = area.publicArea.parameters.eccDetail;
    parms.symmetric.algorithm = TPM2_ALG_NULL;
    parms.scheme.scheme = TPM2_ALG_ECDSA;
    parms.scheme.details.ecdsa.hashAlg = TPM2_ALG_SHA256;
    parms.curveID = TPM2_ECC_NIST_P256;
    parms.kdf.scheme = TPM2_ALG_NULL;
    return area;
}

ESYS_TR startEncryptingSession(ESYS_CONTEXT* esys) {
    TPMT_SYM_DEF aes{};
    aes.algorithm = TPM2_ALG_AES;
    aes.keyBits.aes = 128;
    aes.mode.aes = TPM2_ALG_CFB;
    ESYS_TR session = ESYS_TR_NONE;
    check(
        Esys_StartAuthSession(esys, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE,
                              ESYS_TR_NONE, nullptr, TPM2_SE_HMAC, &aes, TPM2_ALG_SHA256, &session),
        "Esys_StartAuthSession");
    constexpr TPMA_SESSION kEncrypting =
        TPMA_SESSION_CONTINUESESSION | TPMA_SESSION_DECRYPT | TPMA_SESSION_ENCRYPT;
    check(Esys_TRSess_SetAttributes(esys, session, kEncrypting, 0xFF), "Esys_TRSess_SetAttributes");
    return session;
}

// ESAPI checks the HMAC of every response, and so that no authenticated byte was changed.
TEST_P(Clients, EsapiSignsInAnEncryptedSession) {
    const Esapi esys(space());
    const ESYS_TR session = startEncryptingSession(esys);
    const TPM2B_SENSITIVE_CREATE sensitive{};
    const TPM2B_PUBLIC area = eccSigningKey();
    ESYS_TR key = ESYS_TR_NONE;
    const TPM2B_DATA outsideInfo{};
    const TPML_PCR_SELECTION creationPcr{};
    check(Esys_CreatePrimary(esys, ESYS_TR_RH_OWNER, session, ESYS_TR_NONE, ESYS_TR_NONE,
                             &sensitive, &area, &outsideInfo, &creationPcr, &key, nullptr, nullptr,
                             nullptr, nullptr),
          "Esys_CreatePrimary");
    const TPMT_SIG_SCHEME scheme{.scheme = TPM2_ALG_NULL, .details = {}};
    const TPMT_TK_HASHCHECK ticket{
        .tag = TPM2_ST_HASHCHECK, .hierarchy = TPM2_RH_NULL, .digest = {}};
    TPM2B_DIGEST digest{.size = 32, .buffer = {1, 2, 3}};
    TPMT_SIGNATURE* made = nullptr;
    check(
        Esys_Sign(esys, key, session, ESYS_TR_NONE, ESYS_TR_NONE, &digest, &scheme, &ticket, &made),
        "Esys_Sign");
    const auto signature = owned(made);
    TPMT_TK_VERIFIED* verified = nullptr;
    check(Esys_VerifySignature(esys, key, session, ESYS_TR_NONE, ESYS_TR_NONE, &digest,
                               signature.get(), &verified),
          "Esys_VerifySignature");
    owned(verified);
    digest.buffer[0] ^= 1;
    EXPECT_EQ(hex(Esys_VerifySignature(esys, key, session, ESYS_TR_NONE, ESYS_TR_NONE, &digest,
                                       signature.get(), nullptr)),
              hex(TPM2_RC_SIGNATURE | TPM2_RC_P | TPM2_RC_2));
}

// ---- TCTI

TEST_P(Clients, TwoSpacesOfOneProcess) {
    Client a = space(), b = space();
    const Key ofA(a, "A's"), ofB(b, "B's");
    EXPECT_EQ(hex(ofA.object), hex(kFirst));
    EXPECT_EQ(hex(ofB.object), hex(kFirst));
    ofA.expectUsable(a);
    ofB.expectUsable(b);
    const Policy mine(a, "A's");
    EXPECT_EQ(hex(rc(b.send(policyGetDigest(mine.session)))), hex(TPM2_RC_REFERENCE_H0));
    EXPECT_EQ(hex(rc(b.send(flushContext(mine.session)))), hex(0x1CBu));
    mine.expectUsable(a);
    a.close();
    ofB.expectUsable(b);
}

// What the kernel's resource manager refuses with EINVAL has the code of a TPM all the same, and
// nothing of the space's own is lost by it.
TEST_P(Clients, WhatDoesNotExistIsAnsweredAsByATpm) {
    Client client = space();
    const Key key(client, "a key");
    const Policy policy(client, "a policy");
    const auto answer = [&](const Bytes& command) { return hex(rc(client.send(command))); };
    EXPECT_EQ(answer(readPublic(kFirst + 1)), hex(0x910u));
    EXPECT_EQ(answer(flushContext(kFirst + 1)), hex(0x1CBu));
    EXPECT_EQ(answer(certify(key.object, kFirst + 2)), hex(0x911u));
    EXPECT_EQ(answer(readPublic(0x80FFFFFF)), hex(0x184u));
    EXPECT_EQ(answer(policyGetDigest(policy.session + 1)), hex(0x910u));
    EXPECT_EQ(answer(getRandom().session(policy.session + 1)), hex(0x918u));
    EXPECT_EQ(answer(readPublic(key.object).truncate(10)), hex(0x19Au));
    EXPECT_EQ(answer(readPublic(key.object).truncate(12)), hex(0x19Au));
    EXPECT_EQ(answer(Command(0x1FF)), hex(0x143u));
    EXPECT_EQ(answer(Command(0x20000123)), hex(0x143u));
    EXPECT_EQ(answer(getRandom().tag(0x1234)), hex(0x084u));
    key.expectUsable(client);
    policy.expectUsable(client);
}

// Large commands and responses, and one that is larger than a TPM takes.
TEST_P(Clients, LargeCommands) {
    Client client = space();
    const std::string most(1024, 'x');
    const Bytes hashed =
        client.ok(Command(TPM2_CC_Hash).tpm2b(most).u16(TPM2_ALG_SHA256).u32(TPM2_RH_NULL));
    EXPECT_EQ(hex(parameters(hashed).tpm2b()), hex(sha256(bytes(most))));
    const Key key(client, "a key");
    const Bytes saved = context(client.ok(contextSave(key.object)));
    const TPM2_HANDLE again = handle(client.ok(contextLoad(saved)));
    EXPECT_EQ(hex(again), hex(kFirst + 1));
    EXPECT_EQ(hex(client.send(readPublic(again))), hex(client.send(readPublic(key.object))));
    const auto ofSize = [](size_t size) {
        return Command(TPM2_CC_Hash).tpm2b(std::string(size - 12, 'x'));
    };
    EXPECT_EQ(hex(rc(client.send(ofSize(3900)))), hex(TPM2_RC_SIZE | TPM2_RC_P | TPM2_RC_1));
    EXPECT_EQ(hex(rc(client.send(ofSize(4097)))), hex(TPM2_RC_COMMAND_SIZE));
    key.expectUsable(client);
}

// Nothing of a command that nobody fetched the response of is left, nor in the way of what follows.
TEST_P(Clients, ClosedBeforeTheResponse) {
    Client client = space();
    ASSERT_EQ(client.transmit(createPrimary(TPM2_RH_NULL)), TSS2_RC_SUCCESS);
    client.close();
    Client next = space();
    EXPECT_EQ(hex(handle(next.ok(loadExternalEcc()))), hex(kFirst));
}

// ---- Signals

std::atomic<int> alarms = 0;

/** A timer that interrupts every system call which can be interrupted, while it lives. */
class Interrupting {
  public:
    Interrupting() {
        struct sigaction action {};
        action.sa_handler = [](int) { ++alarms; };  // and no SA_RESTART
        sigaction(SIGALRM, &action, &before_);
        const itimerval often{.it_interval = {0, kMicroseconds}, .it_value = {0, kMicroseconds}};
        setitimer(ITIMER_REAL, &often, nullptr);
    }
    ~Interrupting() {
        const itimerval never{};
        setitimer(ITIMER_REAL, &never, nullptr);
        sigaction(SIGALRM, &before_, nullptr);
    }
    Interrupting(const Interrupting&) = delete;
    Interrupting& operator=(const Interrupting&) = delete;

  private:
    static constexpr int kMicroseconds = 1000;
    struct sigaction before_ {};
};

// A program that has a timer of its own notices nothing of it, and its space even less.
TEST_P(Clients, SignalsInterruptNoCommand) {
    Client client = space();
    const Key key(client, "a key");
    constexpr int kCommands = 100;
    int interrupted = 0;
    {
        const AheadOfTheKernel ahead;
        const Interrupting timer;
        for (int i = 0; i < kCommands; i++) {
            ASSERT_EQ(hex(client.transmit(createPrimary(TPM2_RH_NULL))), hex(0u)) << i;
            const int before = alarms;
            Bytes response;
            ASSERT_EQ(hex(client.receive(response)), hex(0u)) << "command " << i;
            interrupted += alarms > before;
            ASSERT_EQ(hex(rc(response)), hex(0u)) << "command " << i;
            client.ok(flushContext(handle(response)));
        }
    }
    EXPECT_GT(interrupted, 0) << "this has shown nothing";
    key.expectUsable(client);
}

// Opening a device asks the TPM something, too.
TEST_P(Clients, SignalsInterruptNoOpening) {
    const AheadOfTheKernel ahead;
    const Interrupting timer;
    for (int i = 0; i < 20; i++) ASSERT_EQ(hex(Client::tryOpen(GetParam().conf())), hex(0u)) << i;
}

}  // namespace
}  // namespace spaces::test
