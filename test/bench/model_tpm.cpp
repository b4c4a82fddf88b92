// SPDX-License-Identifier: BSD-2-Clause
// A TPM that is only its slots; see model_tpm.h.
#include "bench/model_tpm.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "wire/bytes.h"
#include "wire/command.h"
#include "wire/context.h"
#include "wire/handle.h"
#include "wire/response.h"

namespace spaces::bench {
namespace {

ModelTpm* current = nullptr;

uint32_t parameterAt(const uint8_t* command, size_t offset) {
    return wire::get32(command + wire::kHeaderSize + offset);
}

/// What stands in front of a context's blob.
void putContextHead(uint8_t* at, uint64_t sequence, TPM2_HANDLE saved_handle, size_t blob) {
    wire::put32(at, static_cast<uint32_t>(sequence >> 32));
    wire::put32(at + 4, static_cast<uint32_t>(sequence));
    wire::put32(at + 8, saved_handle);
    wire::put32(at + 12, TPM2_RH_NULL);
    wire::put16(at + 16, static_cast<uint16_t>(blob));
}

}  // namespace

ModelTpm::ModelTpm() {
    if (current != nullptr) throw std::logic_error("a second ModelTpm");
    current = this;
    common_ = {0x6d6f64656c, 1, transmit, receive, nullptr, nullptr, nullptr, nullptr};
}

ModelTpm::~ModelTpm() { current = nullptr; }

TSS2_RC ModelTpm::transmit(TSS2_TCTI_CONTEXT* context, size_t, const uint8_t* command) {
    ModelTpm& tpm = *reinterpret_cast<ModelTpm*>(context);
    ++tpm.commands_;
    tpm.execute(command);
    return TSS2_RC_SUCCESS;
}

TSS2_RC ModelTpm::receive(TSS2_TCTI_CONTEXT* context, size_t* size, uint8_t* response, int32_t) {
    const ModelTpm& tpm = *reinterpret_cast<ModelTpm*>(context);
    *size = tpm.responseSize_;
    if (response != nullptr) memcpy(response, tpm.response_.data(), *size);
    return TSS2_RC_SUCCESS;
}

void ModelTpm::execute(const uint8_t* command) {
    const TPM2_CC code = wire::get32(command + 6);
    switch (code) {
        case TPM2_CC_Load:
            if (findLoaded(parameterAt(command, 0)) == nullptr) return answer(TPM2_RC_REFERENCE_H0);
            return makeObject(false);
        case TPM2_CC_LoadExternal:
            return makeObject(false);
        case TPM2_CC_HashSequenceStart:
            return makeObject(true);
        case TPM2_CC_StartAuthSession:
            return makeSession();
        case TPM2_CC_HMAC:
        case TPM2_CC_Certify:
        case TPM2_CC_SequenceUpdate:
        case TPM2_CC_PolicyRestart:
            return use(command, code);
        case TPM2_CC_FlushContext:
            return flush(parameterAt(command, 0));
        case TPM2_CC_ContextSave:
            return save(parameterAt(command, 0));
        case TPM2_CC_ContextLoad:
            return load(command + wire::kHeaderSize);
        default:
            return answer(TPM2_RC_COMMAND_CODE);
    }
}

void ModelTpm::makeObject(bool sequence) {
    Thing* slot = freeSlot();
    if (slot == nullptr) return answer(TPM2_RC_OBJECT_MEMORY);
    *slot = {Place::None, sequence, {++serials_, 0}, 0};
    setPlace(*slot, Place::Loaded);
    answerHandle(TPM2_TRANSIENT_FIRST + static_cast<TPM2_HANDLE>(slot - objects_.data()));
}

void ModelTpm::makeSession() {
    if (loadedSessions() == kSessionSlots) return answer(TPM2_RC_SESSION_MEMORY);
    const auto free = std::find_if(sessions_.begin(), sessions_.end(),
                                   [](const Thing& s) { return s.place == Place::None; });
    if (free == sessions_.end()) return answer(TPM2_RC_SESSION_HANDLES);
    *free = {Place::None, false, {++serials_, 0}, 0};
    setPlace(*free, Place::Loaded);
    answerHandle(TPM2_POLICY_SESSION_FIRST + static_cast<TPM2_HANDLE>(free - sessions_.begin()));
}

/// Sequences and sessions change when they are used, other objects do not.
void ModelTpm::use(const uint8_t* command, TPM2_CC code) {
    const unsigned handles = code == TPM2_CC_Certify ? 2 : 1;
    for (unsigned i = 0; i < handles; i++)
        if (findLoaded(parameterAt(command, 4 * i)) == nullptr)
            return answer(TPM2_RC_REFERENCE_H0 + i);
    Thing& thing = *findLoaded(parameterAt(command, 0));
    const bool session = wire::isSession(parameterAt(command, 0));
    if (session || thing.sequence) ++thing.used.changes;

    const bool authorized = wire::get16(command) == TPM2_ST_SESSIONS;
    uint8_t* at = &response_[wire::kHeaderSize];
    if (authorized) {
        wire::put32(at, 10);
        at += 4;
    }
    wire::put16(at, 8);
    wire::put32(at + 2, thing.used.serial);
    wire::put32(at + 6, thing.used.changes);
    at += 10;
    for (unsigned i = 0; authorized && i < handles; i++) {
        const uint8_t acknowledged[5] = {0, 0, TPMA_SESSION_CONTINUESESSION, 0, 0};
        at = std::copy(std::begin(acknowledged), std::end(acknowledged), at);
    }
    responseSize_ = static_cast<size_t>(at - response_.data());
    wire::putHeader(response_.data(), wire::get16(command), responseSize_, TPM2_RC_SUCCESS);
}

void ModelTpm::flush(TPM2_HANDLE handle) {
    Thing* thing = findLoaded(handle);
    if (thing == nullptr && wire::isSession(handle) && wire::indexOf(handle) < kSessions &&
        sessions_[wire::indexOf(handle)].place == Place::Saved)
        thing = &sessions_[wire::indexOf(handle)];
    if (thing == nullptr) return answer(wire::forParameter(TPM2_RC_HANDLE, 0));
    setPlace(*thing, Place::None);
    answer(TPM2_RC_SUCCESS);
}

void ModelTpm::save(TPM2_HANDLE handle) {
    Thing* thing = findLoaded(handle);
    if (thing == nullptr) return answer(TPM2_RC_REFERENCE_H0);
    const bool session = wire::isSession(handle);
    const size_t blob = session ? kSessionBlob : kObjectBlob;
    responseSize_ = wire::kHeaderSize + kContextHead + blob;
    uint8_t* context = &response_[wire::kHeaderSize];
    const TPM2_HANDLE kind = thing->sequence ? wire::kSavedSequence : TPM2_TRANSIENT_FIRST;
    putContextHead(context, ++saves_, session ? handle : kind, blob);
    memset(context + kContextHead, 0, blob);
    memcpy(context + kContextHead, &thing->used, sizeof thing->used);
    if (session) {
        thing->saved = saves_;
        setPlace(*thing, Place::Saved);
    }
    wire::putHeader(response_.data(), TPM2_ST_NO_SESSIONS, responseSize_, TPM2_RC_SUCCESS);
}

void ModelTpm::load(const uint8_t* context) {
    Used used;
    memcpy(&used, context + kContextHead, sizeof used);
    if (wire::isSession(wire::get32(context + 8))) return loadSession(context, used);
    Thing* slot = freeSlot();
    if (slot == nullptr) return answer(TPM2_RC_OBJECT_MEMORY);
    *slot = {Place::None, wire::get32(context + 8) == wire::kSavedSequence, used, 0};
    setPlace(*slot, Place::Loaded);
    answerHandle(TPM2_TRANSIENT_FIRST + static_cast<TPM2_HANDLE>(slot - objects_.data()));
}

void ModelTpm::loadSession(const uint8_t* context, const Used& used) {
    const TPM2_HANDLE handle = wire::get32(context + 8);
    const uint64_t sequence = uint64_t{wire::get32(context)} << 32 | wire::get32(context + 4);
    Thing& session = sessions_[wire::indexOf(handle) % kSessions];
    if (session.place != Place::Saved || session.saved != sequence)
        return answer(wire::forParameter(TPM2_RC_HANDLE, 0));
    if (loadedSessions() == kSessionSlots) return answer(TPM2_RC_SESSION_MEMORY);
    session.used = used;
    setPlace(session, Place::Loaded);
    answerHandle(handle);
}

ModelTpm::Thing* ModelTpm::findLoaded(TPM2_HANDLE handle) {
    const uint32_t index = wire::indexOf(handle);
    Thing* thing = nullptr;
    if (wire::isTransient(handle) && index < kObjectSlots) thing = &objects_[index];
    if (wire::isSession(handle) && index < kSessions) thing = &sessions_[index];
    return thing != nullptr && thing->place == Place::Loaded ? thing : nullptr;
}

ModelTpm::Thing* ModelTpm::freeSlot() {
    for (Thing& slot : objects_)
        if (slot.place == Place::None) return &slot;
    return nullptr;
}

size_t ModelTpm::loadedSessions() const {
    return static_cast<size_t>(
        std::count_if(sessions_.begin(), sessions_.end(),
                      [](const Thing& session) { return session.place == Place::Loaded; }));
}

void ModelTpm::setPlace(Thing& thing, Place place) {
    thing.place = place;
    loaded_[thing.used.serial] = place == Place::Loaded;
}

void ModelTpm::answer(TPM2_RC code) {
    responseSize_ = wire::kHeaderSize;
    wire::putHeader(response_.data(), TPM2_ST_NO_SESSIONS, responseSize_, code);
}

void ModelTpm::answerHandle(TPM2_HANDLE handle) {
    // Parameters that nobody reads: a Name, a nonce, nothing at all behind a loaded context.
    responseSize_ = wire::kHeaderSize + wire::kHandleSize;
    wire::put32(&response_[wire::kHeaderSize], handle);
    wire::putHeader(response_.data(), TPM2_ST_NO_SESSIONS, responseSize_, TPM2_RC_SUCCESS);
}

}  // namespace spaces::bench

// In place of the loader's, by the linker's --wrap.
extern "C" TSS2_RC __wrap_Tss2_TctiLdr_Initialize(const char*, TSS2_TCTI_CONTEXT** context) {
    using spaces::bench::current;
    if (current == nullptr) return TSS2_TCTI_RC_IO_ERROR;
    *context = current->context();
    return TSS2_RC_SUCCESS;
}
extern "C" void __wrap_Tss2_TctiLdr_Finalize(TSS2_TCTI_CONTEXT** context) { *context = nullptr; }
