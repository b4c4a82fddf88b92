// SPDX-License-Identifier: BSD-2-Clause
// A turn, step by step; see turn.h and swap.h.
#include "swap/turn.h"

#include <algorithm>
#include <new>
#include <span>
#include <utility>

#include "log/log.h"
#include "wire/flushed_hierarchies.h"
#include "wire/handle.h"

namespace spaces::swap {
namespace {

constexpr unsigned kMostMoves = 400;  // for one command: every session renewed, twice over

bool isFormatOne(TPM2_RC code) { return (code & TPM2_RC_FMT1) != 0; }

}  // namespace

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

Swap::Turn::Turn(Swap& swap, tpm::User& above)
    : swap_(swap), contents_(swap.contents_), above_(above), below_(swap.below_.open(*this)) {}

tpm::Traffic Swap::Turn::traffic() const {
    tpm::Traffic traffic = traffic_;
    traffic.commands = below_->traffic().commands;
    return traffic;
}

tpm::Exchange Swap::Turn::begin() {
    swap_.enterEpoch();
    return settle(take(above_.begin()));
}

tpm::Exchange Swap::Turn::answered(size_t size) {
    const tpm::Exchange next = settle(stepAnswered(size));
    swap_.traceSlots();
    return next;
}

tpm::Exchange Swap::Turn::stepAnswered(size_t size) {
    if (step_ == Step::Client) return clientAnswered(size);
    if (step_ == Step::Leftovers) return leftoversAnswered(size);
    const TPM2_RC code = wire::Response({swap_.response_.data(), size}).code();
    return code == TPM2_RC_SUCCESS ? moved(size) : moveRefused(code);
}

/// The TPM may have made the move all the same. An object or session is where it was, or where it
/// was to go; of an object that was to be loaded nothing is lost but perhaps a slot.
void Swap::Turn::failed(TSS2_RC rc) {
    const bool sessionMoved = step_ == Step::SaveSession || step_ == Step::LoadSession ||
                              step_ == Step::RenewLoad || step_ == Step::RenewSave;
    if (Session* session = sessionMoved ? contents_.findSession(moving_) : nullptr)
        session->uncertain = true;
    if (Object* object = step_ == Step::FlushObject ? contents_.findObject(moving_) : nullptr)
        object->uncertain = true;
    if (step_ == Step::Client && command().code() == TPM2_CC_Shutdown)
        swap_.maybeShutDown_ = command().startupType() == TPM2_SU_STATE;
    // One whose context its client loads: if it is loaded now, it is saved again.
    if (Session* session = step_ == Step::Client ? incomingSession() : nullptr)
        session->uncertain = session->place == Session::Place::Client;
    if (step_ == Step::Leftovers) {  // the command stays refused, as it was before the look
        refuse(warning_);
        passing_ = false;
        answered_ = true;
    }
    if (std::exchange(answered_, false) && above_.answered(answerSize_).nothing()) return;
    above_.failed(rc);
}

void Swap::Turn::canceled() {
    if (std::exchange(answered_, false) && above_.answered(answerSize_).nothing()) return;
    above_.canceled();
}

/// A move is not canceled: what it leaves would be half done. The command itself has not been sent.
bool Swap::Turn::cancels() {
    if (step_ == Step::Client) return above_.cancels();
    canceled_ = true;
    return false;
}

tpm::Exchange Swap::Turn::settle(tpm::Exchange step) {
    while (passing_) {
        passing_ = false;
        step = take(above_.answered(answerSize_));
    }
    return step;
}

tpm::Exchange Swap::Turn::pass(size_t size) {
    passing_ = true;
    answerSize_ = size;
    return tpm::Exchange::none();
}

tpm::Exchange Swap::Turn::refuse(TPM2_RC code) {
    return pass(
        wire::putCode(wire::ResponseBuffer(command_.response, wire::kMaxResponseSize), code));
}

// ---- Reading the command ------------------------------------------------------------------------

tpm::Exchange Swap::Turn::take(const tpm::Exchange& exchange) {
    command_ = exchange;
    objects_.count = sessions_.count = 0;
    objectRoom_ = sessionRoom_ = 0;
    flushed_ = 0;
    dueTried_ = staleTried_ = canceled_ = answered_ = false;
    incoming_ = SavedContext();
    renewBelow_ = 0;
    foreseen_ = false;
    moves_ = busy_ = 0;
    warning_ = tpm::kNoMemory;
    swap_.leftovers_.forgetLook();
    if (exchange.nothing()) return exchange;
    if (!command().hasCommandTag()) return sendClient();
    if (command().code() == TPM2_CC_FlushContext) return takeFlush();
    if (!reserve()) return refuse(tpm::kNoMemory);
    if (const Session* session = dueSession()) return answerContextLoad(session->handle);
    readNames();
    if (command_.purpose == tpm::Purpose::Presence && isOut()) return refuse(TPM2_RC_INSUFFICIENT);
    readNeeds();
    swap_.adaptToManager(objectRoom_, sessionRoom_);
    foreseeGap();
    return next();
}

/// Whatever the command makes must find its place when it is there.
bool Swap::Turn::reserve() {
    if (!command_.attributes.responseHandle) return true;
    try {
        contents_.reserveObject();
        contents_.reserveSession();
        if (command().code() == TPM2_CC_ContextLoad) readContextLoad();
    } catch (const std::bad_alloc&) {
        return false;
    }
    return true;
}

void Swap::Turn::readNames() {
    const size_t handles = command_.attributes.handles;
    for (size_t i = 0; i < command().handlesPresent(handles); ++i) {
        const TPM2_HANDLE handle = command().handle(i);
        if (Contents::isGiven(handle)) objects_.add({handle, i});
        if (wire::isSession(handle)) sessions_.add({handle, i});
    }
    objectRoom_ += command().persistent(handles);
    const wire::AuthorizationArea area = command().authorizations(handles);
    for (size_t i = 0; i < area.count; ++i) {
        const wire::Authorization& entry = area.entries[i];
        if (wire::isSession(entry.handle))
            sessions_.add({entry.handle, i, true, !entry.continueSession});
    }
}

/// What the command names first is not in the TPM: as far as we know it would come when called.
bool Swap::Turn::isOut() {
    if (objects_.count > 0) {
        const Object* object = contents_.findObject(objects_.items[0].handle);
        return object != nullptr && object->physical == 0;
    }
    if (sessions_.count == 0) return false;
    const Session* session = contents_.findSession(sessions_.items[0].handle);
    return session != nullptr && session->place == Session::Place::Out;
}

/// A new object needs a slot, and so does Create for its work; a new session needs one of its kind.
/// What cannot be executed, a probe or a context that is cut, needs nothing.
void Swap::Turn::readNeeds() {
    if (command().hasSessions() && command().authorizations(command_.attributes.handles).count == 0)
        return;
    const TPM2_CC code = command().code();
    if (code == TPM2_CC_ContextLoad) {
        const wire::Context context(incoming_.bytes());
        if (!context.empty())
            ++(wire::isSession(context.savedHandle()) ? sessionRoom_ : objectRoom_);
    } else if (code == TPM2_CC_StartAuthSession) {
        ++sessionRoom_;
    } else if (code == TPM2_CC_Create || command_.attributes.responseHandle) {
        ++objectRoom_;
    }
}

/// Keeps the context that is to be loaded: an object's serves for swapping it later, a session's
/// may have been renewed since the client got it.
void Swap::Turn::readContextLoad() {
    const wire::Context context(command().parameters(0));
    if (context.empty()) return;
    incoming_ = SavedContext(context.bytes());
}

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
                     session->clientContext == incoming_.bytes() && !command().hasSessions() &&
                     command().size() == wire::kHeaderSize + incoming_.bytes().size();
    return due ? session : nullptr;
}

/// The session is where its client wants it, and is as if it had been loaded from its context.
tpm::Exchange Swap::Turn::answerContextLoad(TPM2_HANDLE handle) {
    Session& session = *contents_.findSession(handle);
    session.place = Session::Place::Loaded;
    session.clientContext = SavedContext();
    swap_.sessionPolicy_.used(session.use);
    return pass(wire::putHandleResponse(
        wire::ResponseBuffer(command_.response, wire::kMaxResponseSize), handle));
}

tpm::Exchange Swap::Turn::takeFlush() {
    if (command().hasSessions() || command().handlesPresent(1) == 0) return sendClient();
    const TPM2_HANDLE handle = command().handle(0);
    if (wire::isSession(handle)) flushed_ = handle;
    if (!Contents::isGiven(handle)) return sendClient();
    if (command().size() > wire::kHeaderSize + wire::kHandleSize) return refuse(TPM2_RC_SIZE);
    const Object* object = contents_.findObject(handle);
    if (object == nullptr) return refuse(wire::forParameter(TPM2_RC_HANDLE, 0));
    flushed_ = handle;
    if (object->physical == 0) {
        contents_.removeObject(handle);
        return refuse(TPM2_RC_SUCCESS);
    }
    command().setHandle(0, object->physical);
    return sendClient();
}

// ---- What is missing ----------------------------------------------------------------------------

tpm::Exchange Swap::Turn::next() {
    if (const auto step = staleMissing()) return *step;
    if (const TPM2_HANDLE object = contents_.unsettledObject(); object != 0 && !answered_)
        return send(Step::FlushObject, TPM2_CC_FlushContext, object,
                    contents_.findObject(object)->physical);
    if (answered_) return pass(answerSize_);
    if (canceled_) return refuse(TPM2_RC_CANCELED);
    if (moves_ > kMostMoves) return refuse(warning_);
    if (const auto step = renewalMissing()) return *step;
    for (const Named& named : objects_)
        if (const auto step = objectMissing(named)) return *step;
    for (const Named& named : sessions_)
        if (const auto step = sessionMissing(named)) return *step;
    if (objectRoom_ > 0 && !swap_.objectSlots_.roomFor(contents_.residents().size(), objectRoom_))
        if (const auto step = makeObjectRoom()) return *step;
    if (sessionRoom_ > 0 && !swap_.sessionSlots_.roomFor(contents_.loadedSessions(), sessionRoom_))
        if (const auto step = makeSessionRoom()) return *step;
    return sendClient();
}

Swap::Turn::MaybeExchange Swap::Turn::objectMissing(const Named& named) {
    const Object* object = contents_.findObject(named.handle);
    if (object == nullptr)
        return refuse(TPM2_RC_REFERENCE_H0 + static_cast<TPM2_RC>(named.position));
    if (object->physical != 0) return std::nullopt;
    if (!swap_.objectSlots_.roomFor(contents_.residents().size(), 1))
        if (const auto step = makeObjectRoom()) return step;
    return sendLoad(Step::LoadObject, named.handle, object->context);
}

Swap::Turn::MaybeExchange Swap::Turn::sessionMissing(const Named& named) {
    const Session* session = contents_.findSession(named.handle);
    if (session == nullptr || session->place != Session::Place::Out) return std::nullopt;
    // It must stay out: the TPM refuses the command, and what comes before that is its own to say.
    if (swap_.shutDown_) return std::nullopt;
    if (!swap_.sessionSlots_.roomFor(contents_.loadedSessions(), 1))
        if (const auto step = makeSessionRoom()) return step;
    return sendLoad(Step::LoadSession, named.handle, session->context);
}

bool Swap::Turn::isNamed(TPM2_HANDLE handle) {
    const auto is = [&](const Named& named) {
        return wire::isSession(handle) ? wire::indexOf(named.handle) == wire::indexOf(handle)
                                       : named.handle == handle;
    };
    return wire::isSession(handle) ? std::any_of(sessions_.begin(), sessions_.end(), is)
                                   : std::any_of(objects_.begin(), objects_.end(), is);
}

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

/// After Startup the TPM may still hold, as saved, the sessions that we had moved out; to its
/// client each of them was loaded and is lost.
Swap::Turn::MaybeExchange Swap::Turn::staleMissing() {
    const bool useless = staleTried_ || (command().code() == TPM2_CC_Startup && !answered_);
    for (const Session& session : contents_.sessions())
        if (session.stale && !useless)
            return send(Step::FlushSession, TPM2_CC_FlushContext, session.handle, session.handle);
    return std::nullopt;
}

/// Contexts outlive it after an orderly Shutdown(STATE) only.
void Swap::Turn::noteStartup() {
    const bool orderly = swap_.shutDown_ == TPM2_SU_STATE || swap_.maybeShutDown_;
    swap_.tpmStopped();
    swap_.stopped_ = swap_.maybeShutDown_ = false;
    swap_.shutDown_.reset();
    if (!orderly) contents_.removeAllSessions();
}

/// Something that was loaded is missing. When there is nothing left, that was a Startup which we
/// did not see, and what Shutdown had prepared is over.
void Swap::Turn::noteLoss() {
    if (contents_.allAreOut()) swap_.shutDown_.reset();
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

// ---- Exchanges below ----------------------------------------------------------------------------

tpm::Exchange Swap::Turn::sendClient() {
    step_ = Step::Client;
    tpm::Exchange exchange = command_;
    for (const Named& named : objects_)
        command().setHandle(named.position, contents_.findObject(named.handle)->physical);
    if (const Session* session = renewedSession()) {
        const wire::Bytes renewed = session->context.bytes();
        const wire::Bytes trailing = command().parameters(0).subspan(incoming_.bytes().size());
        const size_t size = wire::kHeaderSize + renewed.size() + trailing.size();
        if (size <= swap_.command_.size()) {
            wire::putHeader(swap_.command_.data(), command().tag(), size, command().code());
            uint8_t* at = &swap_.command_[wire::kHeaderSize];
            std::copy(trailing.begin(), trailing.end(),
                      std::copy(renewed.begin(), renewed.end(), at));
            exchange.command = {swap_.command_.data(), size};
        }
    }
    return exchange;
}

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

tpm::Exchange Swap::Turn::sendMove(size_t size) {
    ++moves_;
    tpm::Exchange move;
    move.command = {swap_.command_.data(), size};
    move.response = swap_.response_.data();
    move.purpose = tpm::Purpose::Move;
    return move;
}

// ---- Answers to the command ---------------------------------------------------------------------

tpm::Exchange Swap::Turn::clientAnswered(size_t size) {
    const wire::Response response({command_.response, size});
    if (!response.succeeded()) return clientRefused(response.code(), size);
    clientSucceeded(response);
    answered_ = true;
    answerSize_ = size;
    return next();
}

tpm::Exchange Swap::Turn::clientRefused(TPM2_RC code, size_t size) {
    if (moves_ > kMostMoves) return pass(size);
    if (code == TPM2_RC_OBJECT_MEMORY) {
        swap_.objectSlots_.failed(contents_.residents().size(), objectRoom_);
        if (const auto step = makeObjectRoom()) return *step;
        if (const auto look = lookForLeftovers(code)) return *look;
    } else if (code == TPM2_RC_SESSION_MEMORY) {
        swap_.sessionSlots_.failed(contents_.loadedSessions(), sessionRoom_);
        if (const auto step = makeSessionRoom()) return *step;
        if (const auto look = lookForLeftovers(code)) return *look;
    } else if (code == TPM2_RC_CONTEXT_GAP) {
        warning_ = code;
        if (startRenewing()) return next();
    } else if (code == TPM2_RC_INITIALIZE && command().code() != TPM2_CC_Startup) {
        swap_.tpmStopped();
    } else if (code == wire::forParameter(TPM2_RC_HANDLE, 0) && flushed_ != 0) {
        const Object* object = contents_.findObject(flushed_);
        const bool outside = object != nullptr && object->clean();  // as if it had been moved out
        if (wire::isSession(flushed_))
            contents_.removeSession(flushed_);
        else
            contents_.removeObject(flushed_);
        if (outside) return refuse(TPM2_RC_SUCCESS);
    }
    for (const Named& named : objects_) {
        if (code != TPM2_RC_REFERENCE_H0 + named.position || !contents_.findObject(named.handle))
            continue;
        // Somebody else flushed it. Its context, if there is one, tells whether it may live.
        contents_.becomeAbsent(named.handle);
        noteLoss();
        if (contents_.findObject(named.handle) != nullptr) return next();
    }
    for (const Named& named : sessions_) {
        const Session* session = contents_.findSession(named.handle);
        const TPM2_RC absent = named.authorizes ? TPM2_RC_REFERENCE_S0 : TPM2_RC_REFERENCE_H0;
        if (code != absent + named.position || session == nullptr) continue;
        if (session->place == Session::Place::Out) return refuse(TPM2_RC_SESSION_MEMORY);
        // One that its client saved is rightly absent, and its context may be renewed yet.
        if (session->place != Session::Place::Loaded) continue;
        loseSession(*contents_.findSession(named.handle));
        noteLoss();
    }
    return pass(size);
}

void Swap::Turn::clientSucceeded(wire::Response response) {
    if (command().code() != TPM2_CC_Startup && std::exchange(swap_.stopped_, false))
        swap_.shutDown_.reset();  // somebody else has started it
    useNamed();
    endSessions();
    if (command_.attributes.responseHandle && response.hasHandle()) adopt(response);
    noteByCode(response);
}

void Swap::Turn::useNamed() {
    const TPM2_CC code = command().code();
    for (const Named& named : objects_) {
        Object& object = *contents_.findObject(named.handle);
        swap_.objectPolicy_.used(object.use);
        if (code != TPM2_CC_ContextSave && code != TPM2_CC_ReadPublic)
            object.changed |= object.sequence;
    }
    for (const Named& named : sessions_)
        if (Session* session = contents_.findSession(named.handle)) {
            swap_.sessionPolicy_.used(session->use);
            session->uncertain = false;
        }
}

void Swap::Turn::endSessions() {
    for (const Named& named : sessions_)
        if (named.ending) contents_.removeSession(named.handle);
    for (const Named& named : objects_)
        if (named.position == command_.attributes.flushedHandle)
            contents_.removeObject(named.handle);
}

void Swap::Turn::adopt(wire::Response& response) {
    const TPM2_HANDLE physical = response.handle();
    const TPM2_CC code = command().code();
    if (wire::isTransient(physical)) {
        const TPM2_HANDLE given = contents_.addObject(physical, command_.hierarchy);
        swap_.objectSlots_.worked(contents_.residents().size());
        response.setHandle(given);
        Object& object = *contents_.findObject(given);
        swap_.objectPolicy_.used(object.use);
        object.sequence = code == TPM2_CC_HashSequenceStart || code == TPM2_CC_HMAC_Start;
        if (code != TPM2_CC_ContextLoad || incoming_.empty()) return;
        object.sequence = wire::Context(incoming_.bytes()).savedHandle() == wire::kSavedSequence;
        object.context = std::move(incoming_);
    } else if (wire::isSession(physical)) {
        swap_.sessionPolicy_.used(contents_.addSession(physical).use);
        swap_.sessionSlots_.worked(contents_.loadedSessions());
        if (code == TPM2_CC_ContextLoad) swap_.shutDown_.reset();  // the client spoilt it itself
    }
}

/// The client's own ContextSave. An object's context is as good as one of ours; a session is out of
/// the TPM now, and its context is kept for the day it has to be renewed.
void Swap::Turn::noteSaved(wire::Response response) {
    swap_.shutDown_.reset();  // the client spoilt it itself
    const wire::Context context(response.parameters());
    if (context.empty()) return;
    SavedContext saved;
    try {
        saved = SavedContext(context.bytes());
    } catch (const std::bad_alloc&) {
        LOG_WARNING("No memory to remember a context that was saved");
    }
    if (objects_.count > 0) {
        Object& object = *contents_.findObject(objects_.items[0].handle);
        object.hierarchy = wire::baseHierarchy(context.hierarchy());
        if (object.clean() || saved.empty()) return;
        object.context = std::move(saved);
        object.changed = false;
        return;
    }
    Session* session =
        sessions_.count > 0 ? contents_.findSession(sessions_.items[0].handle) : nullptr;
    if (session == nullptr) return;
    session->place = Session::Place::Client;
    session->sequence = context.sequence();
    session->context = std::move(saved);
    session->clientContext = SavedContext();
    swap_.noteSequence(context.sequence());
}

/// Only Shutdown writes down which sessions there are: one that was saved at that time, and flushed
/// since, is there again after Startup, and is flushed then.
void Swap::Turn::noteFlushedSession() {
    const Session* session = contents_.findSession(flushed_);
    const bool comesBack = swap_.shutDown_ && session != nullptr && !session->inTpm();
    if (!comesBack || session->place == Session::Place::Client) contents_.removeSession(flushed_);
}

void Swap::Turn::noteByCode(wire::Response response) {
    switch (command().code()) {
        case TPM2_CC_ContextSave:
            noteSaved(response);
            break;
        case TPM2_CC_FlushContext:
            if (wire::isSession(flushed_))
                noteFlushedSession();
            else if (flushed_ != 0)
                contents_.removeObject(flushed_);
            break;
        case TPM2_CC_Shutdown:
            swap_.shutDown_ = command().startupType();
            break;
        case TPM2_CC_Startup:
            noteStartup();
            break;
        default:
            for (const TPM2_HANDLE hierarchy :
                 wire::flushedHierarchies(command(), command_.attributes.handles))
                contents_.removeHierarchy(hierarchy);
            break;
    }
}

/// Nothing of ours can leave, and still a slot is wanted.
Swap::Turn::MaybeExchange Swap::Turn::lookForLeftovers(TPM2_RC code) {
    if (swap_.isResourceManager()) return std::nullopt;
    const size_t ours =
        code == TPM2_RC_OBJECT_MEMORY ? contents_.residents().size() : contents_.loadedSessions();
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

// ---- Answers to moves ---------------------------------------------------------------------------

tpm::Exchange Swap::Turn::moved(size_t size) {
    busy_ = 0;
    switch (step_) {
        case Step::SaveObject:
            ++traffic_.saves;
            if (!keepObject(size)) return refuse(tpm::kNoMemory);
            return send(Step::FlushObject, TPM2_CC_FlushContext, moving_,
                        contents_.findObject(moving_)->physical);
        case Step::FlushObject:
            ++traffic_.flushes;
            contents_.becomeAbsent(moving_);
            swap_.objectSlots_.evicted();
            return next();
        case Step::LoadObject:
            ++traffic_.loads;
            if (!wire::Response({swap_.response_.data(), size}).hasHandle())
                return refuse(tpm::kNoAnswer);
            contents_.becomeResident(moving_,
                                     wire::Response({swap_.response_.data(), size}).handle());
            swap_.objectSlots_.worked(contents_.residents().size());
            return next();
        case Step::SaveSession:
            ++traffic_.saves;
            keepSession(Session::Place::Out, size);
            swap_.sessionSlots_.evicted();
            return next();
        case Step::LoadSession: {
            ++traffic_.loads;
            Session& session = *contents_.findSession(moving_);
            session.place = Session::Place::Loaded;
            session.uncertain = session.doubtful = false;
            session.context = SavedContext();
            swap_.sessionSlots_.worked(contents_.loadedSessions());
            return next();
        }
        case Step::RenewLoad:
            ++traffic_.loads;
            noteRenewLoad();
            return send(Step::RenewSave, TPM2_CC_ContextSave, moving_, moving_);
        case Step::RenewSave:
            ++traffic_.saves;
            keepRenewed(size);
            return next();
        case Step::FlushSession:
            ++traffic_.flushes;
            contents_.removeSession(moving_);
            return next();
        case Step::Client:
        case Step::Leftovers:
            break;
    }
    return tpm::Exchange::none();
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
