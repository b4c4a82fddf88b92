// SPDX-License-Identifier: BSD-2-Clause
// What clients do, what may come of it, and what may be left of them; see play.h.
#include "unit/play.h"

#include <algorithm>
#include <map>
#include <tuple>
#include <utility>

#include "config.h"
#include "tss2/tss2_tcti_spaces.h"
#include "unit/counted_new.h"
#include "wire/bytes.h"
#include "wire/handle.h"
#include "wire/response.h"

namespace spaces::test {
namespace {

using Kind = Thing::Kind;
using Life = Thing::Life;

constexpr uint8_t kHeader = 10;

TPM2_RC codeOf(const Packet& packet) { return wire::get32(&packet.all()[6]); }
TPM2_HANDLE handleOf(const Packet& answer) {
    EXPECT_GE(answer.length(), size_t{kHeader + 4}) << answer;
    return answer.length() >= kHeader + 4 ? wire::get32(&answer.all()[kHeader]) : 0;
}
bool ofTheLayer(TPM2_RC code) { return (code & ~TPM2_RC{0xFFFF}) == TSS2_RESMGR_RC_LAYER; }
std::string inHex(TPM2_RC code) {
    char text[16];
    snprintf(text, sizeof(text), "0x%X", code);
    return text;
}

// ---- Commands as a real TPM takes them

/// A TPMT_PUBLIC: an HMAC key with a name of its own.
Bytes keyNamed(const std::string& name) {
    constexpr TPMA_OBJECT kKey = TPMA_OBJECT_FIXEDTPM | TPMA_OBJECT_FIXEDPARENT |
                                 TPMA_OBJECT_SENSITIVEDATAORIGIN | TPMA_OBJECT_USERWITHAUTH |
                                 TPMA_OBJECT_NODA | TPMA_OBJECT_SIGN_ENCRYPT;
    Bytes area;
    append(area, TPM2_ALG_KEYEDHASH, 2);
    append(area, TPM2_ALG_SHA256, 2);
    append(area, kKey, 4);
    appendTpm2b(area, {});
    append(area, TPM2_ALG_HMAC, 2);
    append(area, TPM2_ALG_SHA256, 2);
    appendTpm2b(area, bytes(name));
    return area;
}
Packet makePrimary(TPM2_HANDLE hierarchy, const std::string& name) {
    return createPrimary(hierarchy).cut(27).tpm2b(Bytes(4)).tpm2b(keyNamed(name)).tpm2b().u32(0);
}
Packet startSession(TPM2_SE type) {
    return startAuthSession().tpm2b().u8(type).u16(TPM2_ALG_NULL).u16(TPM2_ALG_SHA256);
}
Packet startSequence() { return command(TPM2_CC_HashSequenceStart).tpm2b().u16(TPM2_ALG_SHA256); }
Packet making(Kind kind, TPM2_HANDLE hierarchy, const std::string& name) {
    switch (kind) {
        case Kind::Object:
            return makePrimary(hierarchy, name);
        case Kind::Sequence:
            return startSequence();
        case Kind::Policy:
            return startSession(TPM2_SE_POLICY);
        default:
            return startSession(TPM2_SE_HMAC);
    }
}
/// It changes nothing, since the hierarchy is on; what is needed is the authorisation.
Packet authorized(TPM2_HANDLE session, uint8_t attributes = TPMA_SESSION_CONTINUESESSION) {
    return command(TPM2_CC_HierarchyControl)
        .handle(TPM2_RH_PLATFORM)
        .auth({{session, attributes}})
        .u32(TPM2_RH_OWNER)
        .u8(TPM2_YES);
}
/// Commands that change it, and that show what it is.
Packet changing(Kind kind, TPM2_HANDLE handle) {
    if (kind == Kind::Sequence)
        return command(TPM2_CC_SequenceUpdate).handle(handle).auth({password()}).tpm2b(bytes("x"));
    return command(TPM2_CC_PolicyCommandCode).handle(handle).u32(TPM2_CC_Sign);
}
Packet showing(Kind kind, TPM2_HANDLE handle) {
    switch (kind) {
        case Kind::Object:
            return readPublic(handle);
        case Kind::Sequence:
            return command(TPM2_CC_SequenceComplete)
                .handle(handle)
                .auth({password()})
                .tpm2b()
                .u32(TPM2_RH_NULL);
        case Kind::Policy:
            return command(TPM2_CC_PolicyGetDigest).handle(handle);
        default:
            return authorized(handle);
    }
}
/// A TPM2B in a response, which has the size of its parameters before them if it has sessions.
Bytes publicArea(const Packet& answer, size_t at) {
    if (wire::get16(answer.all().data()) == TPM2_ST_SESSIONS) at += 4;
    if (answer.length() < at + 2) return {};
    const size_t size = wire::get16(&answer.all()[at]);
    if (answer.length() < at + 2 + size) return {};
    const auto begin = answer.all().begin() + static_cast<ptrdiff_t>(at + 2);
    return Bytes(begin, begin + static_cast<ptrdiff_t>(size));
}
bool changes(Kind kind) { return kind == Kind::Sequence || kind == Kind::Policy; }

bool sameNumber(TPM2_HANDLE one, TPM2_HANDLE other) {
    return wire::isSession(one)
               ? wire::isSession(other) && wire::indexOf(one) == wire::indexOf(other)
               : one == other;
}

}  // namespace

const std::vector<Mode>& allModes() {
    static const std::vector<Mode> modes = {
        {"Isolation", "", false},
#if SPACES_SWAPPING
        {"Swapping", "swap=on,", true},
        {"SwappingInTwo", "swap=on,objects=2,sessions=2,", true},
#endif
    };
    return modes;
}

// ---- A client -----------------------------------------------------------------------------------

TSS2_RC Party::open(const std::string& conf) {
    memory_.fill(0);
    size_t size = memory_.size();
    const Counted counted;
    return Tss2_Tcti_Spaces_Init(context(), &size, conf.c_str());
}

bool Party::isOpen() const {
    return reinterpret_cast<const TSS2_TCTI_CONTEXT_COMMON_V1*>(memory_.data())->magic != 0;
}

void Party::close() {
    if (!isOpen()) return;
    const Counted counted;
    reinterpret_cast<TSS2_TCTI_CONTEXT_COMMON_V1*>(context())->finalize(context());
    memory_.fill(0);
}

void Party::start(const Packet& command) {
    const Counted counted;
    EXPECT_EQ(Tss2_Tcti_Transmit(context(), command.length(), command.all().data()),
              TSS2_RC_SUCCESS);
}

Packet Party::finish() {
    Bytes answer(TPM2_MAX_RESPONSE_SIZE);
    size_t size = answer.size();
    {
        const Counted counted;
        EXPECT_EQ(Tss2_Tcti_Receive(context(), &size, answer.data(), TSS2_TCTI_TIMEOUT_BLOCK),
                  TSS2_RC_SUCCESS);
    }
    answer.resize(size);
    EXPECT_TRUE(wire::Response::wellFormed(answer)) << Packet(answer);
    return Packet(answer);
}

TSS2_RC Party::setLocality(uint8_t locality) {
    const Counted counted;
    return Tss2_Tcti_SetLocality(context(), locality);
}

TSS2_RC Party::cancel() {
    const Counted counted;
    return Tss2_Tcti_Cancel(context());
}

// ---- Opening ------------------------------------------------------------------------------------

Play::Play(TpmBehind& tpm, const Mode& mode, const Fault& fault, size_t position)
    : tpm_(tpm), mode_(mode), fault_(fault), position_(position), child_(tpm, fault, position) {
    child_.happened = [this](const FaultyChild::Event& event) { note(event); };
    Allocations::exempt = FaultyChild::atWork;
    Allocations::count = 0;
    Allocations::failAt = fault.isOfMemory() ? position : 0;
    Allocations::failFromThen = fault.kind == Fault::Kind::NoMemory;
}

Play::~Play() {
    Allocations::failAt = 0;
    EXPECT_TRUE(ended_);
    a.close();
    b.close();
}

bool Play::fired() const { return child_.fired() || memoryFailed_ || Allocations::failed(); }

/// Memory is back as soon as the client has been told.
void Play::forgetMemory() {
    memoryFailed_ |= Allocations::failed();
    if (memoryFailed_) Allocations::failAt = 0;
}

void Play::perform(const Script& script) {
    open(a);
    open(b);
    script.perform(*this);
    end();
}

void Play::open(Party& party) {
    const std::string conf = std::string(mode_.options) + FaultyChild::kName;
    TSS2_RC rc = party.open(conf);
    if (rc != TSS2_RC_SUCCESS) {
        EXPECT_TRUE(fired());
        EXPECT_EQ(rc, fault_.isOfMemory() ? TSS2_TCTI_RC_MEMORY : Fault::kSaid);
        ++refusals_;
        forgetMemory();
        rc = party.open(conf);
    }
    forgetMemory();
    EXPECT_EQ(rc, TSS2_RC_SUCCESS);
}

// ---- Commands and answers -----------------------------------------------------------------------

/// A command of what is gone is not sent, nor one of what is saved that needs it loaded.
bool Play::isPointless(const Op& op) {
    const TPM2_CC code = codeOf(op.command);
    const bool needsLoaded = code != TPM2_CC_ContextLoad && code != TPM2_CC_FlushContext;
    return std::ranges::any_of(op.names, [&](const Thing* thing) {
        return thing->life == Life::Gone || (needsLoaded && thing->saved);
    });
}

void Play::run(Op op) {
    if (isPointless(op)) return;
    start(op);
    finish(op);
}

void Play::start(Op& op) {
    op.firedBefore = fired();
    op.party->start(op.command);
}

void Play::finish(Op& op) {
    const Packet answer = op.party->finish();
    during_ = fired() && !op.firedBefore;
    forgetMemory();
    const TPM2_RC code = codeOf(answer);
    if (code != TPM2_RC_SUCCESS) return refused(op, code, during_);
    const bool flushes = codeOf(op.command) == TPM2_CC_FlushContext;
    for (Thing* thing : op.names) {
        if (!flushes) thing->maybeSaved = false;
        const bool isDead = thing->life == Life::Doomed || thing->life == Life::Gone;
        EXPECT_TRUE(!isDead || during_ || (flushes && swaps())) << op.command << " of what is gone";
    }
    if (op.done) op.done(answer);
}

void Play::refused(const Op& op, TPM2_RC code, bool during) {
    if (std::ranges::count(op.alsoRight, code) > 0) return;
    if (Thing* thing = missing(op, code)) return lose(*thing);
    if (hidden_ == codeOf(op.command) && during && ofTheLayer(code) && op.unknown) op.unknown();
    // As far as the library knows, nothing must be moved before the next Startup.
    const bool isFull = code == TPM2_RC_OBJECT_MEMORY || code == TPM2_RC_SESSION_MEMORY;
    if (isFull && unseenStart_ && swaps()) return;
    if (!during && code == TPM2_RC_OBJECT_MEMORY && leftObjects_ > 0) return;
    if (!during && code == TPM2_RC_SESSION_MEMORY && leftSessions_ > 0) return;
    ++refusals_;
    EXPECT_TRUE(during) << op.command << " is answered by " << inHex(code);
    EXPECT_TRUE(isExcused(code)) << op.command << " is answered by " << inHex(code);
    // Others in line may have come to the same shortage.
    EXPECT_TRUE(refusals_ == 1 || fault_.kind == Fault::Kind::NoMemory) << refusals_;
}

/// What the client may be told of the fault.
bool Play::isExcused(TPM2_RC code) const {
    switch (fault_.kind) {
        case Fault::Kind::Code:
            return code == fault_.code;
        case Fault::Kind::Memory:
        case Fault::Kind::NoMemory:
            return code == (TSS2_RESMGR_RC_LAYER | TPM2_RC_MEMORY);
        case Fault::Kind::None:
        case Fault::Kind::TryAgain:
            return false;
        default:
            return !fault_.takes() && code == (TSS2_RESMGR_RC_LAYER | TPM2_RC_FAILURE);
    }
}

/// Which of the things that the command names is not there, to this code; null if none.
Thing* Play::missing(const Op& op, TPM2_RC code) const {
    if (op.names.empty()) return nullptr;
    if (wire::isReferenceHandle(code)) {
        const size_t at = code - TPM2_RC_REFERENCE_H0;
        return at < op.names.size() ? op.names[at] : nullptr;
    }
    if (wire::isReferenceSession(code)) return op.names.back();
    const bool flushes = codeOf(op.command) == TPM2_CC_FlushContext;
    const bool loads = codeOf(op.command) == TPM2_CC_ContextLoad;
    if ((flushes || loads) && code == wire::forParameter(TPM2_RC_HANDLE, 0)) return op.names[0];
    // A context of before a reset, or of what has a new proof.
    if (loads && code == wire::forParameter(TPM2_RC_INTEGRITY, 0)) return op.names[0];
    return nullptr;
}

void Play::lose(Thing& thing) {
    if (thing.maybeSaved && !thing.saved) {  // it was, and nobody has the context
        thing.saved = true;
        thing.context.clear();
        return;
    }
    // One that is missing and should not be makes everything suspect.
    toldOfLoss_ |= thing.life == Life::Doomed && !during_;
    if (thing.life == Life::Alive && !thing.isSession() && objectLosses_ > 0)
        --objectLosses_;
    else
        EXPECT_NE(thing.life, Life::Alive) << inHex(thing.handle) << " is lost";
    thing.life = Life::Gone;
}

// ---- What the fault costs -----------------------------------------------------------------------

template <class Condition>
void Play::doom(Condition condition) {
    for (Thing& thing : things_)
        if (thing.life != Life::Gone && condition(thing)) thing.life = Life::Doomed;
}

/// By a command that the library has seen: they are in no list any more.
template <class Condition>
void Play::removeThose(Condition condition) {
    doom(condition);
    for (Thing& thing : things_) thing.listed &= !condition(thing) || during_;
}

void Play::note(const FaultyChild::Event& event) {
    toldOfLoss_ = false;
    if (event.hidden) {
        hidden_ = event.code;
        const bool session = wire::isSession(event.subject);
        if (event.code == TPM2_CC_ContextLoad && !session) leftObjects_ = 1;
        // The context went with the answer. Others' commands are answered by ops of their own.
        if (event.code == TPM2_CC_ContextSave && session)
            for (Thing& thing : things_)
                if (thing.life == Life::Alive && sameNumber(event.subject, thing.handle))
                    thing.life = Life::Unsure;
    }
    if (wire::isSession(event.gone))
        doom([&](const Thing& thing) { return sameNumber(event.gone, thing.handle); });
    else if (event.gone != 0)
        objectLosses_ = 1;
    // After an orderly Shutdown what is out of the TPM survives, whoever starts it.
    unseenStart_ |= maybeOrderly_ && (event.everythingGone || event.code == TPM2_CC_Startup);
    if (event.everythingGone)
        for (Thing& thing : things_)
            if (thing.life != Life::Gone)
                thing.life =
                    maybeOrderly_ && (swaps() || thing.saved) ? Life::Unsure : Life::Doomed;
    if (event.hierarchiesGone)
        doom([](const Thing& thing) { return thing.hierarchy == TPM2_RH_ENDORSEMENT; });
}

// ---- What clients make --------------------------------------------------------------------------

/// A new thing, of what `like` says. If it cannot be made, it is gone from the beginning.
Thing& Play::make(Party& party, Kind kind, const Packet& command, const Thing& like) {
    Thing& thing = things_.emplace_back(like);
    thing.party = &party;
    thing.life = Life::Gone;
    run({.party = &party,
         .command = command,
         .done =
             [&](const Packet& answer) {
                 born(thing, handleOf(answer), during_);
                 if (thing.kind == Kind::Object) thing.made = publicArea(answer, kHeader + 4);
             },
         .unknown = [&, kind] { (kind < Kind::Policy ? leftObjects_ : leftSessions_) = 1; }});
    return thing;
}

/// It has a number that nobody else can have any more.
void Play::born(Thing& thing, TPM2_HANDLE handle, bool during) {
    for (Thing& other : things_) {
        const bool shared = thing.isSession() || other.party == thing.party;
        if (other.life == Life::Gone || !shared || !sameNumber(other.handle, handle)) continue;
        lose(other);
    }
    const bool takenSince = during && fault_.takes() && fault_.kind != Fault::Kind::Taken;
    thing.handle = handle;
    thing.life = takenSince ? Life::Unsure : Life::Alive;
}

Thing& Play::object(Party& party, const std::string& name, TPM2_HANDLE hierarchy) {
    return make(party, Kind::Object, makePrimary(hierarchy, name),
                {&party, Kind::Object, hierarchy, name});
}
Thing& Play::sequence(Party& party) {
    return make(party, Kind::Sequence, startSequence(), {&party, Kind::Sequence, TPM2_RH_NULL});
}
Thing& Play::policy(Party& party) {
    return make(party, Kind::Policy, startSession(TPM2_SE_POLICY), {&party, Kind::Policy});
}
Thing& Play::hmac(Party& party) {
    return make(party, Kind::Hmac, startSession(TPM2_SE_HMAC), {&party, Kind::Hmac});
}

Thing& Play::loadCopy(Thing& object) {
    Thing copy = object;
    copy.context.clear();
    Thing& thing = things_.emplace_back(copy);
    thing.life = Life::Gone;
    if (object.context.empty()) return thing;
    // What the context was saved from need not be there, but its hierarchy's proof must be.
    Thing& proof = things_.emplace_back(thing);
    proof.handle = 0;
    proof.life = fired() && fault_.takes() ? Life::Unsure : Life::Alive;
    run({.party = object.party,
         .command = command(TPM2_CC_ContextLoad).raw(object.context),
         .names = {&proof},
         .done = [&](const Packet& answer) { born(thing, handleOf(answer), during_); },
         .unknown = [this] { leftObjects_ = 1; }});
    proof.life = Life::Gone;
    return thing;
}

// ---- What clients do with it --------------------------------------------------------------------

/// What a private TPM answers when it is asked what such a thing is.
Packet Play::expected(const Thing& thing, size_t uses) {
    static std::map<std::tuple<unsigned, Kind, TPM2_HANDLE, std::string, size_t>, Packet> known;
    const auto key =
        std::tuple(tpm_.whichPrivately(), thing.kind, thing.hierarchy, thing.name, uses);
    if (const auto found = known.find(key); found != known.end()) return found->second;
    const Packet made = tpm_.privately(making(thing.kind, thing.hierarchy, thing.name));
    EXPECT_EQ(codeOf(made), TPM2_RC_SUCCESS);
    const TPM2_HANDLE handle = handleOf(made);
    for (size_t i = 0; i < uses; ++i)
        EXPECT_EQ(codeOf(tpm_.privately(changing(thing.kind, handle))), TPM2_RC_SUCCESS);
    const Packet shown = tpm_.privately(showing(thing.kind, handle));
    EXPECT_EQ(codeOf(shown), TPM2_RC_SUCCESS);
    tpm_.privately(flushContext(handle));
    return known.emplace(key, shown).first->second;
}

/// It is what it must be.
bool Play::isRight(const Thing& thing, const Packet& answer) {
    if (thing.kind == Kind::Hmac) return true;  // there is a new nonce in each answer
    // Clear changes what is made in this hierarchy, for good: what the TPM said then has to do.
    if (thing.hierarchy == TPM2_RH_ENDORSEMENT) return publicArea(answer, kHeader) == thing.made;
    return std::ranges::any_of(thing.uses,
                               [&](size_t uses) { return answer == expected(thing, uses); });
}

Play::Op Play::using_(Thing& thing) {
    if (!changes(thing.kind)) return checking(thing);
    return {.party = thing.party,
            .command = changing(thing.kind, thing.handle),
            .names = {&thing},
            .done =
                [&](const Packet&) {
                    for (size_t& each : thing.uses) ++each;
                },
            .unknown =
                [&] {
                    const std::vector<size_t> before = thing.uses;
                    for (const size_t each : before) thing.uses.push_back(each + 1);
                }};
}

Play::Op Play::checking(Thing& thing) {
    return {.party = thing.party,
            .command = showing(thing.kind, thing.handle),
            .names = {&thing},
            .done =
                [&](const Packet& answer) {
                    EXPECT_TRUE(isRight(thing, answer)) << inHex(thing.handle) << " is " << answer;
                    if (thing.kind == Kind::Sequence) thing.life = Life::Gone;
                },
            .unknown =
                [&] {
                    if (thing.kind == Kind::Sequence) thing.life = Life::Unsure;
                }};
}

void Play::certify(Thing& object, Thing& key) {
    run({.party = object.party,
         .command = test::certify(object.handle, key.handle).tpm2b().u16(TPM2_ALG_NULL),
         .names = {&object, &key}});
}

void Play::end(Thing& hmac) {
    run({.party = hmac.party,
         .command = authorized(hmac.handle, 0),
         .names = {&hmac},
         .done = [&](const Packet&) { hmac.life = Life::Gone; },
         .unknown = [&] { hmac.life = Life::Unsure; }});
}

void Play::save(Thing& thing) {
    run({.party = thing.party,
         .command = contextSave(thing.handle),
         .names = {&thing},
         .done =
             [&](const Packet& answer) {
                 thing.context = Bytes(answer.all().begin() + kHeader, answer.all().end());
                 thing.saved = thing.isSession();
                 if (during_ && fault_.takes()) thing.life = std::max(thing.life, Life::Unsure);
             },
         .unknown =
             [&] {
                 if (!thing.isSession()) return;
                 thing.life = Life::Unsure;
                 thing.maybeSaved = true;
             }});
}

void Play::load(Thing& session) {
    if (!session.saved || session.context.empty()) return;
    run({.party = session.party,
         .command = command(TPM2_CC_ContextLoad).raw(session.context),
         .names = {&session},
         .done =
             [&](const Packet& answer) {
                 EXPECT_EQ(inHex(handleOf(answer)), inHex(session.handle));
                 session.saved = false;
             },
         .unknown =
             [&] {
                 session.life = Life::Unsure;
                 leftSessions_ = 1;
             }});
}

void Play::flush(Thing& thing) {
    run({.party = thing.party,
         .command = flushContext(thing.handle),
         .names = {&thing},
         .done = [&](const Packet&) { thing.life = Life::Gone; },
         .unknown = [&] { thing.life = Life::Unsure; }});
}

void Play::list(Party& party) {
    for (const TPM2_HANDLE first :
         {TPM2_TRANSIENT_FIRST, TPM2_LOADED_SESSION_FIRST, TPM2_ACTIVE_SESSION_FIRST})
        listOf(party, first);
}

void Play::listOf(Party& party, TPM2_HANDLE first) {
    run({.party = &party,
         .command = getCapability(TPM2_CAP_HANDLES, first, 64),
         .done = [&, first](const Packet& answer) {
             std::vector<TPM2_HANDLE> listed;
             for (size_t at = kHeader + 9; at + 4 <= answer.length(); at += 4)
                 listed.push_back(wire::get32(&answer.all()[at]));
             checkList(party, first, listed);
         }});
}

void Play::checkList(Party& party, TPM2_HANDLE first, const std::vector<TPM2_HANDLE>& listed) {
    const bool sessions = first != TPM2_TRANSIENT_FIRST, saved = first == TPM2_ACTIVE_SESSION_FIRST;
    const auto isIn = [&](TPM2_HANDLE handle) {
        return std::ranges::any_of(listed,
                                   [&](TPM2_HANDLE each) { return sameNumber(each, handle); });
    };
    const auto canBe = [&](TPM2_HANDLE handle) {
        return std::ranges::any_of(things_, [&](const Thing& thing) {
            const bool asked = toldOfLoss_ && !swaps() && (fault_.takes() || !fired());
            const bool known = thing.life == Life::Doomed && (asked || !thing.listed);
            const bool here = thing.life == Life::Alive ? thing.saved == saved
                                                        : thing.life != Life::Gone && !known;
            return thing.party == &party && here && sameNumber(thing.handle, handle);
        });
    };
    for (const TPM2_HANDLE handle : listed) EXPECT_TRUE(canBe(handle)) << inHex(handle);
    for (const Thing& thing : things_) {
        const bool belongs = thing.party == &party && thing.life == Life::Alive &&
                             thing.handle != 0 && thing.isSession() == sessions &&
                             thing.saved == saved;
        if (!belongs || (!sessions && objectLosses_ > 0)) continue;
        EXPECT_TRUE(isIn(thing.handle)) << inHex(thing.handle) << " is not listed";
    }
}

void Play::nameOthers(Party& party) {
    for (const Thing& other : std::deque(things_)) {
        const auto isOwn = [&](const Thing& own) {
            return own.party == &party && own.life != Life::Gone &&
                   sameNumber(own.handle, other.handle);
        };
        if (other.handle == 0 || std::ranges::any_of(things_, isOwn)) continue;
        const bool inAuthorization = other.kind == Kind::Hmac;
        run({.party = &party,
             .command = showing(other.isSession() ? other.kind : Kind::Object, other.handle),
             .done = [&](const Packet&) { ADD_FAILURE() << "others' " << inHex(other.handle); },
             .alsoRight = {inAuthorization ? TPM2_RC_REFERENCE_S0 : TPM2_RC_REFERENCE_H0,
                           wire::forHandle(TPM2_RC_VALUE, 0)}});  // never in range here
    }
}

void Play::unknownCommand(Party& party) {
    constexpr TPM2_CC kNone = 0x1FF;
    run({.party = &party,
         .command = command(kNone),
         .done = [](const Packet&) { ADD_FAILURE(); },
         .alsoRight = {TPM2_RC_COMMAND_CODE}});
}

// ---- Both at once, and what is not a command ----------------------------------------------------

void Play::together(Op first, Op second) {
    if (isPointless(first) || isPointless(second)) return;
    start(first);
    start(second);
    finish(second);
    finish(first);
}

/// The child may have no cancel, for a command that it has.
void Play::cancel(Op& op) {
    const TSS2_RC rc = op.party->cancel();
    EXPECT_TRUE(rc == TSS2_RC_SUCCESS || rc == TSS2_TCTI_RC_NOT_IMPLEMENTED ||
                (fired() && rc == Fault::kSaid))
        << inHex(rc);
    op.alsoRight = {TPM2_RC_CANCELED};
}

void Play::cancelSecond(Op first, Op second) {
    if (isPointless(first) || isPointless(second)) return;
    start(first);
    start(second);
    cancel(second);
    finish(second);
    finish(first);
}

void Play::cancelRunning(Op op) {
    if (isPointless(op)) return;
    start(op);
    cancel(op);
    finish(op);
}

void Play::setLocality(Party& party, uint8_t locality) {
    const TSS2_RC rc = party.setLocality(locality);
    EXPECT_TRUE(rc == TSS2_RC_SUCCESS || (fired() && rc == Fault::kSaid)) << inHex(rc);
}

void Play::abandon(Op op) {
    if (isPointless(op)) return;
    start(op);
    abandoned_ = op;
}

// ---- Hierarchies and power ----------------------------------------------------------------------

void Play::clear(Party& party) {
    const auto isCleared = [](const Thing& thing) {
        return thing.hierarchy == TPM2_RH_ENDORSEMENT;
    };
    run({.party = &party,
         .command = test::clear(),
         .done = [&](const Packet&) { removeThose(isCleared); },
         .unknown =
             [&] {
                 for (Thing& thing : things_)
                     if (isCleared(thing) && thing.life == Life::Alive) thing.life = Life::Unsure;
             }});
}

void Play::control(Party& party, bool on) {
    const auto isTurned = [on](const Thing& thing) {
        return !on && thing.hierarchy == TPM2_RH_ENDORSEMENT;
    };
    run({.party = &party,
         .command = hierarchyControl(TPM2_RH_ENDORSEMENT, on),
         .done = [&](const Packet&) { removeThose(isTurned); },
         .unknown =
             [&] {
                 for (Thing& thing : things_)
                     if (isTurned(thing) && thing.life == Life::Alive) thing.life = Life::Unsure;
             }});
}

void Play::shutDown(Party& party) {
    run({.party = &party,
         .command = shutdown(TPM2_SU_STATE),
         .done =
             [this](const Packet&) {
                 orderly_ = !during_ || !fault_.takes();
                 maybeOrderly_ = true;
             },
         .unknown = [this] { maybeOrderly_ = true; }});
}

void Play::powerCycle() {
    tpm_.powerCycle();
    // Of one that was saved without a context not even its client knows.
    for (const Thing& thing : things_)
        if (thing.maybeSaved && thing.life != Life::Gone) leftSaved_ = 1;
    doom([this](const Thing& thing) { return !thing.saved || !maybeOrderly_; });
    for (Thing& thing : things_)
        if (thing.life == Life::Alive && !orderly_) thing.life = Life::Unsure;
}

void Play::expectOff(Party& party) {
    run({.party = &party,
         .command = getRandom(),
         .done =
             [this](const Packet&) { EXPECT_TRUE(fault_.kind == Fault::Kind::Reset && fired()); },
         .alsoRight = {TPM2_RC_INITIALIZE}});
}

/// As often as a client has to.
void Play::startUp(Party& party) {
    bool started = false;
    for (const TPM2_SU type : {TPM2_SU_STATE, TPM2_SU_STATE, TPM2_SU_CLEAR})
        if (!started)
            run({.party = &party,
                 .command = startup(type),
                 .done = [&](const Packet&) { started = true; },
                 .alsoRight = {TPM2_RC_INITIALIZE, wire::forParameter(TPM2_RC_VALUE, 0)}});
    orderly_ = maybeOrderly_ = false;
}

void Play::flushBehind(Thing& session) {
    if (session.life == Life::Gone) return;
    child_.sendBehind(flushContext(session.handle));
    session.life = Life::Doomed;
}

// ---- The end ------------------------------------------------------------------------------------

/// What clients have is what it should be, and then nothing; and what they make anew works.
void Play::verify(const std::vector<Party*>& parties) {
    child_.pause(true);
    if (abandoned_) finish(*abandoned_);
    abandoned_.reset();
    for (Party* party : parties) list(*party);
    for (Party* party : parties) nameOthers(*party);
    for (Party* party : parties) empty(*party);
    objectLosses_ = 0;
    for (Party* party : parties) makeAnew(*party);
    child_.pause(false);
}

void Play::empty(Party& party) {
    for (size_t i = 0; i < things_.size(); ++i) {
        Thing& thing = things_[i];
        if (thing.party != &party || thing.life == Life::Gone || thing.handle == 0) continue;
        load(thing);
        if (thing.life != Life::Gone) use(thing);
        if (thing.life != Life::Gone) check(thing);
        flush(thing);
    }
    list(party);
}

void Play::makeAnew(Party& party) {
    Thing& one = object(party, "anew");
    Thing& other = sequence(party);
    EXPECT_EQ(inHex(one.handle), inHex(TPM2_TRANSIENT_FIRST));
    EXPECT_EQ(inHex(other.handle), inHex(TPM2_TRANSIENT_FIRST + 1));
    Thing& session = policy(party);
    for (Thing* each : {&one, &other, &session}) use(*each);
    list(party);
    for (Thing* each : {&one, &other, &session}) check(*each);
    flush(one);
    end(hmac(party));
    flush(session);
    list(party);
}

void Play::end() {
    const bool firedInScript = fired();
    if (firedInScript) verify({&a, &b});
    close(a);
    if (fired() && !firedInScript) verify({&b});
    size_t saved = unseenStart_ && swaps() ? things_.size() : leftSaved_;
    for (const Thing& thing : things_)
        saved += !thing.context.empty() && thing.saved && thing.life != Life::Gone ? 1 : 0;
    close(b);
    const TpmBehind::Occupied occupied = tpm_.occupied();
    EXPECT_LE(occupied.objects, leftObjects_);
    EXPECT_LE(occupied.loaded, leftSessions_);
    EXPECT_LE(occupied.saved, saved);
    ended_ = true;
}

void Play::close(Party& party) {
    if (abandoned_ && abandoned_->party == &party) abandoned_.reset();
    party.close();
    forgetMemory();
    for (Thing& thing : things_)
        if (thing.party == &party && !thing.saved) thing.life = Life::Gone;
}

bool perform(TpmBehind& tpm, const Script& script, const Mode& mode, const Fault& fault,
             size_t position) {
    Play play(tpm, mode, fault, position);
    play.perform(script);
    return play.fired();
}

size_t countPositions(TpmBehind& tpm, const Script& script, const Mode& mode, const Fault& fault) {
    Play play(tpm, mode, fault, 0);
    play.perform(script);
    return play.positions();
}

}  // namespace spaces::test
