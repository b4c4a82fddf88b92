// SPDX-License-Identifier: BSD-2-Clause
// Who owns what in the one TPM: the record that all spaces over it share, with what they have
// learned of it. Touched in turns only (see tpm/tpm.h), so it has no lock.
//
// Always holds:
// - A physical object handle, and a session index, has at most one owner. When the TPM gives one
//   out that is on record, the older entry was dead without our knowing and goes.
// - HMAC and policy sessions share one index space; the type is an attribute.
// - A session that its client saved (ContextSave) stays on record for the space that saved it
//   until it is loaded again, wherever that is, or the space closes.
#pragma once

#include <tss2/tss2_tpm2_types.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <optional>
#include <vector>

#include "log/trace.h"
#include "space/holding.h"
#include "tpm/leftovers.h"
#include "wire/command_table.h"
#include "wire/response.h"

namespace spaces::space {

struct Session {
    TPM2_HANDLE handle = 0;
    const Holding* owner = nullptr;
    bool saved = false;    // by the client: it holds the context
    bool unsure = false;   // the answer to its client's last move was lost: it may have been made
    bool suspect = false;  // see suspectEverything()
};

class Ownership {
  public:
    /// `trace`, if there is one, outlives it.
    explicit Ownership(tpm::Leftovers::Policy policy = tpm::Leftovers::Policy::Keep,
                       log::Trace* trace = nullptr)
        : leftovers(policy), trace_(trace) {}

    // Objects.

    /// Makes sure that the next adoptObject() needs no memory. May throw std::bad_alloc.
    void reserveObject(Holding& owner);
    /// Returns the virtual handle; see Holding::add.
    TPM2_HANDLE adoptObject(Holding& owner, TPM2_HANDLE physical, TPM2_HANDLE hierarchy,
                            size_t skip = 0);
    void removeObject(Holding& owner, TPM2_HANDLE handle);

    // Sessions.

    /// May throw std::bad_alloc.
    void reserveSession();
    void adoptSession(const Holding& owner, TPM2_HANDLE handle);
    void removeSession(TPM2_HANDLE handle);
    void markSaved(TPM2_HANDLE handle);
    /// The answer to its client's ContextSave or ContextLoad was lost, or is there after all. For
    /// an object that changes nothing.
    void markUnsure(TPM2_HANDLE handle, bool unsure);
    /// It is not loaded, and no command known to have succeeded took it away: it is gone, or, of
    /// one that is unsure, saved, and nobody has the context.
    void missSession(TPM2_HANDLE handle);

    /// The owner's session with this index; null if it has none.
    const Session* findSession(const Holding& owner, TPM2_HANDLE handle) const;
    /// All sessions of all spaces, by index.
    const std::vector<Session>& sessions() const { return sessions_; }
    size_t countSessions(const Holding& owner, bool withSaved) const;

    // What is in the TPM.

    size_t countObjects() const { return objects_.size(); }
    size_t countLoadedSessions() const;
    /// A physical object, or a session.
    bool isOurs(TPM2_HANDLE physical) const;
    /// The same leaves the record, whosever it is: the TPM has it no more. True if it was there.
    bool expel(TPM2_HANDLE physical);
    void traceSlots() const;
    /// What is not ours; for the space whose turn it is.
    tpm::Leftovers leftovers;

    // What happens to everyone.

    /// How many spaces are open. Any thread may change it at any time.
    std::atomic<unsigned> spaces = 0;

    /// Everything that `owner` still has leaves the record.
    void forget(Holding& owner);
    /// The TPM flushed the objects of this hierarchy. Those of an unknown hierarchy become
    /// suspect.
    void hierarchyFlushed(TPM2_HANDLE hierarchy);
    /// The TPM was reset or restarted: what was loaded is gone, and the saved sessions too if
    /// their contexts are void.
    void tpmRestarted(bool contextsVoid);
    /// Something was missing that no command of ours removed: the TPM was reset or another
    /// process flushed it. What else may be gone has to be asked for.
    void suspectEverything();

    /// What is suspect: the physical handle of an object or a session; 0 when nothing is.
    TPM2_HANDLE nextSuspect();
    /// The TPM's word on it.
    void resolveSuspect(TPM2_HANDLE physical, bool alive);

    /// Forgets what was loaded if the TPM's epoch has changed since the last call.
    void enterEpoch(unsigned epoch);

    // What was learned of this TPM.

    /// Handles below these indices are in range for the TPM, whether loaded or not.
    uint32_t transientSlots = 3;  // TPM_PT_HR_TRANSIENT_MIN, 3 where nothing else is known
    uint32_t loadedSlots = 3;     // TPM_PT_HR_LOADED_MIN, 3 where nothing else is known
    uint32_t sessionSlots = 64;   // TPM_PT_ACTIVE_SESSIONS_MAX, 64 where nothing else is known

    std::optional<wire::CommandAttributes> findLearned(TPM2_CC code) const;
    /// May throw std::bad_alloc.
    void learn(TPM2_CC code, wire::CommandAttributes attributes);

    /// The last Shutdown was of type STATE, so contexts survive the next Startup.
    bool shutdownState = false;

    /// Where responses go that no client sees.
    uint8_t* scratch() { return scratch_.data(); }

  private:
    struct Entry {
        TPM2_HANDLE physical;
        Holding* owner;
        TPM2_HANDLE handle;  // the owner's virtual one
        bool suspect = false;
    };
    struct Learned {
        TPM2_CC code;
        wire::CommandAttributes attributes;
    };

    std::vector<Entry>::iterator lowerObject(TPM2_HANDLE physical);
    std::vector<Entry>::const_iterator lowerObject(TPM2_HANDLE physical) const;
    std::vector<Session>::iterator lowerSession(TPM2_HANDLE handle);
    /// Whosever it is; null if there is none with this index.
    Session* sessionAt(TPM2_HANDLE handle);
    const Session* sessionAt(TPM2_HANDLE handle) const;
    template <class Condition>
    void removeObjectsIf(Condition condition);

    log::Trace* const trace_;
    std::vector<Entry> objects_;     // by physical handle
    std::vector<Session> sessions_;  // by index
    std::vector<Learned> learned_;
    bool anySuspect_ = false;  // false: surely none
    unsigned epoch_ = 0;
    std::array<uint8_t, wire::kMaxResponseSize> scratch_{};
};

}  // namespace spaces::space
