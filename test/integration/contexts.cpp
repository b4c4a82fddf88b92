/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Contexts that the client itself saves and loads: an object's as often as it likes and wherever
 * it likes, a session's once; and the limit on how far a saved session may fall behind.
 */
#include "neighbourhood.h"

namespace spaces::test {
namespace {

/** A saved context taken apart. */
struct Parts {
    uint64_t sequence;
    TPM2_HANDLE savedHandle;
    TPM2_HANDLE hierarchy;
    Bytes blob;

    explicit Parts(const Bytes& saved) : Parts(Cursor(saved)) {}
    explicit Parts(Cursor in)
        : sequence(in.u64()), savedHandle(in.u32()), hierarchy(in.u32()), blob(in.tpm2b()) {}
    operator Bytes() const {
        Bytes whole;
        append(whole, sequence, 8);
        append(whole, savedHandle, 4);
        append(whole, hierarchy, 4);
        appendTpm2b(whole, blob);
        return whole;
    }
};

/** The context with its last byte changed. */
Bytes tampered(Bytes saved) {
    saved.back() ^= 1;
    return saved;
}

class Contexts : public OnEveryTpm {
  protected:
    using OnEveryTpm::OnEveryTpm;

    Bytes save(TPM2_HANDLE handle) { return context(tpm.ok(contextSave(handle))); }
};
ON_EVERY_TPM(Contexts);

TEST_P(Contexts, ObjectBlobLoadsInOtherSpace) {
    neighbourBelow(createPrimary(TPM2_RH_NULL, eccSigning("neighbour")));
    const TPM2_HANDLE key = make(createPrimary(TPM2_RH_NULL, eccSigning()));
    const Bytes name = publicName(tpm.ok(readPublic(key)));
    const Bytes saved = save(key);
    tpm.ok(flushContext(key));
    EXPECT_EQ(answer(readPublic(key)), 0x910u);

    // A private TPM's only other client is a later one.
    Client other = isSpace() ? Client::space(sim) : Client::bare(sim);
    EXPECT_EQ(handle(other.ok(contextLoad(saved))), 0x80000000u);
    EXPECT_EQ(handle(other.ok(contextLoad(saved))), 0x80000001u);
    for (TPM2_HANDLE copy : {0x80000000u, 0x80000001u}) {
        EXPECT_EQ(publicName(other.ok(readPublic(copy))), name);
        EXPECT_EQ(answer(other, sign(copy)), 0u);
    }
    EXPECT_EQ(answer(other, flushContext(0x80000000)), 0u);
    EXPECT_EQ(answer(other, readPublic(0x80000001)), 0u);

    tpm.close();
    EXPECT_EQ(handle(other.ok(contextLoad(saved))), 0x80000000u);
    EXPECT_EQ(publicName(other.ok(readPublic(0x80000000))), name);
    for (TPM2_HANDLE copy : {0x80000000u, 0x80000001u}) other.ok(flushContext(copy));
}

TEST_P(Contexts, SessionOneShot) {
    const TPM2_HANDLE key = make(createPrimary(TPM2_RH_NULL, eccSigning()));
    const TPM2_HANDLE session = make(startAuthSession());
    const TPM2_HANDLE policy = make(startAuthSession(TPM2_SE_POLICY));
    neighbour(startAuthSession());
    tpm.ok(policyCommandCode(policy, TPM2_CC_Sign));
    const Bytes digest = parameters(tpm.ok(policyGetDigest(policy))).tpm2b();

    Bytes first = save(session);
    EXPECT_EQ(answer(contextLoad(first)), 0u);
    EXPECT_EQ(answer(contextLoad(first)), 0x1CBu);
    const Bytes second = save(session);
    EXPECT_EQ(answer(contextLoad(first)), 0x1CBu);
    EXPECT_EQ(answer(contextSave(session)), 0x910u);
    EXPECT_EQ(answer(readPublic(key).session(session)), 0x918u);
    EXPECT_EQ(handles(tpm, TPM2_ACTIVE_SESSION_FIRST), std::vector<TPM2_HANDLE>{session});
    EXPECT_EQ(handle(tpm.ok(contextLoad(second))), session);
    EXPECT_EQ(answer(readPublic(key).session(session, {}, 0x81)), 0u);

    const Bytes third = save(session);
    EXPECT_EQ(answer(flushContext(session)), 0u);
    EXPECT_EQ(answer(contextLoad(third)), 0x1CBu);
    EXPECT_EQ(answer(flushContext(session)), 0x1CBu);

    // A policy session keeps its digest, and its type.
    const Bytes saved = save(policy);
    EXPECT_EQ(answer(policyGetDigest(policy)), 0x910u);
    EXPECT_EQ(handles(tpm, TPM2_ACTIVE_SESSION_FIRST), std::vector<TPM2_HANDLE>{0x02000001});
    EXPECT_EQ(handle(tpm.ok(contextLoad(saved))), policy);
    EXPECT_EQ(parameters(tpm.ok(policyGetDigest(policy))).tpm2b(), digest);
}

TEST_P(Contexts, SessionContextThatWasChanged) {
    const TPM2_HANDLE session = make(startAuthSession());
    neighbour(startAuthSession(TPM2_SE_POLICY));
    neighbour(createPrimary());
    const Bytes saved = save(session);
    const Parts whole(saved);
    ASSERT_EQ(whole.savedHandle, session);
    ASSERT_EQ(whole.hierarchy, TPM2_RH_NULL);

    auto changed = [&](auto change) {
        Parts parts = whole;
        change(parts);
        return answer(contextLoad(parts));
    };
    EXPECT_EQ(answer(contextLoad(tampered(saved))), 0x1DFu);
    EXPECT_EQ(changed([](Parts& p) { p.sequence++; }), 0x1DFu);
    EXPECT_EQ(changed([](Parts& p) { p.savedHandle = 0x02000005; }), 0x1DFu);
    EXPECT_EQ(changed([](Parts& p) { p.savedHandle = 0x03000001; }), 0x1DFu);
    EXPECT_EQ(changed([](Parts& p) { p.savedHandle = 0x80000000; }), 0x1DFu);
    EXPECT_EQ(changed([](Parts& p) { p.hierarchy = TPM2_RH_OWNER; }), 0x1DFu);
    EXPECT_EQ(changed([](Parts& p) { p.savedHandle = 0x02000040; }), 0x1C4u);
    EXPECT_EQ(changed([](Parts& p) { p.savedHandle = 0x80000003; }), 0x1C4u);
    EXPECT_EQ(changed([](Parts& p) { p.hierarchy = 0x40000002; }), 0x1C4u);
    EXPECT_EQ(answer(contextLoad(saved).u8(0)), 0x095u);
    for (size_t length = 0; length < saved.size(); length++)
        EXPECT_EQ(answer(contextLoad(saved).truncate(10 + length)), 0x1DAu) << length;

    // One size of padding is allowed: that of the largest object context.
    constexpr size_t kLargestContext = 2692;
    Bytes padded = saved;
    padded.resize(kLargestContext);
    padded.push_back(0);
    EXPECT_EQ(answer(contextLoad(padded)), 0x095u);
    padded.pop_back();
    EXPECT_EQ(handle(tpm.ok(contextLoad(padded))), session);
    EXPECT_EQ(answer(contextLoad(saved)), 0x1CBu);
    EXPECT_EQ(answer(flushContext(session)), 0u);
}

// Whether a context is good is found out before a slot is looked for; a space that swaps has one.
TEST_P(Contexts, CodeOrderOnLoad) {
    const bool hasRoom = isSpace() && Client::spacesSwap();
    const TPM2_HANDLE key = make(createPrimary(TPM2_RH_NULL, eccSigning()));
    const Bytes object = save(key);
    neighbour(loadExternalEcc());
    if (!isSpace()) tpm.ok(loadExternalEcc());
    tpm.ok(loadExternalEcc());
    EXPECT_EQ(answer(contextLoad(tampered(object))), 0x1DFu);
    EXPECT_EQ(answer(contextLoad(object)), hasRoom ? 0u : 0x902u);

    const TPM2_HANDLE session = make(startAuthSession());
    const Bytes stale = save(session);
    tpm.ok(contextLoad(stale));
    const Bytes fresh = save(session);
    for (int i = 0; i < 2; i++) tpm.ok(startAuthSession());
    neighbour(startAuthSession());
    if (!isSpace()) tpm.ok(startAuthSession());
    EXPECT_EQ(answer(contextLoad(stale)), 0x1CBu);
    EXPECT_EQ(answer(contextLoad(tampered(fresh))), 0x1DFu);
    EXPECT_EQ(answer(contextLoad(fresh)), hasRoom ? 0u : 0x903u);
}

/** A session that nobody but us saves and loads: counting to the gap takes a while. */
class Gap : public Contexts {
  protected:
    Gap() : Contexts(Record::nothing) {}

    /** Saves and loads the session until the TPM refuses; returns the number of saves. */
    int saveUntilRefused(TPM2_HANDLE session) {
        constexpr int enough = 70000;
        for (int saves = 0; saves < enough; saves++) {
            const Bytes response = tpm.send(contextSave(session));
            if (rc(response) != TPM2_RC_SUCCESS) {
                EXPECT_EQ(rc(response), TPM2_RC_CONTEXT_GAP);
                return saves;
            }
            tpm.ok(contextLoad(context(response)));
        }
        return enough;
    }
};

/** Swapping is there to close the gap, so this is about a space without it. */
std::vector<Setting> withoutSwapping() {
    std::vector<Setting> settings = {Setting::privateTpm};
    if (!Client::spacesSwap()) settings.push_back(Setting::neighbourAbove);
    return settings;
}
INSTANTIATE_TEST_SUITE_P(On, Gap, testing::ValuesIn(withoutSwapping()), settingName);

// A saved session that is not loaded again holds up every later save, after as many saves as on a
// private TPM; nothing is done about it behind the client's back.
TEST_P(Gap, GapPassthrough) {
    const TPM2_HANDLE oldest = make(startAuthSession());
    const TPM2_HANDLE session = make(startAuthSession());
    const Bytes saved = save(oldest);
    neighbour(startAuthSession());
    if (!isSpace()) tpm.ok(startAuthSession());

    EXPECT_EQ(saveUntilRefused(session), 65531);
    EXPECT_EQ(answer(contextSave(session)), 0x901u);
    EXPECT_EQ(answer(startAuthSession()), 0x901u);
    EXPECT_EQ(answer(getRandom().session(session, {}, 0x81)), 0u);
    EXPECT_EQ(answer(getRandom().session(oldest, {}, 0x81)), 0x918u);

    EXPECT_EQ(handle(tpm.ok(contextLoad(saved))), oldest);
    EXPECT_EQ(answer(contextSave(session)), 0u);
    EXPECT_EQ(answer(getRandom().session(oldest, {}, 0x81)), 0u);
}

}  // namespace
}  // namespace spaces::test
