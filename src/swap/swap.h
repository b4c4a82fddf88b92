// SPDX-License-Identifier: BSD-2-Clause
// Swapping: a TPM with as many object slots as memory allows, and all its sessions loaded, on a TPM
// that has few (in the terms of the TCG's TAB and Resource Manager specification, the resource
// manager). It implements the interface of a TPM over another one, so spaces do not know of it.
//
// How a turn goes. The user above has a command; before each exchange with the TPM the turn asks
// anew what is still missing (next): an object or session that the command names and that is not
// in the TPM is loaded, and if the TPM has no slot left something else leaves first; when nothing
// is missing the command itself is sent. A warning about memory or the context gap means that
// something is missing after all. So there is no plan to go wrong, only a next step.
//
// Always holds:
// - Nothing moves unless the command under way needs a slot, but for what an earlier command left
//   unsettled: a renewal that failed half way is finished before anything else, and so it is found
//   out where a session is when the answer to its move was lost, by saving it.
// - What the command names stays in the TPM until it is answered.
// - Only ContextSave, ContextLoad and FlushContext are sent beside the users' commands, and a
//   question what else is in the TPM where the user wants leftovers flushed; and after a successful
//   Shutdown no ContextSave and no ContextLoad of a session until the next Startup: they would make
//   an orderly restart impossible.
// - A failure costs at most the object or session it is about.
#pragma once

#include <array>
#include <memory>
#include <optional>

#include "log/trace.h"
#include "swap/contents.h"
#include "swap/policy.h"
#include "swap/slots.h"
#include "tpm/leftovers.h"
#include "tpm/tpm.h"

namespace spaces::swap {

/// How many of the TPM's slots to use at most, and what to do about those that others use.
struct Limits {
    unsigned objects = Slots::kUnlimited;
    unsigned sessions = Slots::kUnlimited;
    tpm::Leftovers::Policy leftovers = tpm::Leftovers::Policy::Keep;
};

class Swap final : public tpm::Tpm {
  public:
    /// `below` must outlive it, and so must `trace`, if there is one.
    Swap(tpm::Tpm& below, const Limits& limits, log::Trace* trace = nullptr);
    ~Swap() override;

    std::unique_ptr<tpm::Channel> open(tpm::User& user) override;
    bool isResourceManager() const override { return below_.isResourceManager(); }
    bool makesRoom() const override { return true; }
    bool isStranded(TPM2_HANDLE session) const override;
    TPM2_HANDLE anyStranded() const override;
    unsigned epoch() const override { return 0; }  // what is lost is accounted for here

  private:
    class Turn;

    void enterEpoch();
    void traceSlots();
    /// Of a session's context that was just saved.
    void noteSequence(uint64_t sequence);
    void adaptToManager(size_t moreObjects, size_t moreSessions);
    /// The TPM was reset or powered down. What was moved out may still be tracked by the TPM after
    /// its next Startup.
    void tpmStopped();
    /// What Shutdown prepared is not good any more: it was used, or something has spoilt it.
    void voidShutdown();

    /// Sets room aside for the context of a session that is about to leave the TPM: once it has
    /// left there is no way back without it. False if there is no memory.
    bool setAside();
    /// A copy, in the room set aside if memory has become short.
    SavedContext keepForSure(wire::Bytes bytes);

    tpm::Tpm& below_;
    log::Trace* const trace_;
    Contents contents_;
    Policy objectPolicy_;
    Policy sessionPolicy_;
    bool adaptsObjects_;  // to a resource manager below, where the user sets no limit
    bool adaptsSessions_;
    Slots objectSlots_;
    Slots sessionSlots_;
    tpm::Leftovers leftovers_;
    std::optional<TPM2_SU> shutDown_;  // since then, no Startup, and nothing that voids it
    bool maybeShutDown_ = false;       // with STATE: the answer was lost
    bool stopped_ = false;             // it was seen to be in need of Startup
    uint64_t newestSequence_ = 0;      // of any session context seen, or guessed: see foreseeGap()
    unsigned epoch_ = 0;
    SavedContext aside_;

    // One turn at a time uses these.
    std::array<uint8_t, wire::kMaxCommandSize> command_{};
    std::array<uint8_t, wire::kMaxResponseSize> response_{};
};

}  // namespace spaces::swap
