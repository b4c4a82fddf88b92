/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The twins of twins.h.  The list of differences comes first; whatever is not in it is a failure.
 */
#include "twins.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

namespace spaces::test {
namespace {

/** A command that was answered differently, taken apart. */
struct Disputed {
    TPM2_CC code = 0;
    std::vector<TPM2_HANDLE> handles;  ///< those that are there in full

    explicit Disputed(const Bytes& command) {
        static const std::map<TPM2_CC, size_t> counts = handleCounts();
        Cursor in(command);
        in.bytes(6);
        code = in.u32();
        const auto count = counts.find(code);
        if (count == counts.end()) return;
        while (handles.size() < count->second && in.left() >= 4) handles.push_back(in.u32());
    }

    bool creates() const { return responseHandles(code) == 1 || code == TPM2_CC_Create; }

    bool loadsSession() const {
        return code == TPM2_CC_StartAuthSession || code == TPM2_CC_ContextLoad;
    }

    static bool isPersistent(TPM2_HANDLE handle) { return handle >> 24 == TPM2_HT_PERSISTENT; }
    static bool isTransient(TPM2_HANDLE handle) { return handle >> 24 == TPM2_HT_TRANSIENT; }

    /** How many free object slots the command needs at most. */
    size_t slots() const {
        const auto persistent = std::count_if(handles.begin(), handles.end(), isPersistent);
        return static_cast<size_t>(persistent) + (creates() ? 1 : 0);
    }

  private:
    static std::map<TPM2_CC, size_t> handleCounts() {
        std::map<TPM2_CC, size_t> counts;
        for (const Command& command : everyCommand({}))
            counts[command.code()] = command.handles().size();
        counts[TPM2_CC_FlushContext] = 1;  // a parameter, for all others
        return counts;
    }
};

// ---- Where a space may differ from a private TPM

struct Difference {
    const char* reason;
    bool (*applies)(Twins&, const Disputed&);
};

/** The TPM has three slots for objects and three for sessions, and the neighbour sits in one of
 *  each.  A persistent object takes a slot while a command names it. */
bool noObjectSlot(Twins& twins, const Disputed& command) {
    return !Client::spacesSwap() && twins.spaceAnswered() == TPM2_RC_OBJECT_MEMORY &&
           twins.objectsOfOurs() + 1 + command.slots() > 3;
}

bool noSessionSlot(Twins& twins, const Disputed& command) {
    return !Client::spacesSwap() && twins.spaceAnswered() == TPM2_RC_SESSION_MEMORY &&
           command.loadsSession() && twins.sessionsOfOurs() + 1 == 3;
}

/** The other way round: a space that swaps makes room where a private TPM is full. */
bool roomBySwapping(Twins& twins, const Disputed& command) {
    if (!Client::spacesSwap()) return false;
    if (twins.aloneAnswered() == TPM2_RC_SESSION_MEMORY)
        return command.loadsSession() && twins.sessionsOfOurs() >= 3;
    return twins.aloneAnswered() == TPM2_RC_OBJECT_MEMORY &&
           twins.objectsOfOurs() + command.slots() > 3;
}

/** It has then given out numbers that are out of range for a private TPM; they stay in range. */
bool moreHandlesBySwapping(Twins& twins, const Disputed& command) {
    for (size_t at = 0; at < command.handles.size(); at++) {
        const TPM2_RC position = static_cast<TPM2_RC>(at + 1) << 8;
        const TPM2_RC outOfRange =
            command.code == TPM2_CC_FlushContext ? TPM2_RC_VALUE | TPM2_RC_P : TPM2_RC_VALUE;
        if (twins.aloneAnswered() == (outOfRange | position))
            return Client::spacesSwap() && command.handles[at] >= 0x80000003 &&
                   command.handles[at] < 0x80000010;
    }
    return false;
}

/** The TPM takes the number of a free slot for the persistent object that an earlier handle of the
 *  same command has just brought there.  A space says that the handle is nobody's. */
bool persistentAlias(Twins& twins, const Disputed& command) {
    for (size_t at = 1; at < command.handles.size(); at++) {
        const auto here = command.handles.begin() + static_cast<std::ptrdiff_t>(at);
        if (Disputed::isTransient(*here) &&
            std::any_of(command.handles.begin(), here, Disputed::isPersistent))
            return twins.spaceAnswered() == TPM2_RC_REFERENCE_H0 + at;
    }
    return false;
}

constexpr Difference kDifferences[] = {
    {"the neighbour's object leaves no slot", noObjectSlot},
    {"the neighbour's session leaves no slot", noSessionSlot},
    {"swapping has a slot where a private TPM has none", roomBySwapping},
    {"swapping has given out more handles than a private TPM", moreHandlesBySwapping},
    {"the TPM takes an absent object for a persistent one", persistentAlias},
};

/** Commands whose success changes nothing that the client can see later. */
bool readsOnly(TPM2_CC code) {
    static const std::set<TPM2_CC> codes = {TPM2_CC_ReadPublic,
                                            TPM2_CC_NV_ReadPublic,
                                            TPM2_CC_NV_Read,
                                            TPM2_CC_GetCapability,
                                            TPM2_CC_GetRandom,
                                            TPM2_CC_GetTestResult,
                                            TPM2_CC_SelfTest,
                                            TPM2_CC_Hash,
                                            TPM2_CC_IncrementalSelfTest,
                                            TPM2_CC_HMAC,
                                            TPM2_CC_Sign,
                                            TPM2_CC_VerifySignature,
                                            TPM2_CC_ECC_Parameters,
                                            TPM2_CC_ECDH_KeyGen,
                                            TPM2_CC_ECDH_ZGen,
                                            TPM2_CC_ReadClock,
                                            TPM2_CC_PCR_Read,
                                            TPM2_CC_TestParms,
                                            TPM2_CC_StirRandom,
                                            TPM2_CC_Certify,
                                            TPM2_CC_CertifyCreation,
                                            TPM2_CC_Quote,
                                            TPM2_CC_MakeCredential,
                                            TPM2_CC_Unseal,
                                            TPM2_CC_PolicyGetDigest,
                                            TPM2_CC_GetTime,
                                            TPM2_CC_NV_Certify};
    return codes.count(code) != 0;
}

/** Commands whose success concerns the client's objects and sessions alone, or what both TPMs
 *  still share with their other halves afterwards.  After any other one the TPMs are renewed. */
bool concernsOwnThings(TPM2_CC code) {
    // Between Shutdown and Startup nothing may be saved, so a space that swaps is out of slots.
    if (code == TPM2_CC_Shutdown) return !Client::spacesSwap();
    static const std::set<TPM2_CC> codes = {TPM2_CC_CreatePrimary,
                                            TPM2_CC_Create,
                                            TPM2_CC_CreateLoaded,
                                            TPM2_CC_Load,
                                            TPM2_CC_LoadExternal,
                                            TPM2_CC_ContextLoad,
                                            TPM2_CC_ContextSave,
                                            TPM2_CC_FlushContext,
                                            TPM2_CC_StartAuthSession,
                                            TPM2_CC_HashSequenceStart,
                                            TPM2_CC_HMAC_Start,
                                            TPM2_CC_SequenceUpdate,
                                            TPM2_CC_SequenceComplete,
                                            TPM2_CC_EventSequenceComplete,
                                            TPM2_CC_PolicyRestart,
                                            TPM2_CC_PolicyCommandCode,
                                            TPM2_CC_PolicyAuthValue,
                                            TPM2_CC_PolicyPassword,
                                            TPM2_CC_PolicyPCR,
                                            TPM2_CC_PolicySecret,
                                            TPM2_CC_PolicyNV,
                                            TPM2_CC_PolicySigned,
                                            TPM2_CC_PolicyOR,
                                            TPM2_CC_PolicyCounterTimer,
                                            TPM2_CC_PolicyCpHash,
                                            TPM2_CC_PolicyNameHash,
                                            TPM2_CC_PolicyTemplate,
                                            TPM2_CC_PolicyLocality,
                                            TPM2_CC_PolicyNvWritten,
                                            TPM2_CC_PolicyPhysicalPresence,
                                            TPM2_CC_PolicyAuthorizeNV,
                                            TPM2_CC_PolicyDuplicationSelect,
                                            TPM2_CC_GetSessionAuditDigest,
                                            TPM2_CC_PCR_Extend,
                                            TPM2_CC_PCR_Event,
                                            TPM2_CC_PCR_Reset,
                                            TPM2_CC_NV_Write,
                                            TPM2_CC_ObjectChangeAuth,
                                            TPM2_CC_EC_Ephemeral};
    return codes.count(code) != 0;
}

const std::vector<TPM2_HANDLE> kLists = {TPM2_TRANSIENT_FIRST, TPM2_LOADED_SESSION_FIRST,
                                         TPM2_ACTIVE_SESSION_FIRST};

}  // namespace

// ---- Furnishing

Twins::Twins(const Layout& layout) { rebuild(layout); }

void Twins::rebuild(const Layout& layout) {
    layout_ = layout;
    diverged_ = false;
    tenants_ = std::make_unique<Tenants>();
    if (layout_.neighbourFirst) moveInNeighbour();
    moveIn(tenants_->space, tenants_->belongings[0]);
    moveIn(tenants_->alone, tenants_->belongings[1]);
    furnish();
    if (!layout_.neighbourFirst) moveInNeighbour();
    const Belongings &one = tenants_->belongings[0], &other = tenants_->belongings[1];
    if (one.keyContext.size() != other.keyContext.size() ||
        one.child.outPrivate.size() != other.child.outPrivate.size())
        throw std::logic_error("the twins' belongings have different sizes");
}

/** The neighbour's session gets a high index, so that the next ones are free on both TPMs. */
void Twins::moveInNeighbour() {
    Client& neighbour = tenants_->neighbour;
    neighbour.ok(createPrimary(TPM2_RH_NULL, eccSigning("neighbour")));
    tenants_->neighboursName = publicName(neighbour.ok(readPublic(0x80000000)));
    std::vector<TPM2_HANDLE> below;
    for (;;) {
        const TPM2_HANDLE session = handle(neighbour.ok(startAuthSession(TPM2_SE_POLICY)));
        if (session == kNeighboursSession) break;
        neighbour.ok(contextSave(session));
        below.push_back(session);
    }
    for (TPM2_HANDLE session : below) neighbour.ok(flushContext(session));
}

/** What stays for the life of the TPM. */
void Twins::moveIn(Client& client, Belongings& belongings) {
    client.ok(createPrimary(TPM2_RH_OWNER, eccSigning("persistent")));
    client.ok(evictControl(0x80000000, kPersistent));
    client.ok(flushContext(0x80000000));
    client.ok(nvDefineSpace(kNvIndex));
    client.ok(nvWrite(kNvIndex, "contents"));
    client.ok(createPrimary(TPM2_RH_OWNER, eccStorage()));
    belongings.parentContext = context(client.ok(contextSave(0x80000000)));
    belongings.child = created(client.ok(create(0x80000000)));
    client.ok(flushContext(0x80000000));
    client.ok(createPrimary(TPM2_RH_OWNER, eccSigning()));
    belongings.keyContext = context(client.ok(contextSave(0x80000000)));
    client.ok(flushContext(0x80000000));
}

void Twins::vacate(Client& client) {
    for (TPM2_HANDLE list : kLists)
        for (TPM2_HANDLE handle : handles(client, list)) client.ok(flushContext(handle));
}

void Twins::furnish() {
    diverged_ = false;
    Client* clients[] = {&tenants_->space, &tenants_->alone};
    for (int twin = 0; twin < 2; twin++) {
        Client& client = *clients[twin];
        Belongings& belongings = tenants_->belongings[twin];
        vacate(client);
        client.ok(contextLoad(belongings.parentContext));
        if (layout_.second == Layout::Second::key) client.ok(contextLoad(belongings.keyContext));
        if (layout_.second == Layout::Second::sequence) client.ok(hashSequenceStart());
        client.ok(startAuthSession());
        const TPM2_HANDLE saved = handle(client.ok(startAuthSession()));
        belongings.sessionContext = context(client.ok(contextSave(saved)));
        if (layout_.policySession) client.ok(startAuthSession(TPM2_SE_POLICY));
        tenants_->commands[twin] = everyCommand(belongings);
    }
}

// ---- Comparing

size_t Twins::objectsOfOurs() { return handles(tenants_->space, TPM2_TRANSIENT_FIRST).size(); }

size_t Twins::sessionsOfOurs() {
    return handles(tenants_->space, TPM2_LOADED_SESSION_FIRST).size();
}

/** Errors are the same to the byte; a success has the same shape, the same handle and, as far as
 *  they are not the TPMs' own secrets, the same contents. */
bool Twins::sameAnswers(const Bytes& command) const {
    if (rc(fromSpace_) != rc(fromAlone_)) return false;
    if (rc(fromSpace_) != TPM2_RC_SUCCESS) return fromSpace_ == fromAlone_;
    Cursor header(command), space(fromSpace_), alone(fromAlone_);
    const uint16_t tag = header.u16();
    header.u32();
    const TPM2_CC code = header.u32();
    if (space.u16() != alone.u16()) return false;
    if (responseHandles(code) == 1 && handle(fromSpace_) != handle(fromAlone_)) return false;
    const bool listsHandles = tag == TPM2_ST_NO_SESSIONS && code == TPM2_CC_GetCapability &&
                              header.u32() == TPM2_CAP_HANDLES;
    return !listsHandles || fromSpace_ == fromAlone_;
}

bool Twins::compare(const Bytes& toSpace, const Bytes& toAlone) {
    fromSpace_ = tenants_->space.send(toSpace);
    fromAlone_ = tenants_->alone.send(toAlone);
    if (sameAnswers(toSpace)) return true;
    diverged_ = true;
    const Disputed command(toSpace);
    for (const Difference& difference : kDifferences) {
        if (!difference.applies(*this, command)) continue;
        differences_[difference.reason]++;
        return true;
    }
    ADD_FAILURE() << "command          " << hex(toSpace) << "\n  to a private TPM " << hex(toAlone)
                  << "\na space answers  " << hex(fromSpace_) << "\na private TPM    "
                  << hex(fromAlone_);
    return false;
}

bool Twins::stillAlike() {
    bool alike = true;
    for (TPM2_HANDLE list : kLists) {
        const auto space = handles(tenants_->space, list), alone = handles(tenants_->alone, list);
        EXPECT_EQ(space, alone) << "in list " << hex(list);
        alike = alike && space == alone;
    }
    const std::vector<std::vector<TPM2_HANDLE>> neighbours = {
        {0x80000000}, {kNeighboursSession}, {}};
    for (size_t i = 0; i < kLists.size(); i++) {
        const auto left = handles(tenants_->neighbour, kLists[i]);
        EXPECT_EQ(left, neighbours[i]) << "the neighbour's list " << hex(kLists[i]);
        alike = alike && left == neighbours[i];
    }
    const Bytes answer = tenants_->neighbour.send(readPublic(0x80000000));
    const bool intact = rc(answer) == 0 && publicName(answer) == tenants_->neighboursName;
    EXPECT_TRUE(intact) << "the neighbour's object";
    return alike && intact;
}

void Twins::settle(const Bytes& command, bool thoroughly) {
    Cursor header(command);
    const bool sessions = header.u16() == TPM2_ST_SESSIONS;
    header.u32();
    const TPM2_CC code = header.u32();
    if (!succeeded() && !diverged_) return;
    if (succeeded() && !readsOnly(code) && !concernsOwnThings(code)) {
        if (!diverged_) stillAlike();
        rebuild(layout_);
        return;
    }
    if (diverged_) {
        furnish();
    } else if (thoroughly && (sessions || !readsOnly(code))) {
        stillAlike();
        furnish();
    }
}

}  // namespace spaces::test
