// SPDX-License-Identifier: BSD-2-Clause
// A small model of a TPM as a child TCTI, in place of one that tctildr would load: slots, saved
// contexts with their sequence numbers and the context gap, hierarchies, Startup and Shutdown.
// Programs that use it are linked with model_loader.cpp and $(WRAP_TCTILDR), or lead to it
// themselves.
//
// What an object is, is a name that its creator chose (in place of a public area); what a sequence
// is, the data so far; what a session is, the command codes of its policy. So a test sees from any
// answer whether it reached the right thing, in the right state.
// Always holds: it refuses in the order and with the codes of the reference TPM; a context is
// loaded only as it was saved, and an older one of a session never; any octets behind a whole
// header are answered; responses carry no authorisation area, since no layer reads it.
#pragma once

#include <tss2/tss2_tcti.h>

#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "unit/packets.h"

namespace spaces::wire {
class Command;
class Context;
}  // namespace spaces::wire

namespace spaces::test {

class ModelTpm {
  public:
    struct Size {
        size_t objects = 3;
        size_t sessions = 3;
        size_t active = 64;     // sessions, loaded and saved
        uint64_t gap = 0xFFFF;  // between the sequences of the oldest and the next context
    };

    /// What becomes of a command other than being executed and answered.
    struct Fate {
        TPM2_RC code = TPM2_RC_SUCCESS;           // answered instead of executing it
        TSS2_RC transmitFails = TSS2_RC_SUCCESS;  // it is not executed
        TSS2_RC receiveFails = TSS2_RC_SUCCESS;   // it is executed
    };

    /// Until it is destroyed, the loader finds it under this name.
    ModelTpm(std::string name, const Size& size);
    ~ModelTpm();
    ModelTpm(const ModelTpm&) = delete;
    ModelTpm& operator=(const ModelTpm&) = delete;

    /// Asked for each command.
    std::function<Fate(const Packet&)> fate;
    /// Asked for each receive with the command: true if its response is not there yet.
    std::function<bool(const Packet&)> notYet;
    /// Called while a command is being transmitted.
    std::function<void()> whileTransmitting;

    /// What was sent since the last call.
    std::vector<Packet> takeSent();
    size_t saves = 0;  // of `sent`, all its life
    size_t sent = 0;

    /// Power is lost; Startup is needed.
    void powerCycle();

    // What is in it.
    size_t loadedObjects() const { return objects_.size(); }
    size_t loadedSessions() const;
    size_t savedSessions() const { return sessions_.size() - loadedSessions(); }

    /// Something behind the layers' backs, as another process would do.
    Packet sendBehind(const Packet& command) { return execute(command.all()); }
    void flushBehind(TPM2_HANDLE handle);
    void restartBehind();
    void occupySlots(size_t count) { size_.objects -= count; }
    void freeSlots(size_t count) { size_.objects += count; }

    /// True while a call is in any model: what it allocates is not the library's.
    static bool atWork();

    // For the loader's functions.
    static TSS2_RC load(const char* name, TSS2_TCTI_CONTEXT** context);
    static void unload(TSS2_TCTI_CONTEXT** context);

  private:
    struct Context {
        TSS2_TCTI_CONTEXT_COMMON_V2 common;
        ModelTpm* tpm;
    };
    struct Object {
        Bytes content;
        TPM2_HANDLE hierarchy;
        bool sequence;
    };
    struct Session {
        TPM2_HANDLE handle;
        Bytes policy;
        uint64_t saved = 0;  // the sequence of its context; 0: it is loaded
    };

    static ModelTpm& of(TSS2_TCTI_CONTEXT* context);
    static TSS2_RC transmit(TSS2_TCTI_CONTEXT* context, size_t size, const uint8_t* command);
    static TSS2_RC receive(TSS2_TCTI_CONTEXT* context, size_t* size, uint8_t* response, int32_t);
    static TSS2_RC cancel(TSS2_TCTI_CONTEXT*) { return TSS2_RC_SUCCESS; }
    static TSS2_RC setLocality(TSS2_TCTI_CONTEXT*, uint8_t) { return TSS2_RC_SUCCESS; }

    Packet execute(Bytes command);
    TPM2_RC checkHandles(wire::Command& command, size_t count);
    bool hasRightType(TPM2_CC code, size_t position, TPM2_HANDLE handle) const;
    TPM2_RC checkSessions(wire::Command& command, size_t handles);
    Packet act(wire::Command& command, const Bytes& parameters);
    Packet actOnHierarchies(TPM2_CC code, const Bytes& parameters);
    Packet makeObject(const Object& object);
    Packet startSession(const Bytes& parameters);
    Packet save(TPM2_HANDLE handle);
    Packet load(const wire::Context& context);
    Packet list(const Bytes& parameters) const;
    Packet flush(TPM2_HANDLE handle);
    Packet start(TPM2_SU type);

    Object* find(TPM2_HANDLE object);
    Session* findLoaded(TPM2_HANDLE session);
    Bytes contentOf(TPM2_HANDLE object);
    bool roomForObject() const { return objects_.size() + persistent_ < size_.objects; }
    bool isLastSessionSlot() const { return loadedSessions() + 1 == size_.sessions; }
    uint64_t oldest() const;
    bool gapReached() const;
    Bytes seal(uint64_t sequence, TPM2_HANDLE saved, TPM2_HANDLE hierarchy, const Bytes& content);
    void flushHierarchy(TPM2_HANDLE hierarchy, bool newProof);

    const std::string name_;
    Size size_;
    Context context_{};
    std::vector<Packet> log_;
    Bytes response_;
    TSS2_RC receiveCode_ = TSS2_RC_SUCCESS;
    bool open_ = false, pending_ = false;

    std::map<uint32_t, Object> objects_;    // by slot
    std::map<uint32_t, Session> sessions_;  // by index
    std::map<uint32_t, Session> sessionsAtShutdown_;
    size_t persistent_ = 0;  // slots that the command's persistent objects take
    std::map<TPM2_HANDLE, uint64_t> proofs_;
    std::set<TPM2_HANDLE> disabled_;
    uint64_t objectSequence_ = 0, sessionSequence_ = 3;
    bool started_ = true, orderly_ = false;
};

/// ContextSave, ContextLoad or FlushContext.
bool isMove(const Packet& command);

}  // namespace spaces::test
