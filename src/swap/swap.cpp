// SPDX-License-Identifier: BSD-2-Clause
// What all turns share; see swap.h.
#include "swap/swap.h"

#include <algorithm>
#include <new>

#include "swap/turn.h"

namespace spaces::swap {

Swap::Swap(tpm::Tpm& below, const Limits& limits, log::Trace* trace)
    : below_(below),
      trace_(trace),
      adaptsObjects_(below.isResourceManager() && limits.objects == Slots::kUnlimited),
      adaptsSessions_(below.isResourceManager() && limits.sessions == Slots::kUnlimited),
      objectSlots_(limits.objects),
      sessionSlots_(limits.sessions),
      leftovers_(limits.leftovers) {}

Swap::~Swap() = default;

std::unique_ptr<tpm::Channel> Swap::open(tpm::User& user) {
    return std::make_unique<Turn>(*this, user);
}

bool Swap::isStranded(TPM2_HANDLE session) const {
    const Session* found = contents_.findSession(session);
    return found != nullptr && !found->clientContext.empty();
}

TPM2_HANDLE Swap::anyStranded() const {
    for (const Session& session : contents_.sessions())
        if (!session.clientContext.empty()) return session.handle;
    return 0;
}

void Swap::enterEpoch() {
    if (below_.epoch() == epoch_) return;
    epoch_ = below_.epoch();
    contents_.loseResidents();
}

/// A resource manager moves all that is loaded for every command. What it can hold is best left to
/// it; beyond that it would be moved by both, and as little as can be is the cheapest.
void Swap::adaptToManager(size_t moreObjects, size_t moreSessions) {
    constexpr unsigned kSlotsOfManagers = 3;
    const auto worthWhile = [](size_t count) { return count <= kSlotsOfManagers ? 3u : 1u; };
    if (adaptsObjects_) objectSlots_.want(worthWhile(contents_.countObjects() + moreObjects));
    if (adaptsSessions_) sessionSlots_.want(worthWhile(contents_.countSessions() + moreSessions));
}

void Swap::traceSlots() {
    if (trace_ != nullptr)
        trace_->setSlots(contents_.residents().size(), contents_.loadedSessions());
}

void Swap::noteSequence(uint64_t sequence) {
    newestSequence_ = isResourceManager() ? sequence : std::max(newestSequence_, sequence);
}

bool Swap::setAside() {
    if (aside_.hasRoom()) return true;
    try {
        aside_ = SavedContext::withRoom();
        return true;
    } catch (const std::bad_alloc&) {
        return false;
    }
}

SavedContext Swap::keepForSure(wire::Bytes bytes) {
    try {
        return SavedContext(bytes);
    } catch (const std::bad_alloc&) {
        SavedContext kept = std::move(aside_);
        kept.assign(bytes);
        return kept;
    }
}

void Swap::voidShutdown() {
    shutDown_.reset();
    maybeShutDown_ = false;
}

void Swap::tpmStopped() {
    contents_.removeAllObjects();
    contents_.removeLoadedSessions();
    for (Session& session : contents_.sessions()) {
        session.stale = session.place == Session::Place::Out;
        session.uncertain = false;
    }
    objectSlots_.reset();
    sessionSlots_.reset();
    stopped_ = true;
    newestSequence_ = 0;  // a reset TPM counts anew; renewing learns it again
}

}  // namespace spaces::swap
