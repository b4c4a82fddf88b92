// SPDX-License-Identifier: BSD-2-Clause
// Sending, comparing, and keeping the private TPMs in step; see differential_world.h.
#include "differential_world.h"

#include <algorithm>
#include <sstream>

namespace spaces::test {
namespace {

constexpr uint32_t kIndex = 0xFFFFFF;

bool isPersistent(TPM2_HANDLE handle) { return handle >> 24 == TPM2_HT_PERSISTENT; }

bool isContextManagement(TPM2_CC code) {
    return code == TPM2_CC_ContextSave || code == TPM2_CC_ContextLoad ||
           code == TPM2_CC_FlushContext;
}

/// What the TPM has one of; a success of these is told to the other private TPMs as it is.
bool isShared(TPM2_CC code) {
    static const std::set<TPM2_CC> codes = {
        TPM2_CC_Clear,          TPM2_CC_ChangePPS,        TPM2_CC_ChangeEPS,
        TPM2_CC_PCR_Extend,     TPM2_CC_HierarchyControl, TPM2_CC_PCR_Reset,
        TPM2_CC_NV_DefineSpace, TPM2_CC_NV_UndefineSpace, TPM2_CC_NV_Write,
        TPM2_CC_PCR_Event,      TPM2_CC_Shutdown};
    return codes.contains(code);
}

Bytes lastName(const Bytes& response) {
    const Bytes all = parameters(response, 1).rest();
    return all.size() < 34 ? Bytes() : Bytes(all.end() - 34, all.end());
}

}  // namespace

World::World(const Mode& mode, const Simulator& original)
    : mode_(mode), sharedTpm_(std::make_unique<Simulator>(Record::nothing, original)) {
    for (size_t i = 0; i < kSpaces; ++i) {
        privateTpm_[i] = std::make_unique<Simulator>(Record::nothing, original);
        space_[i] = std::make_unique<Client>(Client::space(*sharedTpm_, mode.options));
        alone_[i] = std::make_unique<Client>(Client::bare(*privateTpm_[i]));
        useProtected(alone(i));
    }
    useProtected(*space_[0]);
}

World::~World() = default;

// ---- What arguments mean
// -------------------------------------------------------------------------

const Thing* World::thing(int64_t label) const {
    const auto found = things_.find(static_cast<int>(label));
    return found == things_.end() ? nullptr : &found->second;
}

Operand World::byHandle(size_t space, TPM2_HANDLE handle, Side side) const {
    Operand operand;
    operand.handle = handle;
    if (handle >> 24 == TPM2_HT_PERMANENT) {
        operand.hierarchy = handle;
        operand.name = handleName(handle);
        return operand;
    }
    if (const auto found = persistent_.find(handle); found != persistent_.end()) {
        operand = found->second.operand;
        operand.name = found->second.name[space][side];
        operand.publicArea = found->second.publicArea[space][side];
    }
    for (const auto& [label, thing] : things_) {
        if (thing.kind != Thing::Kind::Object || !thing.live || thing.space != space ||
            thing.handle[kAlone] != handle)
            continue;
        operand = {handle,      thing.name[side], thing.publicArea[side], thing.auth,
                   thing.shape, thing.hierarchy,  thing.determined};
    }
    return operand;
}

Operand World::absentObject(size_t space, int64_t which) const {
    for (TPM2_HANDLE handle = TPM2_TRANSIENT_FIRST;; ++handle) {
        const bool there = std::any_of(things_.begin(), things_.end(), [&](const auto& entry) {
            const Thing& thing = entry.second;
            return thing.kind == Thing::Kind::Object && thing.live && thing.space == space &&
                   thing.handle[kAlone] == handle;
        });
        if (!there && ++which >= 0) return byHandle(space, handle, kAlone);
    }
}

std::optional<Operand> World::object(const Operation& operation, const std::string& argument,
                                     Side side) const {
    const int64_t value = operation.get(argument, TPM2_RH_NULL);
    if (value < 0) return absentObject(operation.space, value);
    if (value >= 0x01000000)
        return byHandle(operation.space, static_cast<TPM2_HANDLE>(value), side);
    const Thing* made = thing(value);
    if (made == nullptr || made->kind != Thing::Kind::Object || made->space != operation.space)
        return std::nullopt;
    return byHandle(operation.space, made->handle[kAlone], side);
}

/// A number that is not the space's: of the shared TPM, one that another space has, if there is
/// one. From -64 on, numbers that no TPM has.
TPM2_HANDLE World::absentSession(size_t space, int64_t which, Side side) const {
    const TPM2_HANDLE type = which % 2 == 0 ? TPM2_POLICY_SESSION_FIRST : TPM2_HMAC_SESSION_FIRST;
    if (which <= -64) return type + static_cast<TPM2_HANDLE>(-which);
    std::set<TPM2_HANDLE> own, others;
    for (const auto& [label, thing] : things_)
        if (thing.kind == Thing::Kind::Session && thing.owns())
            (thing.space == space ? own : others).insert(thing.handle[side] & kIndex);
    if (side == kShared && !others.empty())
        return type + *std::next(others.begin(), -which % static_cast<int64_t>(others.size()));
    TPM2_HANDLE index = 0;
    while (own.contains(index)) ++index;
    return type + index;
}

std::optional<TPM2_HANDLE> World::session(const Operation& operation, const std::string& argument,
                                          Side side) const {
    const int64_t value = operation.get(argument);
    if (value < 0) return absentSession(operation.space, value, side);
    const Thing* made = thing(value);
    if (made == nullptr || made->kind != Thing::Kind::Session || made->space != operation.space)
        return std::nullopt;
    return made->owns() ? made->handle[side]
                        : absentSession(operation.space, -value % 60 - 1, side);
}

std::array<std::vector<TPM2_HANDLE>, 2> World::sessions(size_t space, bool saved) const {
    std::array<std::vector<TPM2_HANDLE>, 2> all;
    for (size_t side : {kShared, kAlone}) {
        for (const auto& [label, thing] : things_)
            if (thing.kind == Thing::Kind::Session && thing.space == space &&
                (saved ? thing.saved : thing.live))
                all[side].push_back(saved ? TPM2_HMAC_SESSION_FIRST + (thing.handle[side] & kIndex)
                                          : thing.handle[side]);
        std::sort(all[side].begin(), all[side].end(),
                  [](TPM2_HANDLE a, TPM2_HANDLE b) { return (a & kIndex) < (b & kIndex); });
    }
    return all;
}

size_t World::count(size_t space, Thing::Kind kind) const {
    return static_cast<size_t>(
        std::count_if(things_.begin(), things_.end(), [&](const auto& entry) {
            return entry.second.kind == kind && entry.second.live && entry.second.space == space;
        }));
}

// ---- Commands
// ------------------------------------------------------------------------------------

/// Puts sessions in place of passwords. False when a session was never made.
bool World::authorize(Prepared& prepared, Side side) {
    const Operation& operation = prepared.operation;
    Request& request = prepared.request[side];
    prepared.plain = request.command;
    const bool dropped = operation.has("drop");
    if (dropped) request.command.noAuth();
    for (size_t i = 0; i < 3; ++i) {
        const std::string number = std::to_string(i + 1);
        const int64_t label = operation.get("s" + number);
        Use use;
        if (i < request.auths.size()) use.auth = request.auths[i];
        use.wrong = i == 0 && i < request.auths.size() && operation.has("wrong");
        use.attributes =
            static_cast<uint8_t>(operation.get("a" + number, TPMA_SESSION_CONTINUESESSION));
        if (label == 0 && (dropped || i >= request.auths.size())) break;
        if (label != 0) {
            const auto handle = session(operation, "s" + number, side);
            if (!handle) return false;
            const auto made = things_.find(static_cast<int>(label));
            if (made != things_.end() && made->second.owns())
                use.session = &made->second.session[side];
            else
                use.session = &prepared.unknown[side].emplace_back(Session::unknown(*handle));
        }
        prepared.uses[side].push_back(use);
    }
    return true;
}

/// With another octet here, the random ones after it might be read as sizes or numbers. Those of a
/// context are not read before they are found to be spoilt.
bool World::leadsRandomOctets(const Prepared& prepared, size_t at) const {
    const auto octetsFrom = [&](Side side) {
        const Bytes all = Command(prepared.request[side].command).parameters();
        return Bytes(all.begin() + static_cast<ptrdiff_t>(at), all.end());
    };
    const Bytes shared = octetsFrom(kShared), alone = octetsFrom(kAlone);
    return prepared.operation.verb != "LoadContext" && shared[0] == alone[0] && shared != alone;
}

/// Spoils the commands, both in the same way. False when they cannot be.
bool World::mangle(Prepared& prepared) {
    const Operation& operation = prepared.operation;
    for (const char* how : {"cut", "extend", "flip", "tag", "code"})
        prepared.mangled = prepared.mangled || operation.has(how);
    if (!prepared.mangled) return true;
    if (prepared.bytes[kShared].size() != prepared.bytes[kAlone].size()) return false;
    const Bytes before = prepared.bytes[kAlone];
    for (size_t side : {kShared, kAlone}) {
        Bytes& bytes = prepared.bytes[side];
        const size_t parameters = prepared.request[side].command.parameters().size();
        if (operation.has("flip")) {
            if (parameters == 0) return false;
            const size_t at = static_cast<size_t>(operation.get("flip")) % parameters;
            if (leadsRandomOctets(prepared, at)) {
                tally_.count(Allowed::LeadsRandom);
                return false;
            }
            bytes[bytes.size() - parameters + at] ^= static_cast<uint8_t>(operation.get("by", 1));
        }
        if (operation.has("cut"))
            bytes.resize(10 + static_cast<size_t>(operation.get("cut")) % (bytes.size() - 9));
        if (operation.has("extend")) bytes.resize(bytes.size() + operation.get("extend") % 64);
        Bytes header;
        append(header, static_cast<uint64_t>(operation.get("tag", bytes[0] << 8 | bytes[1])), 2);
        append(header, bytes.size(), 4);
        if (operation.has("code")) append(header, static_cast<uint64_t>(operation.get("code")), 4);
        std::copy(header.begin(), header.end(), bytes.begin());
    }
    prepared.mangled = prepared.bytes[kAlone] != before;
    return true;
}

std::unique_ptr<World::Prepared> World::prepare(const Operation& operation) {
    auto prepared = std::make_unique<Prepared>();
    prepared->operation = operation;
    for (const Side side : {kShared, kAlone}) {
        auto built = test::request(*this, operation, side);
        if (!built) return nullptr;
        prepared->request[side] = std::move(*built);
        if (!authorize(*prepared, side)) return nullptr;
        const Request& request = prepared->request[side];
        if (const Thing* made = thing(operation.get("session")))
            prepared->auditDigest[side] = made->session[side].auditDigest();
        prepared->exchange[side] =
            std::make_unique<Exchange>(request.command, prepared->uses[side], request.names);
        prepared->bytes[side] = prepared->exchange[side]->command();
    }
    return mangle(*prepared) ? std::move(prepared) : nullptr;
}

/// The context of an stClear object covers clearCount: what was moved out does not come back.
bool World::clearEndsContexts() const {
    return mode_.swaps && restarted_ &&
           std::any_of(things_.begin(), things_.end(), [](const auto& entry) {
               return entry.second.live && entry.second.maker.get("stclear") != 0;
           });
}

/// Whether what it needs is there on both sides, or on neither.
bool World::fits(Thing::Kind kind, size_t space, size_t need, size_t pending) {
    if (need == 0) return true;
    const size_t own = count(space, kind) + need;
    if (mode_.swaps) {
        if (own > kSlots) tally_.count(Allowed::PrivateFull);
        return own <= kSlots;
    }
    size_t all = need + pending;
    for (size_t each = 0; each < kSpaces; ++each) all += count(each, kind);
    if (all <= kSlots || all == own) return true;
    tally_.count(Allowed::NeighboursFill);
    return false;
}

bool World::mayBeSent(const Prepared& prepared) {
    const Operation& operation = prepared.operation;
    const Command& command = prepared.request[kAlone].command;
    const auto& handles = command.handles();
    if (namesAlias(prepared) &&
        std::any_of(prepared.uses[kAlone].begin(), prepared.uses[kAlone].end(),
                    [](const Use& use) { return use.session != nullptr; })) {
        tally_.count(Allowed::PersistentAlias);  // it would use the session on one side only
        return false;
    }
    if (operation.verb == "Shutdown" && mode_.swaps) {
        tally_.count(Allowed::ShutdownAlone);
        return false;
    }
    if (operation.verb == "Clear" && clearEndsContexts()) {
        tally_.count(Allowed::ClearWithStClear);
        return false;
    }
    const Thing* context = thing(operation.get("context"));
    if (operation.verb == "LoadContext" && context->space != operation.space &&
        !context->portable) {
        tally_.count(Allowed::OthersContext);
        return false;
    }
    if (operation.verb == "Evict" && !isPersistent(handles[1]))
        for (const auto& [label, made] : things_)
            if (made.live && made.space == operation.space && made.handle[kAlone] == handles[1] &&
                made.maker.verb != "Primary")
                return false;  // the others could not make the same
    const bool loadsSession =
        operation.verb == "LoadContext" && thing(context->of)->kind == Thing::Kind::Session;
    size_t objects =
        static_cast<size_t>(std::count_if(handles.begin(), handles.end(), isPersistent));
    const bool startsSession = command.code() == TPM2_CC_StartAuthSession;
    if (command.code() == TPM2_CC_Create ||
        (responseHandles(command.code()) == 1 && !loadsSession && !startsSession))
        ++objects;
    const size_t sessions = loadsSession || startsSession ? 1 : 0;
    if (!fits(Thing::Kind::Object, operation.space, objects, pending_[0]) ||
        !fits(Thing::Kind::Session, operation.space, sessions, pending_[1]))
        return false;
    pending_[0] += objects;
    pending_[1] += sessions;
    return true;
}

void World::run(const Script& batch) {
    if (batch.size() == 1 && batch[0].verb == "PowerCycle") return powerCycle(batch[0]);
    std::vector<std::unique_ptr<Prepared>> sent;
    std::set<size_t> busy;
    pending_ = {};
    for (const Operation& operation : batch) {
        if (operation.verb == "PowerCycle" || operation.space >= kSpaces ||
            busy.contains(operation.space))
            continue;
        auto prepared = prepare(operation);
        if (!prepared || !mayBeSent(*prepared)) continue;
        busy.insert(operation.space);
        if (space_[operation.space]->transmit(prepared->bytes[kShared]) != TSS2_RC_SUCCESS)
            throw std::runtime_error("transmit failed");
        sent.push_back(std::move(prepared));
    }
    // Last come, first served: each waits for the others.
    for (auto prepared = sent.rbegin(); prepared != sent.rend(); ++prepared)
        if (space_[(*prepared)->operation.space]->receive((*prepared)->response[kShared]) !=
            TSS2_RC_SUCCESS)
            throw std::runtime_error("receive failed");
    for (const auto& prepared : sent) exchange(*prepared);
}

void World::exchange(Prepared& prepared) {
    ++commands_;
    try {
        prepared.response[kAlone] = alone(prepared.operation.space).send(prepared.bytes[kAlone]);
        const Two<Bytes> raw = prepared.response;
        try {
            compare(prepared);
        } catch (const Different& difference) {
            std::ostringstream text;
            text << difference.what() << "\n  operation        " << prepared.operation
                 << "\n  command          " << hex(prepared.bytes[kShared])
                 << "\n  to a private TPM " << hex(prepared.bytes[kAlone])
                 << "\n  a space answers  " << hex(raw[kShared]) << "\n  a private TPM    "
                 << hex(raw[kAlone]);
            throw Different(text.str());
        }
        if (rc(prepared.response[kShared]) != 0 || rc(prepared.response[kAlone]) != 0) return;
        ++succeeded_;
        commit(prepared);
        tellOthers(prepared);
        endExclusiveness(prepared);
    } catch (const Different&) {
        throw;
    } catch (const std::exception& problem) {
        std::ostringstream text;
        text << "in operation " << prepared.operation << ": " << problem.what();
        throw std::runtime_error(text.str());
    }
}

// ---- Responses
// -----------------------------------------------------------------------------------

/// A persistent object, and after it an absent one.
bool World::namesAlias(const Prepared& prepared) const {
    const auto& handles = prepared.request[kAlone].command.handles();
    const size_t space = prepared.operation.space;
    for (size_t at = 1; at < handles.size(); ++at)
        if (handles[at] >> 24 == TPM2_HT_TRANSIENT && isPersistent(handles[at - 1]) &&
            byHandle(space, handles[at], kAlone).name == Operand().name)
            return true;
    return false;
}

bool World::isAlias(const Prepared& prepared) const {
    const TPM2_RC code = rc(prepared.response[kShared]);
    return namesAlias(prepared) && code > TPM2_RC_REFERENCE_H0 && code <= TPM2_RC_REFERENCE_H6;
}

/// What the private TPM has made by that has to go again.
void World::undoAlias(const Prepared& prepared) {
    tally_.count(Allowed::PersistentAlias);
    const Bytes& response = prepared.response[kAlone];
    if (rc(response) != TPM2_RC_SUCCESS) return;
    if (responseHandles(prepared.request[kAlone].command.code()) == 1)
        alone(prepared.operation.space).ok(flushContext(handle(response)));
}

Circumstances World::circumstances(const Prepared& prepared) const {
    const Operation& operation = prepared.operation;
    Circumstances is;
    is.code = prepared.request[kAlone].command.code();
    is.determined = prepared.request[kAlone].determined && changed_.empty();
    is.swaps = mode_.swaps;
    is.withSession = std::any_of(prepared.uses[kAlone].begin(), prepared.uses[kAlone].end(),
                                 [](const Use& use) { return use.session != nullptr; });
    is.loaded = sessions(operation.space, false);
    is.saved = sessions(operation.space, true);
    if (is.code == TPM2_CC_GetCapability) {
        for (const Side side : {kAlone, kShared}) {
            Cursor parameters(Command(prepared.request[side].command).parameters());
            is.capability = parameters.u32();
            is.first[side] = parameters.u32();
            is.count = parameters.u32();
        }
    }
    const char* key = operation.has("by") ? "by" : "key";
    for (const Side side : {kShared, kAlone}) {
        if (const auto signer = object(operation, key, side)) is.signer[side] = signer->publicArea;
        is.signed_[side] = Bytes(32, static_cast<uint8_t>(operation.get("data")));
        is.auditDigest[side] = prepared.auditDigest[side];
    }
    return is;
}

void World::compare(Prepared& prepared) {
    auto& [shared, alone] = prepared.response;
    const size_t space = prepared.operation.space;
    if (rc(shared) != rc(alone) && isAlias(prepared)) return undoAlias(prepared);
    if (rc(shared) != rc(alone)) throw Different("the response code");
    if (rc(shared) != TPM2_RC_SUCCESS) {
        if (shared != alone) throw Different("an error response");
        return;
    }
    const TPM2_CC code = prepared.request[kAlone].command.code();
    const bool session = responseHandles(code) == 1 && handle(alone) >> 31 == 0;
    if (responseHandles(code) == 1 && !session && handle(shared) != handle(alone))
        throw Different("the handle");
    if (session) {
        tally_.count(Allowed::SessionNumber);
        if (handle(shared) >> 24 != handle(alone) >> 24) throw Different("the type of the session");
    }
    if (shared.size() != alone.size() && code != TPM2_CC_GetCapability)
        throw Different("the size of the response");
    if (prepared.mangled) return;
    const Circumstances is = circumstances(prepared);
    for (const Side side : {kShared, kAlone}) {
        if (prepared.uses[side].empty()) continue;
        try {
            prepared.response[side] = prepared.exchange[side]->verified(prepared.response[side]);
        } catch (const std::exception& problem) {
            throw Different(std::string(side == kShared ? "the space: " : "the private TPM: ") +
                            problem.what());
        }
    }
    Comparison comparison(relation_[space], tally_, is);
    comparison.parameters(shared, alone);
    if (!prepared.uses[kAlone].empty()) comparison.authorizations(shared, alone);
}

// ---- What success means
// --------------------------------------------------------------------------

void World::end(size_t space, TPM2_HANDLE handle) {
    const bool session = handle >> 31 == 0;
    for (auto& [label, thing] : things_) {
        if (thing.space != space || !thing.owns()) continue;
        const bool same = session
                              ? thing.kind == Thing::Kind::Session &&
                                    ((thing.handle[kAlone] ^ handle) & kIndex) == 0
                              : thing.kind == Thing::Kind::Object && thing.handle[kAlone] == handle;
        if (same) thing.live = thing.saved = false;
    }
}

void World::endSessions(const Prepared& prepared) {
    for (const Use& use : prepared.uses[kAlone]) {
        if (use.session == nullptr) continue;
        if ((use.attributes & TPMA_SESSION_AUDIT) != 0)
            mayBeExclusive_[prepared.operation.space] = true;
        if ((use.attributes & TPMA_SESSION_CONTINUESESSION) == 0)
            end(prepared.operation.space, use.session->handle());
    }
}

/// What a spoilt command has made all the same is of no use. False when it made nothing.
bool World::discard(const Prepared& prepared) {
    const size_t space = prepared.operation.space;
    const TPM2_CC code = prepared.request[kAlone].command.code();
    if (!prepared.mangled) return false;
    if (responseHandles(code) == 1) {
        space_[space]->ok(flushContext(handle(prepared.response[kShared])));
        alone(space).ok(flushContext(handle(prepared.response[kAlone])));
        return true;
    }
    return code == TPM2_CC_Create || code == TPM2_CC_ObjectChangeAuth;
}

void World::commit(Prepared& prepared) {
    const size_t space = prepared.operation.space;
    const Command& command = prepared.request[kAlone].command;
    endSessions(prepared);
    if (discard(prepared)) return;
    switch (command.code()) {
        case TPM2_CC_StartAuthSession:
            return makeSession(prepared);
        case TPM2_CC_ContextSave:
            return makeContext(prepared);
        case TPM2_CC_ContextLoad:
            return loadContext(prepared);
        case TPM2_CC_FlushContext:
            return end(space, Cursor(Command(command).parameters()).u32());
        case TPM2_CC_SequenceComplete:
            return end(space, command.handles()[0]);
        case TPM2_CC_EventSequenceComplete:
            return end(space, command.handles()[1]);
        case TPM2_CC_PolicyAuthValue:
        case TPM2_CC_PolicyPassword:
        case TPM2_CC_PolicyRestart:
        case TPM2_CC_PolicySecret:
            return notePolicy(prepared);
        case TPM2_CC_EvictControl:
            return evicted(prepared);
        case TPM2_CC_Shutdown:
            shutDown_ = prepared.operation.get("type") == TPM2_SU_STATE;
            return;
        case TPM2_CC_Clear:
        case TPM2_CC_ChangePPS:
        case TPM2_CC_ChangeEPS:
        case TPM2_CC_HierarchyControl:
            return flushHierarchies(prepared);
        case TPM2_CC_Create:
        case TPM2_CC_ObjectChangeAuth:
            return make(prepared);
        default:
            if (responseHandles(command.code()) == 1) make(prepared);
    }
}

void World::notePolicy(const Prepared& prepared) {
    const Request& request = prepared.request[kAlone];
    const TPM2_CC code = request.command.code();
    const TPM2_HANDLE named = request.command.handles().back();
    for (auto& [label, thing] : things_) {
        if (thing.kind != Thing::Kind::Session || !thing.live ||
            thing.space != prepared.operation.space || thing.handle[kAlone] != named)
            continue;
        thing.determined = thing.determined && request.determined;
        if (code == TPM2_CC_PolicySecret) return;
        for (Session& session : thing.session) {
            session.authValueNeeded = code == TPM2_CC_PolicyAuthValue;
            session.passwordNeeded = code == TPM2_CC_PolicyPassword;
        }
    }
}

void World::make(Prepared& prepared) {
    const Operation& operation = prepared.operation;
    const TPM2_CC code = prepared.request[kAlone].command.code();
    Thing made;
    made.maker = operation;
    made.space = operation.space;
    made.shape = Shape(operation.get("shape"));
    made.auth = operation.has("auth") ? "w" + std::to_string(operation.get("auth")) : "";
    if (operation.get("auth") == 0) made.auth.clear();
    made.determined = prepared.request[kAlone].determined && changed_.empty();
    const bool child = code == TPM2_CC_Create || code == TPM2_CC_ObjectChangeAuth;
    made.kind = child ? Thing::Kind::Child : Thing::Kind::Object;
    made.live = !child;
    for (const Side side : {kShared, kAlone}) {
        const Bytes& response = prepared.response[side];
        if (child) {
            Cursor fields = parameters(response);
            made.bytes[side] = fields.tpm2b();
            made.publicArea[side] = code == TPM2_CC_Create
                                        ? fields.tpm2b()
                                        : object(operation, "key", side)->publicArea;
            continue;
        }
        made.handle[side] = handle(response);
        Cursor fields = parameters(response, 1);
        switch (code) {
            case TPM2_CC_CreateLoaded:
                fields.tpm2b();
                [[fallthrough]];
            case TPM2_CC_CreatePrimary:
                made.publicArea[side] = fields.tpm2b();
                break;
            case TPM2_CC_Load:
                made.publicArea[side] = thing(operation.get("child"))->publicArea[side];
                break;
            default:
                break;
        }
        made.name[side] = lastName(response);
        if (!made.publicArea[side].empty() && nameOf(made.publicArea[side]) != made.name[side])
            throw Different("the Name is not that of the public area");
    }
    switch (code) {
        case TPM2_CC_CreatePrimary:
            made.hierarchy = kHierarchies[operation.get("hierarchy") & 3];
            break;
        case TPM2_CC_LoadExternal:
            if (made.shape == Shape::External)
                made.hierarchy = kHierarchies[operation.get("hierarchy") & 3];
            else
                made.shape = Shape::ExternalHmac;
            break;
        case TPM2_CC_ObjectChangeAuth:
            made.shape = object(operation, "key", kAlone)->shape;
            break;
        case TPM2_CC_Load: {
            const Thing* from = thing(operation.get("child"));
            made.shape = from->shape;
            made.auth = from->auth;
            [[fallthrough]];
        }
        case TPM2_CC_CreateLoaded:
            made.hierarchy = object(operation, "parent", kAlone)->hierarchy;
            break;
        case TPM2_CC_HashSequenceStart:
            made.shape = operation.get("event") != 0 ? Shape::EventSequence : Shape::HashSequence;
            break;
        case TPM2_CC_HMAC_Start:
            made.shape = Shape::HmacSequence;
            break;
        default:
            break;
    }
    things_[operation.label] = std::move(made);
}

void World::makeSession(Prepared& prepared) {
    const Operation& operation = prepared.operation;
    Thing made;
    made.kind = Thing::Kind::Session;
    made.maker = operation;
    made.space = operation.space;
    made.live = true;
    made.type = static_cast<TPM2_SE>(operation.get("type"));
    made.bound = operation.has("bind");
    made.symmetric = operation.get("symmetric") != 0;
    for (const Side side : {kShared, kAlone}) {
        made.session[side] = prepared.request[side].session;
        made.session[side].started(prepared.response[side], prepared.request[side].start);
        made.handle[side] = made.session[side].handle();
    }
    for (const auto& [label, thing] : things_)
        if (thing.kind == Thing::Kind::Session && thing.owns() &&
            ((thing.handle[kShared] ^ made.handle[kShared]) & kIndex) == 0)
            throw Different("the space gives out a session's number twice");
    things_[operation.label] = std::move(made);
}

void World::makeContext(Prepared& prepared) {
    const Operation& operation = prepared.operation;
    const TPM2_HANDLE named = prepared.request[kAlone].command.handles()[0];
    for (auto& [label, thing] : things_) {
        if (thing.space != operation.space || !thing.live || thing.handle[kAlone] != named)
            continue;
        Thing context;
        context.kind = Thing::Kind::Context;
        context.maker = operation;
        context.space = operation.space;
        context.of = label;
        for (const Side side : {kShared, kAlone})
            context.bytes[side] = test::context(prepared.response[side]);
        if (thing.kind == Thing::Kind::Session) {
            thing.live = false;
            thing.saved = true;
        } else {
            context.portable =
                thing.hierarchy != TPM2_RH_NULL && thing.determined && changed_.empty();
        }
        things_[operation.label] = std::move(context);
        return;
    }
    throw std::logic_error("something was saved that is not known");
}

void World::loadContext(Prepared& prepared) {
    const Operation& operation = prepared.operation;
    const int of = thing(operation.get("context"))->of;
    if (things_[of].kind == Thing::Kind::Session) {
        if (!things_[of].saved) throw Different("a session's context is loaded twice");
        things_[of].live = true;
        things_[of].saved = false;
        return;
    }
    Thing copy = things_[of];
    copy.live = true;
    copy.space = operation.space;
    for (const Side side : {kShared, kAlone}) copy.handle[side] = handle(prepared.response[side]);
    things_[operation.label] = std::move(copy);
}

void World::evicted(const Prepared& prepared) {
    const Operation& operation = prepared.operation;
    const TPM2_HANDLE at = 0x81000000 + static_cast<TPM2_HANDLE>(operation.get("slot"));
    const TPM2_HANDLE named = prepared.request[kAlone].command.handles()[1];
    if (isPersistent(named)) {
        persistent_.erase(at);
        persistentShapes_.erase(at);
        return;
    }
    Persistent made;
    for (const Side side : {kShared, kAlone}) {
        made.operand = *object(operation, "key", side);
        for (size_t space = 0; space < kSpaces; ++space) {
            made.name[space][side] = made.operand.name;
            made.publicArea[space][side] = made.operand.publicArea;
        }
    }
    made.operand.handle = at;
    for (const auto& [label, thing] : things_)
        if (thing.live && thing.space == operation.space && thing.handle[kAlone] == named)
            made.maker = thing.maker;
    persistentShapes_[at] = made.operand.shape;
    persistent_[at] = std::move(made);
}

void World::flushHierarchies(const Prepared& prepared) {
    const Operation& operation = prepared.operation;
    std::set<TPM2_HANDLE> hit;
    if (operation.verb == "Clear") hit = {TPM2_RH_OWNER, TPM2_RH_ENDORSEMENT};
    if (operation.verb == "ChangePps") hit = {TPM2_RH_PLATFORM};
    if (operation.verb == "ChangeEps") hit = {TPM2_RH_ENDORSEMENT};
    if (operation.verb == "HierarchyControl") {
        if (operation.get("on") == 0) hit = {kHierarchies[operation.get("hierarchy") & 3]};
    } else {
        changed_.insert(hit.begin(), hit.end());
        for (auto at = persistent_.begin(); at != persistent_.end();) {
            const bool gone = hit.contains(at->second.operand.hierarchy);
            if (gone) persistentShapes_.erase(at->first);
            at = gone ? persistent_.erase(at) : std::next(at);
        }
    }
    for (auto& [label, thing] : things_)
        if (thing.kind == Thing::Kind::Object && hit.contains(thing.hierarchy)) thing.live = false;
}

// ---- The other spaces' private TPMs
// --------------------------------------------------------------

void World::tellOthers(const Prepared& prepared) {
    const size_t space = prepared.operation.space;
    const Command& command = prepared.plain;
    const TPM2_CC code = command.code();
    if (code == TPM2_CC_EvictControl)
        return eachOther(space, [&](size_t other) { tellEviction(other, prepared); });
    if (code == TPM2_CC_EventSequenceComplete && command.handles()[0] != TPM2_RH_NULL) {
        const Command extend = Command(TPM2_CC_PCR_Extend)
                                   .handle(command.handles()[0])
                                   .password()
                                   .bytes(parameters(prepared.response[kAlone]).rest());
        return eachOther(space, [&](size_t other) { tell(other, extend); });
    }
    if (isShared(code)) eachOther(space, [&](size_t other) { tell(other, command); });
}

void World::tell(size_t space, const Command& command) {
    tally_.count(Allowed::ToldToOthers);
    alone(space).ok(command);
}

/// With one free slot in the private TPM; what sits there is put aside for as long.
void World::withFreeSlot(size_t space, const std::function<void()>& action) {
    if (count(space, Thing::Kind::Object) < kSlots) return action();
    constexpr TPM2_HANDLE last = TPM2_TRANSIENT_FIRST + kSlots - 1;
    const Bytes aside = context(alone(space).ok(contextSave(last)));
    alone(space).ok(flushContext(last));
    action();
    if (handle(alone(space).ok(contextLoad(aside))) != last)
        throw std::logic_error("what was put aside has another handle");
}

void World::tellEviction(size_t space, const Prepared& prepared) {
    const Command& command = prepared.plain;
    const TPM2_HANDLE at = 0x81000000 + static_cast<TPM2_HANDLE>(prepared.operation.get("slot"));
    withFreeSlot(space, [&] {
        if (isPersistent(command.handles()[1])) return tell(space, command);
        Persistent& persistent = persistent_.at(at);
        const Bytes response =
            alone(space).ok(test::request(*this, persistent.maker, kAlone)->command);
        persistent.publicArea[space][kAlone] = parameters(response, 1).tpm2b();
        persistent.name[space][kAlone] = primaryName(response);
        tell(space, evictControl(handle(response), at));
        alone(space).ok(flushContext(handle(response)));
    });
}

void World::endExclusiveness(const Prepared& prepared) {
    if (isContextManagement(prepared.request[kAlone].command.code())) return;
    eachOther(prepared.operation.space, [&](size_t other) {
        if (!mayBeExclusive_[other]) return;
        tally_.count(Allowed::Exclusive);
        alone(other).ok(Command(TPM2_CC_GetTestResult));
        mayBeExclusive_[other] = false;
    });
}

// ---- Power and the end
// ---------------------------------------------------------------------------

/// Of a session that is loaded on a private TPM; where it is on the other must not matter. Or of
/// one that its client has saved: true if it is flushed.
bool World::flushAfterShutdown(const Operation& operation) {
    const auto shared = session(operation, "flush", kShared);
    const auto alone = session(operation, "flush", kAlone);
    if (!operation.has("flush") || !shared || !alone) return false;
    const Thing* flushed = thing(operation.get("flush"));
    const bool saved = flushed != nullptr && flushed->saved;
    const TPM2_RC code = rc(this->alone(operation.space).send(flushContext(*alone)));
    if (rc(space_[operation.space]->send(flushContext(*shared))) != code)
        throw Different("FlushContext after Shutdown");
    if (code == TPM2_RC_SUCCESS) end(operation.space, *alone);
    return saved && code == TPM2_RC_SUCCESS;
}

/// A saved session that was flushed between Shutdown(STATE) and Startup: there again, on both
/// sides, but in the lists of a private TPM only. Loaded, it can be flushed for good.
void World::flushAgain(const Operation& operation) {
    tally_.count(Allowed::FlushedIsBack);
    const int session = static_cast<int>(operation.get("flush"));
    const Thing* context = nullptr;  // the last, as those before it are void
    for (const auto& [label, thing] : things_)
        if (thing.kind == Thing::Kind::Context && thing.of == session) context = &thing;
    for (const Side side : {kShared, kAlone}) {
        Client& client = side == kShared ? *space_[operation.space] : alone(operation.space);
        const size_t expected = sessions(operation.space, true)[side].size();
        if (handles(client, TPM2_ACTIVE_SESSION_FIRST).size() !=
            (side == kAlone ? expected + 1 : expected))
            throw Different("the list of saved sessions after one was flushed after Shutdown");
        const Bytes response = client.send(contextLoad(context->bytes[side]));
        if (rc(response) != TPM2_RC_SUCCESS || handle(response) != thing(session)->handle[side])
            throw Different("a saved session that was flushed after Shutdown is not there again");
        client.ok(flushContext(handle(response)));
    }
}

/// The first use of a protected authorisation after a start is answered with TPM_RC_RETRY, once in
/// a TPM. It is out of the way after this; and so are the failures against lockout: power that goes
/// without Shutdown is one, and after three the answer would be TPM_RC_LOCKOUT.
void World::useProtected(Client& client) {
    tally_.count(Allowed::Protected);
    client.ok(Command(TPM2_CC_DictionaryAttackLockReset).handle(TPM2_RH_LOCKOUT).password());
    const TPM2_HANDLE key = handle(client.ok(loadExternalEcc()));
    if (rc(client.send(certify(key, TPM2_RH_NULL))) != TPM2_RC_RETRY)
        throw std::logic_error("the first use of a protected authorisation is not retried");
    client.ok(flushContext(key));
}

void World::powerCycle(const Operation& operation) {
    const size_t space = operation.space;
    ++commands_;
    const auto both = [&](const Command& command) {
        const Bytes shared = space_[space]->send(command), private_ = alone(space).send(command);
        if (shared != private_)
            throw Different("power cycle: " + hex(command) + " is answered " + hex(shared) +
                            ", by a private TPM " + hex(private_));
        return rc(shared);
    };
    const bool orderly = operation.has("shutdown");
    if (!orderly && shutDown_) return tally_.count(Allowed::PowerLostAfterShutdown);
    const auto type = static_cast<TPM2_SU>(operation.get("shutdown"));
    if (orderly && both(shutdown(type)) == 0)
        eachOther(space, [&](size_t other) { tell(other, shutdown(type)); });
    const bool flushedSaved = flushAfterShutdown(operation);
    sharedTpm_->reset(AfterReset::none);
    for (const auto& tpm : privateTpm_) tpm->reset(AfterReset::none);
    if (both(getRandom()) != TPM2_RC_INITIALIZE) throw Different("not started, and answers");
    const bool state = orderly && type == TPM2_SU_STATE;
    const TPM2_SU start = state && operation.has("resume") ? TPM2_SU_STATE : TPM2_SU_CLEAR;
    restarted_ = state && (restarted_ || start == TPM2_SU_CLEAR);
    if (both(startup(start)) != 0) throw Different("Startup fails");
    eachOther(space, [&](size_t other) { tell(other, startup(start)); });
    for (auto& [label, thing] : things_) {
        thing.live = false;
        if (!state) thing.saved = false;
    }
    useProtected(*space_[space]);
    for (size_t each = 0; each < kSpaces; ++each) useProtected(alone(each));
    if (flushedSaved && state) flushAgain(operation);
    mayBeExclusive_ = {};
    shutDown_ = false;
}

void World::finish() {
    std::vector<TPM2_HANDLE> expected;
    for (const auto& [label, thing] : things_)
        if (thing.kind == Thing::Kind::Session && thing.saved)
            expected.push_back(TPM2_HMAC_SESSION_FIRST + (thing.handle[kShared] & kIndex));
    std::sort(expected.begin(), expected.end());
    for (auto& space : space_) space->close();
    Client bare = Client::bare(*sharedTpm_);
    std::string text;
    for (const TPM2_HANDLE first : {TPM2_TRANSIENT_FIRST, TPM2_LOADED_SESSION_FIRST})
        for (const TPM2_HANDLE handle : handles(bare, first)) text += " " + hex(handle);
    if (!text.empty()) throw Different("left in the TPM by spaces that closed:" + text);
    if (handles(bare, TPM2_ACTIVE_SESSION_FIRST) != expected)
        throw Different("other sessions than those that clients saved are left in the TPM");
}

}  // namespace spaces::test
