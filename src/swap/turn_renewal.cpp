// SPDX-License-Identifier: BSD-2-Clause
// What is owed to sessions' contexts in a turn: the TPM can tell them apart over so many saves
// only, and keeps them over a restart; see turn.h.
#include <algorithm>

#include "swap/turn.h"
#include "wire/handle.h"

namespace spaces::swap {

// ---- The context gap ----------------------------------------------------------------------------

/// The context gap (Part 1, 30.5): the TPM can tell session contexts apart over so many saves only.
/// The oldest saved session is loaded and saved again, then the next oldest: no other order works,
/// because at the gap the TPM loads the oldest alone. All of the older half are done in one go.
bool Swap::Turn::startRenewing() {
    const Session* oldest = contents_.oldestSaved();
    // A renewal that cannot be finished means that the oldest of all is not ours to renew.
    if (oldest == nullptr || swap_.shutDown_ || dueTried_) return false;
    // After a restart the newest that we have seen may be this one.
    const uint64_t newest = std::max(swap_.newestSequence_, oldest->sequence);
    renewBelow_ = oldest->sequence + (newest - oldest->sequence) / 2 + 1;
    foreseen_ = false;
    return true;
}

/// A resource manager below saves what is loaded, for every command and without our seeing it, and
/// when the context gap refuses that, it drops everything. So the gap must never be reached: what
/// is saved is renewed in time even for a TPM that counts to 255 only.
void Swap::Turn::foreseeGap() {
    if (!swap_.isResourceManager() || swap_.shutDown_) return;
    constexpr uint64_t kFarEnough = 200;
    swap_.newestSequence_ += contents_.loadedSessions();
    const Session* oldest = contents_.oldestSaved();
    foreseen_ = oldest != nullptr && swap_.newestSequence_ > oldest->sequence + kFarEnough;
    if (foreseen_) renewBelow_ = oldest->sequence + 1;
}

Swap::Turn::MaybeExchange Swap::Turn::renewalMissing() {
    // A command that has nothing to do with sessions can do without.
    const bool settling =
        !swap_.shutDown_ && !dueTried_ && (sessions_.count > 0 || sessionRoom_ > 0);
    const Session* unsettled = settling ? contents_.unsettledSession() : nullptr;
    if (renewBelow_ == 0 && unsettled == nullptr) return std::nullopt;
    if (!swap_.setAside()) return refuse(tpm::kNoMemory);
    if (unsettled != nullptr)
        return send(Step::RenewSave, TPM2_CC_ContextSave, unsettled->handle, unsettled->handle);
    const Session* oldest = contents_.oldestSaved();
    if (oldest == nullptr || oldest->sequence >= renewBelow_) return std::nullopt;
    // The manager is not asked for more than it can hold.
    if (foreseen_ && !swap_.sessionSlots_.roomFor(contents_.loadedSessions(), 1))
        return makeSessionRoom();
    return sendLoad(Step::RenewLoad, oldest->handle, oldest->context);
}

/// Half way through a renewal, where the other half may fail: it is as if it had been loaded to be
/// used, but what its client holds is not forgotten.
void Swap::Turn::noteRenewLoad() {
    Session& session = *contents_.findSession(moving_);
    const bool ours = session.place == Session::Place::Out;
    session.place = ours ? Session::Place::Loaded : Session::Place::Due;
    if (!ours && session.clientContext.empty()) session.clientContext = std::move(session.context);
    session.uncertain = session.doubtful = false;
    session.context = SavedContext();
}

/// Saved again: a session that its client saved is the client's as before.
void Swap::Turn::keepRenewed(size_t size) {
    Session& session = *contents_.findSession(moving_);
    const bool clients =
        session.place == Session::Place::Due || session.place == Session::Place::Client;
    if (clients && session.clientContext.empty())
        session.clientContext = std::move(session.context);
    keepSession(clients ? Session::Place::Client : Session::Place::Out, size);
}

// ---- Contexts that clients hold of renewed sessions ---------------------------------------------

/// The session that the context to be loaded is of; null if it is an object's, or not known.
Session* Swap::Turn::incomingSession() {
    if (incoming_.empty()) return nullptr;
    return contents_.findSession(wire::Context(incoming_.bytes()).savedHandle());
}

/// The session whose context is to be loaded, if that was renewed since the client got it; which
/// may be during this very command. It is compared whole: a context that was tampered with is the
/// TPM's to refuse.
const Session* Swap::Turn::renewedSession() {
    const Session* session = incomingSession();
    const bool renewed = session != nullptr && session->place == Session::Place::Client &&
                         !session->context.empty() && !session->clientContext.empty() &&
                         session->clientContext == incoming_.bytes() && !command().hasSessions();
    return renewed ? session : nullptr;
}

/// The same, if its renewal is half done: it is loaded, and the client's context void.
Session* Swap::Turn::dueSession() {
    Session* session = incomingSession();
    const bool due = session != nullptr && session->place == Session::Place::Due &&
                     session->clientContext == incoming_.bytes() &&
                     command().size() == wire::kHeaderSize + incoming_.bytes().size();
    return due ? session : nullptr;
}

/// The session is where its client wants it, and is as if it had been loaded from its context.
tpm::Exchange Swap::Turn::answerContextLoad(Session& session) {
    session.place = Session::Place::Loaded;
    session.clientContext = SavedContext();
    swap_.sessionPolicy_.used(session.use);
    return pass(wire::putHandleResponse(
        wire::ResponseBuffer(command_.response, wire::kMaxResponseSize), session.handle));
}

// ---- Restarts -----------------------------------------------------------------------------------

/// Contexts outlive it after an orderly Shutdown(STATE) only.
void Swap::Turn::noteStartup() {
    const bool orderly = swap_.shutDown_ == TPM2_SU_STATE || swap_.maybeShutDown_;
    swap_.tpmStopped();
    swap_.stopped_ = false;
    swap_.voidShutdown();
    if (!orderly) contents_.removeAllSessions();
}

/// After Startup the TPM may still hold, as saved, the sessions that we had moved out; to its
/// client each of them was loaded and is lost.
Swap::Turn::MaybeExchange Swap::Turn::staleMissing() {
    if (staleTried_ || (command().code() == TPM2_CC_Startup && !answered_)) return std::nullopt;
    for (const Session& session : contents_.sessions())
        if (session.stale)
            return send(Step::FlushSession, TPM2_CC_FlushContext, session.handle, session.handle);
    return std::nullopt;
}

/// Only Shutdown writes down which sessions there are: one that was saved at that time, and flushed
/// since, is there again after Startup, and is flushed then.
void Swap::Turn::noteFlushedSession() {
    const Session* session = contents_.findSession(flushed_);
    const bool comesBack = swap_.shutDown_ && session != nullptr && !session->inTpm();
    if (!comesBack || session->place == Session::Place::Client) contents_.removeSession(flushed_);
}

/// Something that was loaded is missing. When there is nothing left, that was a Startup which we
/// did not see, and what Shutdown had prepared is over.
void Swap::Turn::noteLoss() {
    if (contents_.allAreOut()) swap_.voidShutdown();
}

}  // namespace spaces::swap
