// SPDX-License-Identifier: BSD-2-Clause
// The list of what may differ comes first; then the responses, field by field. See
// differential_compare.h.
#include "differential_compare.h"

#include <algorithm>
#include <sstream>

#include "support/crypto.h"
#include "support/signature.h"

namespace spaces::test {

// ---- Everything in which a space may differ from a private TPM, and nothing else ----------------

const std::array<Allowance, static_cast<size_t>(Allowed::Count)> kAllowances = {{
    {"random value", "nonces, GetRandom, private areas and the keys that Create makes are random"},
    {"random key",
     "the NULL hierarchy, and each after its seed changed, has keys of its own in "
     "each TPM; what stands for what is remembered and must stay so"},
    {"signature", "ECDSA is random: each side's is verified with its own key instead"},
    {"saved context", "the sequence number counts all spaces' saves, the rest is encrypted"},
    {"clock",
     "time passes: time and clock of ReadClock and of attestations, and whether it is safe"},
    {"session number", "all spaces share the numbers of 64 sessions: related by a map"},
    {"session order", "lists of sessions are in the order of those numbers"},
    {"available", "without swapping, TPM_PT_HR_*_AVAIL count others' use; HR_ACTIVE_AVAIL always"},
    {"at least one available", "swapping: TPM_PT_HR_TRANSIENT_AVAIL and _LOADED_AVAIL are never 0"},
    {"list with a session", "GetCapability with a session comes unchanged: an HMAC covers it"},
    {"not sent: neighbours", "without swapping, what others have may leave no slot (0x902, 0x903)"},
    {"not sent: private full", "swapping has room where a private TPM has not (0x902, 0x903)"},
    {"persistent alias", "the TPM takes an absent object for the persistent one named before it"},
    {"not sent: other's context",
     "no other private TPM has the proof of this one's NULL hierarchy "
     "or of a changed one, or the session"},
    {"not sent: Shutdown alone",
     "swapping: after it nothing is saved that would void it (0x902, "
     "0x903), so it is sent just before the power goes only"},
    {"not sent: power lost",
     "after a Shutdown(STATE) and other commands: one of another space may have "
     "voided it, so that saved sessions are lost to all"},
    {"not sent: Clear",
     "swapping: an stClear object that is moved out does not survive a Clear after "
     "a TPM Restart, since Clear resets the clearCount in its context"},
    {"not sent: changed octet",
     "if random ones follow, which might then be read as sizes or numbers, with "
     "any outcome"},
    {"flushed, and saved again",
     "a saved session that is flushed between Shutdown(STATE) and Startup is "
     "there again after Startup, and a space does not list it"},
    {"told to others",
     "PCRs, NV, persistent objects, hierarchies, power: what a space changes is "
     "done to the other spaces' private TPMs too"},
    {"exclusiveness ended",
     "one exclusive audit session in a TPM: a command of another space ends "
     "it, so the others' private TPMs get a command that does"},
    {"protected authorisation used",
     "one TPM_RC_RETRY after a start, and one count against lockout, in a "
     "TPM: before anything else each gets its first use, and the count is 0"},
}};

Tally& Tally::operator+=(const Tally& other) {
    for (size_t i = 0; i < used_.size(); ++i) used_[i] += other.used_[i];
    return *this;
}

std::string Tally::table() const {
    std::ostringstream text;
    for (size_t i = 0; i < used_.size(); ++i) {
        text.width(9);
        text << used_[i] << "  " << kAllowances[i].name << ": " << kAllowances[i].reason << "\n";
    }
    return text.str();
}

void Relation::require(const Bytes& shared, const Bytes& alone) {
    const auto there = toAlone_.try_emplace(shared, alone).first;
    const auto back = toShared_.try_emplace(alone, shared).first;
    if (there->second != alone || back->second != shared)
        throw Different("a value stands for another one than before: " + hex(shared) + " for " +
                        hex(alone) + ", before for " + hex(there->second));
}

// ---- Fields
// --------------------------------------------------------------------------------------

void Comparison::fail(const std::string& what) const { throw Different(what + " differs"); }

void Comparison::same(size_t size, const char* what) {
    if (in_[0].bytes(size) != in_[1].bytes(size)) fail(what);
}

void Comparison::rest() {
    if (in_[0].rest() != in_[1].rest()) fail("a parameter");
}

void Comparison::differing(size_t size, Allowed why, const char*) {
    if (in_[0].bytes(size) != in_[1].bytes(size)) tally_.count(why);
}

void Comparison::tpm2b(const char* what) {
    if (in_[0].tpm2b() != in_[1].tpm2b()) fail(what);
}

/// As long on both sides; what it stands for stays the same. Returns the private TPM's.
Bytes Comparison::random2b(Allowed why, const char* what) {
    const Bytes shared = in_[0].tpm2b(), alone = in_[1].tpm2b();
    if (shared.size() != alone.size()) fail(std::string("the size of ") + what);
    if (shared != alone) tally_.count(why);
    if (shared.size() >= 16) relation_.require(shared, alone);
    return alone;
}

/// What a key or a proof determines.
void Comparison::key2b(const char* what) {
    if (is_.determined)
        tpm2b(what);
    else
        random2b(Allowed::RandomKey, what);
}

/// A TPM2B_PUBLIC: all but `unique`, which comes last, is the same.
void Comparison::publicArea(const char* what) {
    const Bytes shared = in_[0].tpm2b(), alone = in_[1].tpm2b();
    if (shared.size() != alone.size()) fail(std::string("the size of ") + what);
    if (shared == alone) return;
    if (is_.determined) fail(what);
    const bool ecc = Cursor(shared).u16() == TPM2_ALG_ECC;
    const size_t unique = ecc ? 68 : 34;
    if (shared.size() < unique ||
        !std::equal(shared.begin(), shared.end() - static_cast<ptrdiff_t>(unique), alone.begin()))
        fail(what);
    tally_.count(Allowed::RandomKey);
    relation_.require(shared, alone);
}

void Comparison::ticket() {
    same(6, "a ticket");
    key2b("a ticket");
}

void Comparison::attestation() {
    const std::array<Bytes, 2> blobs = {in_[0].tpm2b(), in_[1].tpm2b()};
    const auto outer = in_;
    for (size_t side : {0, 1}) in_[side] = Cursor(blobs[side]);
    same(4, "the magic number of an attestation");
    const uint16_t type = in_[0].u16();
    if (in_[1].u16() != type) fail("the type of an attestation");
    key2b("the qualified Name of the signer");
    tpm2b("extraData");
    differing(8, Allowed::Clock, "the clock");
    // Counters and version are obfuscated with a proof.
    if (is_.determined) {
        same(8, "resetCount and restartCount");
        differing(1, Allowed::Clock, "whether the clock is safe");
        same(8, "firmwareVersion");
    } else {
        differing(4 + 4 + 1 + 8, Allowed::RandomKey, "obfuscated counters");
    }
    if (type == TPM2_ST_ATTEST_CERTIFY) {
        key2b("the Name that was certified");
        key2b("the qualified Name that was certified");
    } else if (type == TPM2_ST_ATTEST_SESSION_AUDIT) {
        same(1, "exclusiveSession");
        for (size_t side : {0, 1})
            if (in_[side].tpm2b() != is_.auditDigest[side]) fail("the audit digest, from its own,");
        tally_.count(Allowed::RandomValue);
    }
    rest();
    in_ = outer;
    signature({sha256(blobs[0]), sha256(blobs[1])});
}

void Comparison::signature(const std::array<Bytes, 2>& digest) {
    const uint16_t algorithm = Cursor(in_[0]).u16();
    if (algorithm == TPM2_ALG_HMAC) {
        same(4, "the signature's algorithm");
        differing(32, Allowed::Clock, "an HMAC over an attestation");
    }
    if (algorithm != TPM2_ALG_ECDSA) return rest();
    for (size_t side : {0, 1}) try {
            verify(publicKey(is_.signer[side]).get(), digest[side], derSignature(in_[side]));
        } catch (const std::exception& problem) {
            throw Different(std::string(side == 0 ? "the space's signature: "
                                                  : "the private TPM's signature: ") +
                            problem.what());
        }
    tally_.count(Allowed::Signature);
}

void Comparison::context() {
    differing(8, Allowed::SavedContext, "sequence");
    const TPM2_HANDLE shared = in_[0].u32(), alone = in_[1].u32();
    if (shared >> 24 != alone >> 24 || (shared >> 31 != 0 && shared != alone)) fail("savedHandle");
    same(4, "hierarchy");
    if (in_[0].tpm2b().size() != in_[1].tpm2b().size()) fail("the size of a context");
    rest();
}

// ---- Capabilities
// --------------------------------------------------------------------------------

/// Each side lists its own numbers of the same sessions, from where it was asked to, in order.
void Comparison::sessionList(const std::array<std::vector<TPM2_HANDLE>, 2>& all) {
    for (size_t side : {0, 1}) {
        std::vector<TPM2_HANDLE> expected;
        for (const TPM2_HANDLE session : all[side])
            if ((session & 0xFFFFFF) >= (is_.first[side] & 0xFFFFFF)) expected.push_back(session);
        const bool more = expected.size() > is_.count;
        if (more) expected.resize(is_.count);
        const bool moreData = in_[side].u8() != 0;
        in_[side].u32();
        std::vector<TPM2_HANDLE> listed(in_[side].u32());
        for (TPM2_HANDLE& handle : listed) handle = in_[side].u32();
        if (listed == expected && moreData == more) continue;
        std::ostringstream text;
        text << (side == 0 ? "the space" : "the private TPM") << " lists";
        for (const TPM2_HANDLE handle : listed) text << " " << hex(handle);
        text << (moreData ? " and more" : "") << ", expected";
        for (const TPM2_HANDLE handle : expected) text << " " << hex(handle);
        throw Different(text.str() + (more ? " and more" : "") + ": a list of sessions");
    }
    tally_.count(Allowed::SessionOrder);
}

void Comparison::properties() {
    same(5, "moreData or the capability");
    const uint32_t count = in_[0].u32();
    if (in_[1].u32() != count) fail("the number of properties");
    for (uint32_t i = 0; i < count; ++i) {
        const uint32_t name = in_[0].u32();
        if (in_[1].u32() != name) fail("a property's number");
        const uint32_t shared = in_[0].u32(), alone = in_[1].u32();
        if (shared == alone) continue;
        const bool sessions = name == TPM2_PT_HR_ACTIVE_AVAIL;
        const bool slots = name == TPM2_PT_HR_LOADED_AVAIL || name == TPM2_PT_HR_TRANSIENT_AVAIL;
        if (sessions || (slots && !is_.swaps && shared < alone))
            tally_.count(Allowed::Available);
        else if (slots && is_.swaps && shared == 1 && alone == 0)
            tally_.count(Allowed::AtLeastOneAvailable);
        else
            throw Different("property " + hex(name) + " is " + hex(shared) + " instead of " +
                            hex(alone));
    }
}

void Comparison::capability() {
    const bool handles = is_.capability == TPM2_CAP_HANDLES;
    const uint32_t type = is_.first[1] >> 24;
    const bool own = type == 0x80 || type == 0x02 || type == 0x03;
    if (is_.withSession && ((handles && own) || is_.capability == TPM2_CAP_TPM_PROPERTIES)) {
        tally_.count(Allowed::ListWithSession);
        return;
    }
    if (handles && type == 0x02) return sessionList(is_.loaded);
    if (handles && type == 0x03) return sessionList(is_.saved);
    if (is_.capability == TPM2_CAP_TPM_PROPERTIES) return properties();
    rest();
}

// ---- Responses
// -----------------------------------------------------------------------------------

void Comparison::parameters(const Bytes& shared, const Bytes& alone) {
    const int handles = responseHandles(is_.code);
    in_ = {test::parameters(shared, handles), test::parameters(alone, handles)};
    switch (is_.code) {
        case TPM2_CC_CreatePrimary:
            publicArea("the public area");
            key2b("creationData");
            key2b("creationHash");
            ticket();
            key2b("the Name");
            break;
        case TPM2_CC_Create:
            random2b(Allowed::RandomValue, "outPrivate");
            publicArea("the public area");
            key2b("creationData");
            key2b("creationHash");
            ticket();
            break;
        case TPM2_CC_CreateLoaded:
            random2b(Allowed::RandomValue, "outPrivate");
            publicArea("the public area");
            key2b("the Name");
            break;
        case TPM2_CC_Load:
        case TPM2_CC_LoadExternal:
        case TPM2_CC_HMAC:
        case TPM2_CC_PolicyGetDigest:
            key2b("the Name or digest");
            break;
        case TPM2_CC_ReadPublic:
            publicArea("the public area");
            key2b("the Name");
            key2b("the qualified Name");
            break;
        case TPM2_CC_Sign:
            signature(is_.signed_);
            break;
        case TPM2_CC_Certify:
        case TPM2_CC_GetSessionAuditDigest:
            attestation();
            break;
        case TPM2_CC_SequenceComplete:
            key2b("the digest");
            ticket();
            break;
        case TPM2_CC_StartAuthSession:
        case TPM2_CC_GetRandom:
        case TPM2_CC_ObjectChangeAuth:
            random2b(Allowed::RandomValue, "a random value");
            break;
        case TPM2_CC_ReadClock:
            differing(16, Allowed::Clock, "the clock");
            same(8, "resetCount and restartCount");
            differing(1, Allowed::Clock, "whether the clock is safe");
            break;
        case TPM2_CC_ContextSave:
            context();
            break;
        case TPM2_CC_GetCapability:
            return capability();
        default:
            break;
    }
    rest();
}

void Comparison::authorizations(const Bytes& shared, const Bytes& alone) {
    in_ = {Cursor(shared), Cursor(alone)};
    for (Cursor& in : in_) {
        in.bytes(10 + 4 * static_cast<size_t>(responseHandles(is_.code)));
        in.bytes(in.u32());
    }
    while (in_[1].left() > 0) {
        random2b(Allowed::RandomValue, "nonceTPM");
        same(1, "the attributes of a session");
        random2b(Allowed::RandomValue, "an HMAC");
    }
    rest();
}

}  // namespace spaces::test
