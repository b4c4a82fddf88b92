// SPDX-License-Identifier: BSD-2-Clause
// A turn, step by step; see turn.h and swap.h.
#include "swap/turn.h"

#include <algorithm>
#include <new>
#include <utility>

#include "log/log.h"
#include "wire/flushed_hierarchies.h"
#include "wire/handle.h"

namespace spaces::swap {
namespace {

constexpr unsigned kMostMoves = 400;  // for one command: every session renewed, twice over

}  // namespace

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
void Swap::Turn::noteUnknown() {
    switch (step_) {
        case Step::SaveSession:
        case Step::LoadSession:
        case Step::RenewLoad:
        case Step::RenewSave:
            if (Session* session = contents_.findSession(moving_)) session->uncertain = true;
            break;
        case Step::FlushObject:
            if (Object* object = contents_.findObject(moving_)) object->uncertain = true;
            break;
        case Step::Client:
            if (command().code() == TPM2_CC_Shutdown)
                swap_.maybeShutDown_ = command().startupType() == TPM2_SU_STATE;
            // If the session whose context its client loads is loaded now, it is saved again.
            if (Session* session = incomingSession())
                session->uncertain = session->place == Session::Place::Client;
            break;
        default:
            break;
    }
}

void Swap::Turn::failed(TSS2_RC rc) {
    noteUnknown();
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
    if (Session* session = dueSession()) return answerContextLoad(*session);
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
    // Before Startup the TPM does nothing else, and after it there is no such object.
    const bool settling = !answered_ && command().code() != TPM2_CC_Startup;
    if (const TPM2_HANDLE object = contents_.unsettledObject(); object != 0 && settling)
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

// ---- The command on its way ---------------------------------------------------------------------

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
        swap_.voidShutdown();  // somebody else has started it
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
        if (code == TPM2_CC_ContextLoad) swap_.voidShutdown();  // the client did it itself
    }
}

/// The client's own ContextSave. An object's context is as good as one of ours; a session is out of
/// the TPM now, and its context is kept for the day it has to be renewed.
void Swap::Turn::noteSaved(wire::Response response) {
    swap_.voidShutdown();  // the client did it itself
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

}  // namespace spaces::swap
