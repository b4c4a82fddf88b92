// SPDX-License-Identifier: BSD-2-Clause
// What all turns share; see swap.h.
#include "swap/swap.h"

#include <new>

#include "swap/turn.h"

namespace spaces::swap {

Swap::Swap(tpm::Tpm& below, const Limits& limits, log::Trace* trace)
    : below_(below),
      trace_(trace),
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

void Swap::traceSlots() {
    if (trace_ != nullptr)
        trace_->setSlots(contents_.residents().size(), contents_.loadedSessions());
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

void Swap::tpmStopped() {
    contents_.removeAllObjects();
    contents_.removeLoadedSessions();
    for (Session& session : contents_.sessions()) session.stale = session.uncertain = false;
    shutDown_ = false;
    newestSequence_ = 0;  // a reset TPM counts anew; renewing learns it again
}

}  // namespace spaces::swap
