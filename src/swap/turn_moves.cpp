// SPDX-License-Identifier: BSD-2-Clause
// A turn's own commands: who leaves and comes in, and what is made of the TPM's answers; see
// turn.h.
#include <algorithm>
#include <new>
#include <span>

#include "log/log.h"
#include "swap/turn.h"
#include "wire/handle.h"

namespace spaces::swap {
namespace {

bool isFormatOne(TPM2_RC code) { return (code & TPM2_RC_FMT1) != 0; }

}  // namespace

// ---- Room ---------------------------------------------------------------------------------------

/// Who could leave. A TPM with more slots than fit here has no need of a perfect choice.
class Swap::Turn::Candidates {
  public:
    /// `cost` in TPM commands: to leave and to come back, see Policy::Candidate.
    void add(TPM2_HANDLE handle, const Policy::Use& use, unsigned cost) {
        if (count_ == handles_.size()) return;
        handles_[count_] = handle;
        candidates_[count_++] = {&use, cost};
    }
    bool empty() const { return count_ == 0; }
    TPM2_HANDLE chosenBy(Policy& policy) const {
        return handles_[policy.victim(std::span(candidates_).first(count_))];
    }

  private:
    std::array<TPM2_HANDLE, 64> handles_{};
    std::array<Policy::Candidate, 64> candidates_{};
    size_t count_ = 0;
};

Swap::Turn::MaybeExchange Swap::Turn::makeObjectRoom() {
    Candidates candidates;
    for (const TPM2_HANDLE handle : contents_.residents()) {
        Object& object = *contents_.findObject(handle);
        if (isNamed(handle) || (swap_.shutDown_ && !object.clean())) continue;
        candidates.add(handle, object.use, object.sequence ? 3 : 2);
    }
    if (candidates.empty()) return std::nullopt;
    const TPM2_HANDLE victim = candidates.chosenBy(swap_.objectPolicy_);
    const Object& object = *contents_.findObject(victim);
    const bool clean = object.clean();
    return send(clean ? Step::FlushObject : Step::SaveObject,
                clean ? TPM2_CC_FlushContext : TPM2_CC_ContextSave, victim, object.physical);
}

Swap::Turn::MaybeExchange Swap::Turn::makeSessionRoom() {
    if (swap_.shutDown_) return std::nullopt;
    Candidates candidates;
    for (Session& session : contents_.sessions())
        if (session.place == Session::Place::Loaded && !isNamed(session.handle))
            candidates.add(session.handle, session.use, 2);
    if (candidates.empty()) return std::nullopt;
    if (!swap_.setAside()) return refuse(tpm::kNoMemory);
    const TPM2_HANDLE victim = candidates.chosenBy(swap_.sessionPolicy_);
    return send(Step::SaveSession, TPM2_CC_ContextSave, victim, victim);
}

/// Nothing of ours can leave, and still a slot is wanted.
Swap::Turn::MaybeExchange Swap::Turn::lookForLeftovers(TPM2_RC code) {
    if (swap_.isResourceManager()) return std::nullopt;
    const size_t ours =
        code == TPM2_RC_OBJECT_MEMORY
            ? contents_.residents().size() + command().persistent(command_.attributes.handles)
            : contents_.loadedSessions();
    if (!swap_.leftovers_.areWorthALook(code, ours)) return std::nullopt;
    warning_ = code;
    step_ = Step::Leftovers;
    return swap_.leftovers_.begin(swap_.response_.data());
}

tpm::Exchange Swap::Turn::leftoversAnswered(size_t size) {
    const auto isOurs = [this](TPM2_HANDLE physical) { return contents_.isOurs(physical); };
    const tpm::Exchange next = swap_.leftovers_.answered(size, isOurs);
    if (!next.nothing()) return next;
    if (!swap_.leftovers_.madeRoom()) return refuse(warning_);
    (warning_ == TPM2_RC_OBJECT_MEMORY ? swap_.objectSlots_ : swap_.sessionSlots_).reset();
    return this->next();
}

// ---- Moves on their way -------------------------------------------------------------------------

tpm::Exchange Swap::Turn::send(Step step, TPM2_CC code, TPM2_HANDLE subject,
                               TPM2_HANDLE parameter) {
    step_ = step;
    moving_ = subject;
    return sendMove(wire::putHandleCommand(swap_.command_.data(), code, parameter).size());
}

tpm::Exchange Swap::Turn::sendLoad(Step step, TPM2_HANDLE subject, const SavedContext& context) {
    step_ = step;
    moving_ = subject;
    const wire::Bytes bytes = context.bytes();
    const size_t size = wire::kHeaderSize + bytes.size();
    wire::putHeader(swap_.command_.data(), TPM2_ST_NO_SESSIONS, size, TPM2_CC_ContextLoad);
    std::copy(bytes.begin(), bytes.end(), &swap_.command_[wire::kHeaderSize]);
    return sendMove(size);
}

/// For the log, as the TPM would count: also those that it refuses.
void Swap::Turn::countMove() {
    switch (step_) {
        case Step::SaveObject:
        case Step::SaveSession:
        case Step::RenewSave:
            ++traffic_.saves;
            break;
        case Step::LoadObject:
        case Step::LoadSession:
        case Step::RenewLoad:
            ++traffic_.loads;
            break;
        case Step::FlushObject:
        case Step::FlushSession:
            ++traffic_.flushes;
            break;
        case Step::Client:
        case Step::Leftovers:
            break;
    }
}

tpm::Exchange Swap::Turn::sendMove(size_t size) {
    ++moves_;
    countMove();
    tpm::Exchange move;
    move.command = {swap_.command_.data(), size};
    move.response = swap_.response_.data();
    move.purpose = tpm::Purpose::Move;
    return move;
}

// ---- What they answer ---------------------------------------------------------------------------

tpm::Exchange Swap::Turn::moved(size_t size) {
    busy_ = 0;
    switch (step_) {
        case Step::SaveObject:
            if (!keepObject(size)) return refuse(tpm::kNoMemory);
            return send(Step::FlushObject, TPM2_CC_FlushContext, moving_,
                        contents_.findObject(moving_)->physical);
        case Step::FlushObject:
            contents_.becomeAbsent(moving_);
            swap_.objectSlots_.evicted();
            return next();
        case Step::LoadObject:
            if (!wire::Response({swap_.response_.data(), size}).hasHandle())
                return refuse(tpm::kNoAnswer);
            contents_.becomeResident(moving_,
                                     wire::Response({swap_.response_.data(), size}).handle());
            swap_.objectSlots_.worked(contents_.residents().size());
            return next();
        case Step::SaveSession:
            keepSession(Session::Place::Out, size);
            swap_.sessionSlots_.evicted();
            return next();
        case Step::LoadSession: {
            Session& session = *contents_.findSession(moving_);
            session.place = Session::Place::Loaded;
            session.uncertain = session.doubtful = false;
            session.context = SavedContext();
            swap_.sessionSlots_.worked(contents_.loadedSessions());
            return next();
        }
        case Step::RenewLoad:
            noteRenewLoad();
            return send(Step::RenewSave, TPM2_CC_ContextSave, moving_, moving_);
        case Step::RenewSave:
            keepRenewed(size);
            return next();
        case Step::FlushSession:
            contents_.removeSession(moving_);
            return next();
        case Step::Client:
        case Step::Leftovers:
            break;
    }
    return tpm::Exchange::none();
}

bool Swap::Turn::keepObject(size_t size) {
    const wire::Context context(wire::Response({swap_.response_.data(), size}).parameters());
    if (context.empty()) return false;
    Object& object = *contents_.findObject(moving_);
    try {
        object.context = SavedContext(context.bytes());
    } catch (const std::bad_alloc&) {
        return false;
    }
    object.changed = false;
    object.hierarchy = wire::baseHierarchy(context.hierarchy());
    return true;
}

/// Keeps what ContextSave answered for a session. To the TPM it is out now, so this cannot fail:
/// where memory for a copy is short, the room set aside is used.
void Swap::Turn::keepSession(Session::Place place, size_t size) {
    const wire::Context context(wire::Response({swap_.response_.data(), size}).parameters());
    Session& session = *contents_.findSession(moving_);
    if (context.empty()) return contents_.removeSession(moving_);
    session.context = swap_.keepForSure(context.bytes());
    session.place = place;
    session.uncertain = session.doubtful = false;
    session.sequence = context.sequence();
    swap_.noteSequence(session.sequence);
}

tpm::Exchange Swap::Turn::moveRefused(TPM2_RC code) {
    // What is not flushed now may have no later chance.
    const bool again = wire::isBusy(code) || (step_ == Step::FlushSession && wire::isWarning(code));
    if (again && ++busy_ < tpm::kMostAttempts)
        return sendMove(wire::Command(swap_.command_).headerSize());
    if (code == TPM2_RC_INITIALIZE) {
        swap_.tpmStopped();
        staleTried_ = true;
        return answered_ || step_ == Step::FlushSession ? next() : refuse(code);
    }
    switch (step_) {
        case Step::SaveObject:
        case Step::FlushObject:
        case Step::LoadObject:
            return objectMoveRefused(code);
        case Step::FlushSession:
            // What the TPM does not do now is left for the next command.
            if (isFormatOne(code))
                contents_.removeSession(moving_);
            else
                staleTried_ = true;
            return next();
        default:
            return sessionMoveRefused(code);
    }
}

tpm::Exchange Swap::Turn::objectMoveRefused(TPM2_RC code) {
    if (step_ == Step::LoadObject) {
        if (code == TPM2_RC_OBJECT_MEMORY) {
            swap_.objectSlots_.failed(contents_.residents().size(), 1);
            if (const auto step = makeObjectRoom()) return *step;
            if (const auto look = lookForLeftovers(code)) return *look;
        }
        if (!isFormatOne(code)) return refuseInternal(code);
        // The context is void: its hierarchy's secret changed, or the TPM was reset.
        contents_.removeObject(moving_);
        return next();
    }
    const bool gone = code == TPM2_RC_REFERENCE_H0 || code == wire::forParameter(TPM2_RC_HANDLE, 0);
    if (!gone) return refuseInternal(code);
    contents_.becomeAbsent(moving_);
    return next();
}

tpm::Exchange Swap::Turn::sessionMoveRefused(TPM2_RC code) {
    if (code == TPM2_RC_CONTEXT_GAP) warning_ = code;
    const bool renewing = step_ == Step::RenewLoad || step_ == Step::RenewSave;
    if (code == TPM2_RC_CONTEXT_GAP && !renewing && startRenewing()) return next();
    const bool loading = step_ == Step::LoadSession || step_ == Step::RenewLoad;
    if (code == TPM2_RC_SESSION_MEMORY && loading) {
        swap_.sessionSlots_.failed(contents_.loadedSessions(), 1);
        if (const auto step = makeSessionRoom()) return *step;
        if (const auto look = lookForLeftovers(code)) return *look;
    }
    const bool gone = isFormatOne(code) || code == TPM2_RC_REFERENCE_H0;
    if (!gone && renewing && (foreseen_ || renewBelow_ == 0)) {
        // A renewal that this command has no need of is no reason to refuse it.
        dueTried_ |= step_ == Step::RenewSave || contents_.findSession(moving_)->uncertain;
        renewBelow_ = 0;
        return next();
    }
    if (!gone) return refuseInternal(code);
    const TPM2_HANDLE lost = moving_;
    Session& session = *contents_.findSession(lost);
    // The load whose answer was lost was not made, or was undone by a save whose answer was lost.
    if (step_ == Step::RenewSave && session.uncertain && !session.inTpm()) {
        session.uncertain = false;
        session.doubtful = true;
        return next();
    }
    loseSession(session);
    return isNamed(lost) ? refuseLostSession(lost) : next();
}

/// It is not there any more. If it was saved when the answer was lost, the TPM still keeps its
/// place, and would do so until the context gap.
void Swap::Turn::loseSession(Session& session) {
    if (session.uncertain || session.doubtful)
        session.stale = true;
    else
        contents_.removeSession(session.handle);
}

tpm::Exchange Swap::Turn::refuseLostSession(TPM2_HANDLE handle) {
    for (const Named& named : sessions_)
        if (wire::indexOf(named.handle) == wire::indexOf(handle))
            return refuse((named.authorizes ? TPM2_RC_REFERENCE_S0 : TPM2_RC_REFERENCE_H0) +
                          static_cast<TPM2_RC>(named.position));
    return refuse(TPM2_RC_REFERENCE_H0);
}

/// A move failed for a reason of the TPM's that its client can be told as it is; errors that are
/// about our command, not the client's, carry the resource manager's layer.
tpm::Exchange Swap::Turn::refuseInternal(TPM2_RC code) {
    return refuse(isFormatOne(code) ? TSS2_RESMGR_RC_LAYER | code : code);
}

}  // namespace spaces::swap
