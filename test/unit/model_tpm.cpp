// SPDX-License-Identifier: BSD-2-Clause
// The model of a TPM; see model_tpm.h.
#include "unit/model_tpm.h"

#include <gtest/gtest.h>
#include <tss2/tss2_tctildr.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "wire/capability.h"
#include "wire/command.h"
#include "wire/command_table.h"
#include "wire/context.h"
#include "wire/handle.h"
#include "wire/response.h"

namespace spaces::test {
namespace {

constexpr TPM2_RC kBadContext = TPM2_RC_INTEGRITY + TPM2_RC_P + TPM2_RC_1;
constexpr TPM2_RC kDisabledContext = TPM2_RC_HIERARCHY + TPM2_RC_P + TPM2_RC_1;
constexpr TPM2_RC kBadHandle = TPM2_RC_HANDLE + TPM2_RC_P + TPM2_RC_1;
constexpr TPM2_RC kBadValue = TPM2_RC_VALUE + TPM2_RC_P + TPM2_RC_1;

/// What a name, a sequence's data or a policy may be, so that every response has room for two.
constexpr size_t kMostContent = 1024;

int inside = 0;

struct Inside {
    Inside() { ++inside; }
    ~Inside() { --inside; }
};

std::map<std::string, ModelTpm*>& models() {
    static std::map<std::string, ModelTpm*> all;
    return all;
}

uint64_t digest(const Bytes& bytes) {
    uint64_t value = 0xCBF29CE484222325;  // FNV-1a
    for (const uint8_t octet : bytes) value = (value ^ octet) * 0x100000001B3;
    return value;
}

/// The TPM2Bs that parameters are, one after the other; a cut one is what is there of it.
Bytes takeTpm2b(const Bytes& parameters, size_t& at) {
    if (at + 2 > parameters.size()) return {};
    const size_t size = std::min<size_t>(wire::get16(&parameters[at]), parameters.size() - at - 2);
    const auto begin = parameters.begin() + static_cast<ptrdiff_t>(at + 2);
    at += 2 + size;
    return Bytes(begin, begin + static_cast<ptrdiff_t>(size));
}

/// Makes more of what a sequence or session is.
Packet grow(Bytes& content, const Bytes& more) {
    if (content.size() + more.size() > kMostContent)
        return response(wire::forParameter(TPM2_RC_SIZE, 0));
    append(content, more);
    return response();
}

/// How many octets of parameters the model looks at without a length before them.
size_t fixedSize(TPM2_CC code) {
    switch (code) {
        case TPM2_CC_HierarchyControl:
            return 5;
        case TPM2_CC_FlushContext:
            return 4;
        case TPM2_CC_Startup:
        case TPM2_CC_Shutdown:
            return 2;
        default:
            return 0;
    }
}

/// The position of the handle that has to be a session; nothing if none has.
std::optional<size_t> sessionPosition(TPM2_CC code) {
    switch (code) {
        case TPM2_CC_PolicyCommandCode:
        case TPM2_CC_PolicyGetDigest:
            return 0;
        case TPM2_CC_PolicySecret:
            return 1;
        case TPM2_CC_GetSessionAuditDigest:
            return 2;
        default:
            return std::nullopt;
    }
}

bool isMoveCode(TPM2_CC code) {
    return code == TPM2_CC_ContextSave || code == TPM2_CC_ContextLoad ||
           code == TPM2_CC_FlushContext;
}

}  // namespace

bool isMove(const Packet& command) { return isMoveCode(wire::get32(&command.all()[6])); }

ModelTpm::ModelTpm(std::string name, const Size& size) : name_(std::move(name)), size_(size) {
    EXPECT_TRUE(models().emplace(name_, this).second);
}

ModelTpm::~ModelTpm() {
    EXPECT_FALSE(open_) << "the child was not closed";
    models().erase(name_);
}

bool ModelTpm::atWork() { return inside > 0; }

std::vector<Packet> ModelTpm::takeSent() { return std::exchange(log_, {}); }

// ---- The child TCTI

TSS2_RC ModelTpm::load(const char* name, TSS2_TCTI_CONTEXT** context) {
    const Inside here;
    const auto found = models().find(name);
    if (found == models().end()) return TSS2_TCTI_RC_NOT_SUPPORTED;
    ModelTpm& tpm = *found->second;
    tpm.open_ = true;
    tpm.context_.common = {{0, 2, transmit, receive, nullptr, cancel, nullptr, setLocality},
                           nullptr};
    tpm.context_.tpm = &tpm;
    *context = reinterpret_cast<TSS2_TCTI_CONTEXT*>(&tpm.context_);
    return TSS2_RC_SUCCESS;
}

void ModelTpm::unload(TSS2_TCTI_CONTEXT** context) {
    of(*context).open_ = of(*context).pending_ = false;
    *context = nullptr;
}

ModelTpm& ModelTpm::of(TSS2_TCTI_CONTEXT* context) {
    return *reinterpret_cast<Context*>(context)->tpm;
}

TSS2_RC ModelTpm::transmit(TSS2_TCTI_CONTEXT* context, size_t size, const uint8_t* bytes) {
    const Inside here;
    ModelTpm& tpm = of(context);
    EXPECT_FALSE(tpm.pending_) << "a second command";
    const Packet command(Bytes(bytes, bytes + size));
    tpm.log_.push_back(command);
    ++tpm.sent;
    if (tpm.whileTransmitting) tpm.whileTransmitting();
    const Fate fate = tpm.fate ? tpm.fate(command) : Fate{};
    if (fate.transmitFails != TSS2_RC_SUCCESS) return fate.transmitFails;
    tpm.receiveCode_ = fate.receiveFails;
    tpm.response_ =
        fate.code != TPM2_RC_SUCCESS ? response(fate.code).all() : tpm.execute(command.all()).all();
    tpm.pending_ = true;
    return TSS2_RC_SUCCESS;
}

TSS2_RC ModelTpm::receive(TSS2_TCTI_CONTEXT* context, size_t* size, uint8_t* response, int32_t) {
    const Inside here;
    ModelTpm& tpm = of(context);
    EXPECT_TRUE(tpm.pending_) << "there is no response to receive";
    if (tpm.notYet && tpm.notYet(tpm.log_.back())) return TSS2_TCTI_RC_TRY_AGAIN;
    tpm.pending_ = false;
    if (tpm.receiveCode_ != TSS2_RC_SUCCESS) return tpm.receiveCode_;
    std::copy(tpm.response_.begin(), tpm.response_.end(), response);
    *size = tpm.response_.size();
    return TSS2_RC_SUCCESS;
}

// ---- The checks before a command is executed (Part 3, 5 "Command processing")

Packet ModelTpm::execute(Bytes bytes) {
    wire::Command command(bytes);
    if (!command.hasCommandTag()) return response(TPM2_RC_BAD_TAG).tag(TPM2_ST_RSP_COMMAND);
    const auto attributes = wire::findCommand(command.code());
    if (!attributes) return response(TPM2_RC_COMMAND_CODE);
    if (!started_ && command.code() != TPM2_CC_Startup) return response(TPM2_RC_INITIALIZE);
    const size_t handles = attributes->handles;
    if (const TPM2_RC code = checkHandles(command, handles)) return response(code);
    if (const TPM2_RC code = checkSessions(command, handles)) return response(code);
    const wire::MutableBytes parameters = command.parameters(handles);
    if (parameters.size() < fixedSize(command.code()))
        return response(wire::forParameter(TPM2_RC_INSUFFICIENT, 0));
    const Packet answer = act(command, Bytes(parameters.begin(), parameters.end()));
    if (wire::get32(&answer.all()[6]) != TPM2_RC_SUCCESS) return answer;
    for (const wire::Authorization& entry : command.authorizations(handles))
        if (wire::isSession(entry.handle) && !entry.continueSession)
            sessions_.erase(wire::indexOf(entry.handle));
    return answer;
}

TPM2_RC ModelTpm::checkHandles(wire::Command& command, size_t count) {
    persistent_ = 0;
    const size_t present = command.handlesPresent(count);
    for (size_t i = 0; i < present; ++i) {
        const TPM2_HANDLE handle = command.handle(i);
        if (wire::isTransient(handle) && wire::indexOf(handle) >= size_.objects)
            return wire::forHandle(TPM2_RC_VALUE, i);
        if (wire::isSession(handle) && wire::indexOf(handle) >= size_.active)
            return wire::forHandle(TPM2_RC_VALUE, i);
        if (!hasRightType(command.code(), i, handle)) return wire::forHandle(TPM2_RC_VALUE, i);
    }
    if (present < count) return wire::forHandle(TPM2_RC_INSUFFICIENT, present);
    for (size_t i = 0; i < count; ++i) {
        const TPM2_HANDLE handle = command.handle(i);
        const auto absent = TPM2_RC_REFERENCE_H0 + static_cast<TPM2_RC>(i);
        if (wire::isTransient(handle) && find(handle) == nullptr) return absent;
        if (wire::isSession(handle) && findLoaded(handle) == nullptr) return absent;
        if (wire::isSession(handle) && findLoaded(handle)->handle != handle)
            return wire::forHandle(TPM2_RC_HANDLE, i);
        if (disabled_.contains(handle)) return wire::forHandle(TPM2_RC_HIERARCHY, i);
        if (!wire::isPersistent(handle)) continue;
        if (!roomForObject()) return TPM2_RC_OBJECT_MEMORY;
        ++persistent_;
    }
    return TPM2_RC_SUCCESS;
}

/// As far as what the model does with it depends on it.
bool ModelTpm::hasRightType(TPM2_CC code, size_t position, TPM2_HANDLE handle) const {
    if (sessionPosition(code) == position) return wire::isSession(handle);
    switch (code) {
        case TPM2_CC_CreatePrimary:
            return wire::baseHierarchy(handle) != 0;
        case TPM2_CC_SequenceUpdate:
        case TPM2_CC_SequenceComplete:
            return wire::isTransient(handle);
        case TPM2_CC_ContextSave:
            return wire::isTransient(handle) || wire::isSession(handle);
        default:
            return true;
    }
}

TPM2_RC ModelTpm::checkSessions(wire::Command& command, size_t handles) {
    if (!command.hasSessions()) return TPM2_RC_SUCCESS;
    if (command.size() < wire::kHeaderSize + handles * wire::kHandleSize + 4)
        return TPM2_RC_INSUFFICIENT;
    if (isMoveCode(command.code())) return TPM2_RC_AUTH_CONTEXT;
    const wire::AuthorizationArea area = command.authorizations(handles);
    if (area.count == 0) return TPM2_RC_AUTHSIZE;
    for (size_t i = 0; i < area.count; ++i) {
        const TPM2_HANDLE handle = area.entries[i].handle;
        if (area.entries[i].defect != TPM2_RC_SUCCESS)
            return wire::forSession(area.entries[i].defect, i);
        if (handle == TPM2_RS_PW) continue;
        if (!wire::isSession(handle) || wire::indexOf(handle) >= size_.active)
            return wire::forSession(TPM2_RC_VALUE, i);
        if (findLoaded(handle) == nullptr) return TPM2_RC_REFERENCE_S0 + static_cast<TPM2_RC>(i);
        if (findLoaded(handle)->handle != handle) return wire::forSession(TPM2_RC_HANDLE, i);
    }
    return TPM2_RC_SUCCESS;
}

// ---- Commands

Packet ModelTpm::act(wire::Command& command, const Bytes& parameters) {
    const TPM2_CC code = command.code();
    const size_t handles = wire::findCommand(code)->handles;
    const TPM2_HANDLE first = handles > 0 ? command.handle(0) : 0;
    size_t at = 0;
    switch (code) {
        case TPM2_CC_CreatePrimary:
            takeTpm2b(parameters, at);
            return makeObject({takeTpm2b(parameters, at), first, false});
        case TPM2_CC_Load:
            takeTpm2b(parameters, at);
            return makeObject({takeTpm2b(parameters, at),
                               find(first) ? find(first)->hierarchy : TPM2_RH_OWNER, false});
        case TPM2_CC_Create:
            if (!roomForObject()) return response(TPM2_RC_OBJECT_MEMORY);
            return response().tpm2b(bytes("created"));
        case TPM2_CC_HashSequenceStart:
            return makeObject({{}, TPM2_RH_NULL, true});
        case TPM2_CC_SequenceUpdate:
            if (!find(first)->sequence) return response(wire::forParameter(TPM2_RC_MODE, 0));
            return grow(find(first)->content, takeTpm2b(parameters, at));
        case TPM2_CC_SequenceComplete: {
            if (!find(first)->sequence) return response(wire::forHandle(TPM2_RC_MODE, 0));
            const Bytes content = contentOf(first);
            objects_.erase(wire::indexOf(first));
            return response().tpm2b(content);
        }
        case TPM2_CC_ReadPublic:
        case TPM2_CC_Unseal:
            return response().tpm2b(contentOf(first));
        case TPM2_CC_Certify:
            return response().tpm2b(contentOf(first)).tpm2b(contentOf(command.handle(1)));
        case TPM2_CC_StartAuthSession:
            return startSession(parameters);
        case TPM2_CC_PolicyCommandCode:
            return grow(findLoaded(first)->policy, parameters);
        case TPM2_CC_PolicyGetDigest:
            return response().tpm2b(findLoaded(first)->policy);
        case TPM2_CC_PolicySecret:
            return response().tpm2b(findLoaded(command.handle(1))->policy);
        case TPM2_CC_GetSessionAuditDigest:
            return response().tpm2b(findLoaded(command.handle(2))->policy);
        case TPM2_CC_ContextSave:
            return save(first);
        case TPM2_CC_ContextLoad:
            return load(wire::Context(parameters));
        case TPM2_CC_FlushContext:
            return flush(wire::get32(parameters.data()));
        default:
            return actOnHierarchies(code, parameters);
    }
}

Packet ModelTpm::actOnHierarchies(TPM2_CC code, const Bytes& parameters) {
    switch (code) {
        case TPM2_CC_Clear:
            flushHierarchy(TPM2_RH_OWNER, true);
            flushHierarchy(TPM2_RH_ENDORSEMENT, true);
            disabled_.erase(TPM2_RH_OWNER);
            disabled_.erase(TPM2_RH_ENDORSEMENT);
            break;
        case TPM2_CC_ChangePPS:
            flushHierarchy(TPM2_RH_PLATFORM, true);
            break;
        case TPM2_CC_ChangeEPS:
            flushHierarchy(TPM2_RH_ENDORSEMENT, true);
            disabled_.erase(TPM2_RH_ENDORSEMENT);
            break;
        case TPM2_CC_HierarchyControl: {
            const TPM2_HANDLE hierarchy = wire::get32(parameters.data());
            if (hierarchy != TPM2_RH_OWNER && hierarchy != TPM2_RH_ENDORSEMENT &&
                hierarchy != TPM2_RH_PLATFORM)
                return response(kBadValue);
            if (parameters[4] == TPM2_YES) {
                disabled_.erase(hierarchy);
            } else {
                disabled_.insert(hierarchy);
                flushHierarchy(hierarchy, false);
            }
            break;
        }
        case TPM2_CC_Startup:
            return start(wire::get16(parameters.data()));
        case TPM2_CC_Shutdown:
            orderly_ = wire::get16(parameters.data()) == TPM2_SU_STATE;
            sessionsAtShutdown_ = sessions_;
            break;
        case TPM2_CC_GetCapability:
            return list(parameters);
        default:
            break;
    }
    return response();
}

Packet ModelTpm::makeObject(const Object& object) {
    if (object.content.size() > kMostContent) return response(wire::forParameter(TPM2_RC_SIZE, 0));
    if (!roomForObject()) return response(TPM2_RC_OBJECT_MEMORY);
    // The command's persistent objects are in the lowest slots for as long.
    uint32_t slot = 0;
    for (size_t taken = persistent_; objects_.contains(slot) || taken-- > 0;) ++slot;
    objects_.emplace(slot, object);
    return response().handle(TPM2_TRANSIENT_FIRST + slot).tpm2b(object.content);
}

Packet ModelTpm::startSession(const Bytes& parameters) {
    if (loadedSessions() >= size_.sessions) return response(TPM2_RC_SESSION_MEMORY);
    if (gapReached() && isLastSessionSlot()) return response(TPM2_RC_CONTEXT_GAP);
    if (sessions_.size() >= size_.active) return response(TPM2_RC_SESSION_HANDLES);
    uint32_t index = 0;
    while (sessions_.contains(index)) ++index;
    size_t at = 0;
    takeTpm2b(parameters, at);
    takeTpm2b(parameters, at);
    const bool policy = at < parameters.size() && parameters[at] != TPM2_SE_HMAC;  // or trial
    const TPM2_HANDLE first = policy ? TPM2_POLICY_SESSION_FIRST : TPM2_HMAC_SESSION_FIRST;
    sessions_.emplace(index, Session{first + index, {}});
    return response().handle(first + index).tpm2b(Bytes(16));
}

// ---- Contexts

Bytes ModelTpm::seal(uint64_t sequence, TPM2_HANDLE saved, TPM2_HANDLE hierarchy,
                     const Bytes& content) {
    Bytes bytes;
    append(bytes, sequence, 8);
    append(bytes, saved, 4);
    append(bytes, hierarchy, 4);
    Bytes covered = bytes;
    append(covered, proofs_[hierarchy], 8);
    append(covered, content);
    Bytes blob;
    append(blob, digest(covered), 8);
    append(blob, content);
    appendTpm2b(bytes, blob);
    return bytes;
}

Packet ModelTpm::save(TPM2_HANDLE handle) {
    ++saves;
    if (const Object* object = find(handle)) {
        orderly_ = false;
        return response().raw(seal(++objectSequence_,
                                   object->sequence ? wire::kSavedSequence : TPM2_TRANSIENT_FIRST,
                                   object->hierarchy, object->content));
    }
    if (gapReached()) return response(TPM2_RC_CONTEXT_GAP);
    orderly_ = false;
    Session& session = *findLoaded(handle);
    session.saved = ++sessionSequence_;
    return response().raw(seal(session.saved, session.handle, TPM2_RH_NULL, session.policy));
}

Packet ModelTpm::load(const wire::Context& context) {
    constexpr size_t kContentAt = 26;  // behind the digest
    if (context.bytes().size() < kContentAt) return response(TPM2_RC_SIZE + TPM2_RC_P + TPM2_RC_1);
    const Bytes given(context.bytes().begin(), context.bytes().end());
    const Bytes content(given.begin() + kContentAt, given.end());
    const TPM2_HANDLE saved = context.savedHandle(), hierarchy = context.hierarchy();
    if (seal(context.sequence(), saved, hierarchy, content) != given) return response(kBadContext);
    if (!wire::isSession(saved)) {
        if (disabled_.contains(hierarchy)) return response(kDisabledContext);
        Packet answer = makeObject({content, hierarchy, saved == wire::kSavedSequence});
        return answer.cut(std::min<size_t>(answer.length(), 14));
    }
    orderly_ = false;  // even if it is refused now
    const auto found = sessions_.find(wire::indexOf(saved));
    if (found == sessions_.end() || found->second.saved != context.sequence())
        return response(kBadHandle);
    if (loadedSessions() >= size_.sessions) return response(TPM2_RC_SESSION_MEMORY);
    if (gapReached() && isLastSessionSlot() && context.sequence() != oldest())
        return response(TPM2_RC_CONTEXT_GAP);
    found->second.saved = 0;
    return response().handle(saved);
}

/// Of handles; no TPM has fewer of anything else.
Packet ModelTpm::list(const Bytes& parameters) const {
    const wire::CapabilityQuery query = wire::readCapabilityQuery(parameters);
    std::vector<TPM2_HANDLE> handles;
    bool more = false;
    const auto add = [&](TPM2_HANDLE handle) {
        if (wire::indexOf(handle) < wire::indexOf(query.property)) return;
        more = handles.size() >= query.count;
        if (!more) handles.push_back(handle);
    };
    if (query.capability != TPM2_CAP_HANDLES) return handleList({});
    const TPM2_HANDLE kind = wire::typeOf(query.property);
    if (kind == TPM2_TRANSIENT_FIRST)
        for (const auto& [slot, object] : objects_) add(TPM2_TRANSIENT_FIRST + slot);
    for (const auto& [index, session] : sessions_) {
        if (kind == TPM2_LOADED_SESSION_FIRST && session.saved == 0) add(session.handle);
        if (kind == TPM2_ACTIVE_SESSION_FIRST && session.saved != 0)
            add(TPM2_HMAC_SESSION_FIRST + index);
    }
    return handleList(handles, more);
}

Packet ModelTpm::flush(TPM2_HANDLE handle) {
    if (wire::isTransient(handle)) {
        if (wire::indexOf(handle) >= size_.objects) return response(kBadValue);
        return response(objects_.erase(wire::indexOf(handle)) ? TPM2_RC_SUCCESS : kBadHandle);
    }
    if (!wire::isSession(handle) || wire::indexOf(handle) >= size_.active)
        return response(kBadValue);
    return response(sessions_.erase(wire::indexOf(handle)) ? TPM2_RC_SUCCESS : kBadHandle);
}

// ---- Power and hierarchies

Packet ModelTpm::start(TPM2_SU type) {
    if (started_) return response(TPM2_RC_INITIALIZE);
    if (type == TPM2_SU_STATE && !orderly_) return response(kBadValue);
    started_ = true;
    // What was flushed after Shutdown is there again: only Shutdown writes to NV.
    sessions_ = sessionsAtShutdown_;
    std::erase_if(sessions_, [](const auto& entry) { return entry.second.saved == 0; });
    if (!orderly_) {
        sessions_.clear();
        for (const TPM2_HANDLE hierarchy :
             {TPM2_RH_OWNER, TPM2_RH_ENDORSEMENT, TPM2_RH_PLATFORM, TPM2_RH_NULL})
            ++proofs_[hierarchy];
    }
    orderly_ = false;
    if (type == TPM2_SU_CLEAR) disabled_.clear();
    return response();
}

void ModelTpm::powerCycle() {
    started_ = false;
    objects_.clear();
    std::erase_if(sessions_, [](const auto& entry) { return entry.second.saved == 0; });
}

void ModelTpm::restartBehind() {
    powerCycle();
    orderly_ = false;
    start(TPM2_SU_CLEAR);
}

void ModelTpm::flushHierarchy(TPM2_HANDLE hierarchy, bool newProof) {
    std::erase_if(objects_, [&](const auto& e) { return e.second.hierarchy == hierarchy; });
    if (newProof) ++proofs_[hierarchy];
}

void ModelTpm::flushBehind(TPM2_HANDLE handle) { flush(handle); }

// ---- What is in it

ModelTpm::Object* ModelTpm::find(TPM2_HANDLE object) {
    if (!wire::isTransient(object)) return nullptr;
    const auto found = objects_.find(wire::indexOf(object));
    return found == objects_.end() ? nullptr : &found->second;
}

ModelTpm::Session* ModelTpm::findLoaded(TPM2_HANDLE session) {
    const auto found = sessions_.find(wire::indexOf(session));
    if (!wire::isSession(session) || found == sessions_.end()) return nullptr;
    return found->second.saved == 0 ? &found->second : nullptr;
}

Bytes ModelTpm::contentOf(TPM2_HANDLE object) {
    const Object* found = find(object);
    return found != nullptr ? found->content : bytes("persistent");
}

size_t ModelTpm::loadedSessions() const {
    return static_cast<size_t>(std::count_if(sessions_.begin(), sessions_.end(),
                                             [](const auto& e) { return e.second.saved == 0; }));
}

uint64_t ModelTpm::oldest() const {
    uint64_t sequence = 0;
    for (const auto& [index, session] : sessions_)
        if (session.saved != 0 && (sequence == 0 || session.saved < sequence))
            sequence = session.saved;
    return sequence;
}

bool ModelTpm::gapReached() const {
    return oldest() != 0 && sessionSequence_ + 1 - oldest() >= size_.gap;
}

}  // namespace spaces::test
