/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What a TPM answers to commands that name what is not there, or that are malformed, and which
 * error it reports when there are several.  A space answers the same: the handles that are absent
 * here are, beside a neighbour, the neighbour's.
 */
#include <tuple>

#include "neighbourhood.h"

namespace spaces::test {
namespace {

constexpr TPM2_HANDLE kPersistent = 0x81000001, kUndefined = 0x81000002;
constexpr TPM2_HANDLE kOutOfRange = 0x80000003;  // this TPM has three slots for objects
constexpr uint32_t kSessionOutOfRange = 64;      // and 64 session handles
constexpr uint8_t kContinue = TPMA_SESSION_CONTINUESESSION;

/** One entry of an authorization area. */
Bytes entry(TPM2_HANDLE session, const Bytes& nonce = {}, uint8_t attributes = kContinue,
            const Bytes& auth = {}) {
    Bytes area;
    append(area, session, 4);
    appendTpm2b(area, nonce);
    append(area, attributes, 1);
    appendTpm2b(area, auth);
    return area;
}

Bytes joined(Bytes first, const Bytes& second) {
    append(first, second);
    return first;
}

/** The command with these very bytes as its authorization area. */
Command withArea(Command command, const Bytes& area) {
    command.noAuth().tag(TPM2_ST_SESSIONS).authSize(static_cast<uint32_t>(area.size()));
    command.parameters() = joined(area, command.parameters());
    return command;
}

/** An object and two sessions of our own; the neighbour has another object and another session. */
class Parsing : public OnEveryTpm {
  protected:
    void SetUp() override {
        neighbourBelow(createPrimary(TPM2_RH_NULL, eccSigning("neighbour")));
        own = make(createPrimary(TPM2_RH_NULL, eccSigning()));
        neighbourAbove(createPrimary(TPM2_RH_NULL, eccSigning("neighbour")));
        hmacSession = make(startAuthSession());
        policySession = make(startAuthSession(TPM2_SE_POLICY));
        neighbour(startAuthSession(TPM2_SE_POLICY));
        ASSERT_EQ(own, 0x80000000u);
        ASSERT_EQ(hmacSession, 0x02000000u);
        ASSERT_EQ(policySession, 0x03000001u);
    }

    TPM2_HANDLE own = 0, hmacSession = 0, policySession = 0;
    const TPM2_HANDLE absent = 0x80000001, absentToo = 0x80000002;
    const TPM2_HANDLE absentSession = 0x03000002, absentHmacSession = 0x02000002;
};
ON_EVERY_TPM(Parsing);

// All handles are read before any of them is looked up.
TEST_P(Parsing, TruncatedHandles) {
    for (size_t bytes = 0; bytes < 4; bytes++) {
        EXPECT_EQ(answer(readPublic(own).truncate(10 + bytes)), 0x19Au);
        EXPECT_EQ(answer(readPublic(absent).truncate(10 + bytes)), 0x19Au);
        for (TPM2_HANDLE first : {own, absent, absentToo}) {
            EXPECT_EQ(answer(certify(first, own).truncate(14 + bytes)), 0x29Au);
            EXPECT_EQ(answer(certify(first, own).noAuth().truncate(14 + bytes)), 0x29Au);
        }
    }
}

// A wrong type anywhere comes before an absent handle, which comes before what follows it.
TEST_P(Parsing, PrecedenceTypeOverPresence) {
    for (TPM2_HANDLE gone : {absent, absentToo}) {
        EXPECT_EQ(answer(certify(gone, 0x02000000)), 0x284u);
        EXPECT_EQ(answer(certify(0x02000000, gone)), 0x184u);
        EXPECT_EQ(answer(certify(gone, gone)), 0x910u);
        EXPECT_EQ(answer(certify(gone, own)), 0x910u);
        EXPECT_EQ(answer(certify(own, gone)), 0x911u);
        EXPECT_EQ(answer(certify(kUndefined, gone)), 0x18Bu);
        EXPECT_EQ(answer(certify(gone, kUndefined)), 0x910u);
        EXPECT_EQ(answer(certify(kOutOfRange, gone)), 0x184u);
        EXPECT_EQ(answer(certify(gone, kOutOfRange)), 0x284u);
    }
    EXPECT_EQ(answer(policySecret(absent, absentSession)), 0x910u);
    EXPECT_EQ(answer(policySecret(own, absentSession)), 0x911u);
    EXPECT_EQ(answer(policySecret(absent, absentHmacSession)), 0x284u);
    EXPECT_EQ(answer(policyNv(0x01000001, absentSession, "")), 0x18Bu);
}

TEST_P(Parsing, OutOfRange) {
    for (TPM2_HANDLE object : {kOutOfRange, 0x80000004u, 0x80FFFFFEu, 0x80FFFFFFu}) {
        EXPECT_EQ(answer(readPublic(object)), 0x184u);
        EXPECT_EQ(answer(contextSave(object)), 0x184u);
        EXPECT_EQ(answer(flushContext(object)), 0x1C4u);
    }
    for (uint32_t index : {kSessionOutOfRange, 0xFFFFFEu, 0xFFFFFFu}) {
        for (TPM2_HANDLE type : {TPM2_HMAC_SESSION_FIRST, TPM2_POLICY_SESSION_FIRST}) {
            EXPECT_EQ(answer(readPublic(own).session(type + index)), 0x984u);
            EXPECT_EQ(answer(policyGetDigest(type + index)), 0x184u);
            EXPECT_EQ(answer(contextSave(type + index)), 0x184u);
            EXPECT_EQ(answer(flushContext(type + index)), 0x1C4u);
        }
    }
}

// A persistent object is loaded into a slot while the command's handles are looked up, so this TPM
// takes the number of that slot, in the same command, for the persistent object.  That is a
// mistake of the TPM which a space does not repeat: the handle is nobody's.
TEST_P(Parsing, AliasTrap) {
    const TPM2_HANDLE key = make(createPrimary(TPM2_RH_OWNER, eccSigning()));
    tpm.ok(evictControl(key, kPersistent));
    tpm.ok(flushContext(key));
    tpm.ok(flushContext(own));
    for (TPM2_HANDLE gone : {0x80000000u, absent, absentToo})
        EXPECT_EQ(answer(certify(gone, kPersistent)), 0x910u);
    const bool aliased = GetParam() == Setting::privateTpm;
    EXPECT_EQ(answer(certify(kPersistent, 0x80000000)), aliased ? 0u : 0x911u);
    EXPECT_EQ(answer(certify(kPersistent, absent)), 0x911u);
    EXPECT_EQ(answer(certify(kPersistent, absentToo)), 0x911u);
    EXPECT_EQ(answer(certify(kPersistent, kPersistent)), 0u);
}

// The type octet of a session handle is an attribute: the index says which session it is.
TEST_P(Parsing, WrongMso) {
    const TPM2_HANDLE wrong = 0x02000001;
    EXPECT_EQ(answer(readPublic(own).session(wrong)), 0x98Bu);
    EXPECT_EQ(answer(readPublic(own).session(0x03000000)), 0x98Bu);
    EXPECT_EQ(answer(policyGetDigest(0x03000000)), 0x18Bu);
    EXPECT_EQ(answer(policyGetDigest(wrong)), 0x184u);
    EXPECT_EQ(answer(contextSave(wrong)), 0x18Bu);
    EXPECT_EQ(answer(policyGetDigest(policySession)), 0u);
    EXPECT_EQ(answer(flushContext(wrong)), 0u);
    EXPECT_EQ(handles(tpm, TPM2_LOADED_SESSION_FIRST), std::vector<TPM2_HANDLE>{hmacSession});
    EXPECT_EQ(answer(flushContext(wrong)), 0x1CBu);
    EXPECT_EQ(answer(flushContext(policySession)), 0x1CBu);
    EXPECT_EQ(answer(policyGetDigest(policySession)), 0x910u);
}

// A handle's number says nothing without its type: we have sessions of these numbers.
TEST_P(Parsing, SameIndexOfAnotherType) {
    const std::vector<TPM2_HANDLE> before = handles(tpm, TPM2_LOADED_SESSION_FIRST);
    EXPECT_EQ(answer(flushContext(absent)), 0x1CBu);
    EXPECT_EQ(answer(flushContext(absentToo)), 0x1CBu);
    EXPECT_EQ(answer(contextSave(absent)), 0x910u);
    for (TPM2_HANDLE other : {0x01000001u, kPersistent, 0x40000001u, 0x90000001u, 0x00000001u})
        EXPECT_EQ(answer(flushContext(other)), 0x1C4u);
    const Bytes saved = context(tpm.ok(contextSave(policySession)));
    EXPECT_EQ(answer(flushContext(absent)), 0x1CBu);
    tpm.ok(contextLoad(saved));
    tpm.ok(flushContext(own));
    EXPECT_EQ(answer(flushContext(own)), 0x1CBu);
    EXPECT_EQ(handles(tpm, TPM2_LOADED_SESSION_FIRST), before);
}

TEST_P(Parsing, MalformedSessionBeatsMissingSession) {
    for (TPM2_HANDLE session : {absentSession, absentHmacSession, hmacSession}) {
        Bytes cutNonce;
        append(cutNonce, session, 4);
        append(cutNonce, 16, 2);
        append(cutNonce, Bytes(3));
        EXPECT_EQ(answer(withArea(readPublic(own), cutNonce)), 0x99Au);
        Bytes cutAuth = entry(session);
        cutAuth.back() = 1;
        EXPECT_EQ(answer(withArea(readPublic(own), cutAuth)), 0x99Au);
        EXPECT_EQ(answer(readPublic(own).session(session, {}, 0x18)), 0x9A1u);
        EXPECT_EQ(answer(readPublic(own).session(session, {}, 0x09)), 0x9A1u);
        EXPECT_EQ(answer(readPublic(own).session(session, Bytes(65))), 0x995u);
        EXPECT_EQ(answer(readPublic(own).session(session, {}, kContinue, Bytes(65))), 0x995u);
    }
    EXPECT_EQ(answer(withArea(readPublic(own), joined(entry(hmacSession), Bytes(3)))), 0xA9Au);
    // But only that session itself: what follows a missing one is not read any more.
    EXPECT_EQ(answer(withArea(readPublic(own), joined(entry(absentSession), Bytes(3)))), 0x918u);
}

// All sessions are looked up before the first of them authorizes anything.
TEST_P(Parsing, OrderAmongSessions) {
    constexpr TPM2_HANDLE garbage = 0x12345678;
    EXPECT_EQ(answer(certify(own, own).noAuth().password().session(absentSession).session(garbage)),
              0x919u);
    EXPECT_EQ(answer(certify(own, own).noAuth().password().session(garbage).session(absentSession)),
              0xA84u);
    EXPECT_EQ(answer(certify(own, own).session(absentSession)), 0x91Au);

    // A key under dictionary attack protection; its first use after Startup has to be repeated.
    Bytes protectedKey = eccSigning();
    protectedKey.at(6) &= static_cast<uint8_t>(~(TPMA_OBJECT_NODA >> 8));
    const TPM2_HANDLE key = make(createPrimary(TPM2_RH_NULL, protectedKey, "auth"));
    EXPECT_EQ(answer(sign(key, Bytes(32), "auth")), 0x922u);
    EXPECT_EQ(answer(sign(key, Bytes(32), "auth")), 0u);
    auto failures = [&] {
        return property(tpm.ok(getCapability(TPM2_CAP_TPM_PROPERTIES, TPM2_PT_LOCKOUT_COUNTER)));
    };
    EXPECT_EQ(answer(sign(key, Bytes(32), "wrong").session(absentSession)), 0x919u);
    EXPECT_EQ(failures(), 0u);
    EXPECT_EQ(answer(sign(key, Bytes(32), "wrong")), 0x98Eu);
    EXPECT_EQ(failures(), 1u);
}

TEST_P(Parsing, DuplicateSession) {
    EXPECT_EQ(answer(readPublic(own).session(hmacSession).session(hmacSession)), 0xA8Bu);
    EXPECT_EQ(answer(readPublic(own).session(absentSession).session(absentSession)), 0x918u);
    EXPECT_EQ(answer(readPublic(own).session(hmacSession).session(absentSession)), 0x919u);
}

TEST_P(Parsing, AuthSize) {
    for (uint32_t size : {0u, 8u, 10u, 0xFFFFFFFFu}) {
        EXPECT_EQ(answer(readPublic(own).session(hmacSession).authSize(size)), 0x095u) << size;
        EXPECT_EQ(answer(readPublic(own).session(absentSession).authSize(size)), 0x095u) << size;
    }
    for (size_t bytes = 0; bytes < 4; bytes++) {
        Command cut = readPublic(own).session(hmacSession).truncate(14 + bytes);
        EXPECT_EQ(answer(cut), 0x09Au);
        EXPECT_EQ(answer(cut.setHandle(0, absent)), 0x910u);
        EXPECT_EQ(answer(cut.setHandle(0, absentToo)), 0x910u);
    }
    const Bytes pw = entry(TPM2_RS_PW);
    EXPECT_EQ(answer(withArea(certify(own, own), joined(joined(pw, pw), joined(pw, pw)))), 0xC95u);
}

// ContextSave, ContextLoad and FlushContext take no sessions.
TEST_P(Parsing, ContextSaveWithSessions) {
    EXPECT_EQ(answer(contextSave(own).password()), 0x145u);
    EXPECT_EQ(answer(contextSave(absent).password()), 0x910u);
    EXPECT_EQ(answer(contextSave(absentToo).password()), 0x910u);
    EXPECT_EQ(answer(contextSave(policySession).password()), 0x145u);
    EXPECT_EQ(answer(contextSave(absentSession).password()), 0x910u);
    for (TPM2_HANDLE handle : {own, absent, absentToo, hmacSession, absentSession}) {
        EXPECT_EQ(answer(flushContext(handle).password()), 0x145u);
        EXPECT_EQ(answer(flushContext(handle).session(absentSession)), 0x145u);
        EXPECT_EQ(answer(flushContext(handle).tag(TPM2_ST_SESSIONS).truncate(10)), 0x09Au);
    }
    EXPECT_EQ(answer(contextLoad(Bytes(16)).password()), 0x145u);
    EXPECT_EQ(answer(readPublic(own)), 0u);
}

// The tag comes first, then the command code, then whether the TPM is started, then the handles.
TEST_P(Parsing, Tag) {
    for (TPM2_HANDLE object : {own, absent}) {
        EXPECT_EQ(answer(readPublic(object).tag(0x1234)), 0x084u);
        EXPECT_EQ(answer(readPublic(object).tag(TPM2_ST_RSP_COMMAND)), 0x01Eu);
    }
    const std::vector<TPM2_CC> unknown = {0x123, 0x999, 0x20000001, 0, 0xFFFFFFFF};
    for (TPM2_CC code : unknown) {
        EXPECT_EQ(answer(Command(code)), 0x143u);
        EXPECT_EQ(answer(Command(code).handle(absent)), 0x143u);
        EXPECT_EQ(answer(Command(code).handle(own).password()), 0x143u);
        EXPECT_EQ(answer(Command(code).session(absentSession)), 0x143u);
    }
    sim.reset(AfterReset::none);
    for (const Command& known : {readPublic(own), readPublic(absent), flushContext(own),
                                 getRandom(), contextSave(absentSession), certify(absent, 0)})
        EXPECT_EQ(answer(known), 0x100u);
    for (TPM2_CC code : unknown) EXPECT_EQ(answer(Command(code).handle(absent)), 0x143u);
    EXPECT_EQ(answer(startup()), 0u);
    EXPECT_EQ(answer(startup()), 0x100u);
    EXPECT_EQ(answer(readPublic(own)), 0x910u);
}

// A header that lies about the size is the caller's mistake: nothing is sent, nothing is changed.
TEST_P(Parsing, HeaderSizeMismatch) {
    const size_t before = sim.commandCount();
    for (uint32_t size : {0u, 9u, 13u, 15u, 0xFFFFFFFFu})
        EXPECT_EQ(tpm.transmit(readPublic(own).size(size)), TSS2_TCTI_RC_BAD_VALUE) << size;
    EXPECT_EQ(sim.commandCount(), before);
    EXPECT_EQ(answer(readPublic(own)), 0u);
    EXPECT_EQ(answer(readPublic(absent)), 0x910u);
    if (isSpace()) {
        EXPECT_EQ(answer(neighbourClient(), readPublic(0x80000000)), 0u);
    }
}

}  // namespace
}  // namespace spaces::test
