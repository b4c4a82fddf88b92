// SPDX-License-Identifier: BSD-2-Clause
// The way of a command through a space; see space.h. In the order in which it happens: handed
// over, prepared, answered, closed.
#include "space/space.h"

#include <algorithm>
#include <new>
#include <utility>

#include "log/log.h"
#include "space/creation.h"
#include "wire/context.h"
#include "wire/flushed_hierarchies.h"
#include "wire/handle.h"

namespace spaces::space {
namespace {

constexpr size_t kFlushSize = wire::kHeaderSize + wire::kHandleSize;

/// What the client gets when the child TCTI says this; the log has the child's code.
TPM2_RC codeOfFailure(TSS2_RC rc) {
    return (rc & ~TSS2_RC_LAYER_MASK) == TSS2_BASE_RC_MEMORY ? tpm::kNoMemory : tpm::kNoAnswer;
}

}  // namespace

tpm::Purpose Space::purposeOf(Phase phase) {
    switch (phase) {
        case Phase::Command:
            return tpm::Purpose::Client;
        case Phase::Presence:
            return tpm::Purpose::Presence;
        case Phase::Closing:
            return tpm::Purpose::Flush;
        default:
            return tpm::Purpose::Question;
    }
}

Space::Space(tpm::Tpm& tpm, Ownership& ownership)
    : tpm_(tpm), ownership_(ownership), channel_(tpm.open(*this)) {
    ++ownership_.spaces;
}

Space::~Space() { close(); }

// ---- The client's side --------------------------------------------------------------------------

void Space::start(wire::Bytes command) {
    ++statistics_.clientCommands;
    commandSize_ = std::min<size_t>(command.size(), command_.size());
    std::copy_n(command.data(), commandSize_, command_.data());
    oversized_ = command.size() > command_.size();
    phase_ = Phase::Command;
    inTurn_ = true;
    channel_->submit();
}

bool Space::wait(int32_t timeout) {
    if (inTurn_ && !channel_->wait(timeout)) return false;
    inTurn_ = false;
    return true;
}

void Space::fetched() {
    unfetched_ = 0;
    channel_->taken();
}

TSS2_RC Space::cancel() { return inTurn_ ? channel_->cancel() : TSS2_RC_SUCCESS; }

TSS2_RC Space::setLocality(uint8_t locality) {
    const TSS2_RC rc = channel_->tryLocality(locality);
    if (rc == TSS2_RC_SUCCESS) locality_ = locality;
    return rc;
}

// ---- A turn -------------------------------------------------------------------------------------

tpm::Exchange Space::begin() {
    ownership_.enterEpoch(tpm_.epoch());
    return closing_ ? nextFlush() : beginCommand();
}

tpm::Exchange Space::answered(size_t size) {
    noteNotStarted();
    const tpm::Exchange next = phaseAnswered(size);
    if (!tpm_.makesRoom()) ownership_.traceSlots();
    return next;
}

tpm::Exchange Space::phaseAnswered(size_t size) {
    switch (phase_) {
        case Phase::Command:
            return commandAnswered(size);
        case Phase::Handles:
            return handlesAnswered();
        case Phase::CodeExists:
            return codeExistsAnswered();
        case Phase::CodeHandles:
            return codeHandlesAnswered(size);
        case Phase::Presence:
            return presenceAnswered();
        case Phase::Leftovers:
            return leftoversAnswered(size);
        case Phase::Closing:
            return flushAnswered();
    }
    return tpm::Exchange::none();
}

/// Not started: everything that was loaded is lost, whoever learns it. Startup itself says so of a
/// TPM that runs.
void Space::noteNotStarted() {
    const bool unseen =
        phase_ == Phase::Presence || phase_ == Phase::Leftovers || phase_ == Phase::Closing;
    wire::Response response({unseen ? ownership_.scratch() : response_.data(), wire::kHeaderSize});
    const bool startup = phase_ == Phase::Command && command().code() == TPM2_CC_Startup;
    if (response.code() == TPM2_RC_INITIALIZE && !startup) ownership_.tpmRestarted(false);
}

void Space::failed(TSS2_RC rc) {
    if (closing_) {
        // The connection may have been broken for long: that shows at the first use, and the next
        // one makes a new connection. One that could not be made is not waited for again. The first
        // use may have been to set the locality.
        const bool used = channel_->traffic().commands > sentBefore_ || locality_ != 0;
        closeAgain_ = !closeAgain_ && used;
        if (closeAgain_) return;
        LOG_WARNING("The space could not be emptied: objects or sessions may be left in the TPM");
        ownership_.forget(holding_);
    } else if (!isAnswered()) {
        if (phase_ == Phase::Command) noteUnknown();
        answer(codeOfFailure(rc));
    } else {
        finish();
    }
}

/// The TPM may have carried out the client's command, or not.
void Space::noteUnknown() {
    switch (command().code()) {
        case TPM2_CC_ContextSave:
            ownership_.markUnsure(plan_.named[0], true);
            break;
        case TPM2_CC_ContextLoad:
            if (const Session* session = returningSession())
                ownership_.markUnsure(session->handle, true);
            break;
        case TPM2_CC_Shutdown:
            ownership_.shutdownState |= command().startupType() == TPM2_SU_STATE;
            break;
        default:
            break;
    }
}

/// The client's response is made; what is under way can add nothing to it, or replace it.
bool Space::isAnswered() const { return phase_ == Phase::Presence || phase_ == Phase::Leftovers; }

void Space::canceled() {
    if (!isAnswered()) answer(TPM2_RC_CANCELED);
    finish();
}

bool Space::cancels() { return phase_ != Phase::Presence && phase_ != Phase::Closing; }

tpm::Exchange Space::exchange(Phase phase, wire::MutableBytes bytes, uint8_t* response,
                              const wire::CommandAttributes& attributes) {
    phase_ = phase;
    return {bytes, response, attributes, 0, purposeOf(phase)};
}

tpm::Exchange Space::sendCommand() {
    tpm::Exchange next = exchange(Phase::Command, {command_.data(), commandSize_}, response_.data(),
                                  plan_.attributes);
    next.hierarchy = plan_.hierarchy;
    return next;
}

/// Answers the client's command here. Returns the end of the turn.
tpm::Exchange Space::answer(TPM2_RC code) {
    responseSize_ = wire::putCode(buffer(), code);
    return tpm::Exchange::none();
}

// ---- Before the command is sent -----------------------------------------------------------------

tpm::Exchange Space::beginCommand() {
    plan_ = Plan{};
    ownership_.leftovers.forgetLook();
    if (!command().hasCommandTag()) {
        // The TPM reads nothing but the tag, and refuses: what else is there need not reach it.
        // A resource manager would look for the handles of the code, so it gets one without.
        const TPM2_CC code = tpm_.isResourceManager() ? TPM2_CC_GetTestResult : command().code();
        commandSize_ = wire::kHeaderSize;
        wire::putHeader(command_.data(), command().tag(), commandSize_, code);
        return sendCommand();
    }
    // Too large for any TPM, which says so after it has looked at the tag alone.
    if (oversized_) return answer(TPM2_RC_COMMAND_SIZE);
    auto attributes = wire::findCommand(command().code());
    if (!attributes) attributes = ownership_.findLearned(command().code());
    return attributes ? prepare(*attributes) : askForCode();
}

tpm::Exchange Space::prepare(const wire::CommandAttributes& attributes) {
    plan_.attributes = attributes;
    plan_.handles = command().handlesPresent(attributes.handles);
    if (command().code() == TPM2_CC_FlushContext) return prepareFlush();
    if (attributes.responseHandle) {
        // Whatever the command makes must find its place when it is there.
        try {
            ownership_.reserveObject(holding_);
            ownership_.reserveSession();
        } catch (const std::bad_alloc&) {
            return answer(tpm::kNoMemory);
        }
        plan_.hierarchy = hierarchyOfNew(command(), attributes.handles, holding_);
    }
    if (command().code() == TPM2_CC_GetCapability && !command().hasSessions())
        plan_.query = wire::readCapabilityQuery(command().parameters(0));

    size_t absent = 0;
    Claim why = Claim::Absent;
    if (!mapHandles(absent, why)) return probeHandles(absent, why);
    if (tpm_.isResourceManager() && plan_.handles < attributes.handles)
        return answer(wire::forHandle(TPM2_RC_INSUFFICIENT, plan_.handles));
    guardSessions();
    return sendCommand();
}

Space::Claim Space::claim(TPM2_HANDLE handle) const {
    const uint32_t index = wire::indexOf(handle);
    if (wire::isTransient(handle)) {
        if (holding_.find(handle) != nullptr) return Claim::Own;
        const uint32_t range = std::max(ownership_.transientSlots, holding_.everUsed());
        return index < range ? Claim::Absent : Claim::OutOfRange;
    }
    if (wire::isSession(handle)) {
        const Session* session = ownership_.findSession(holding_, handle);
        if (session != nullptr && !session->saved) return Claim::Own;
        return index < ownership_.sessionSlots ? Claim::Absent : Claim::OutOfRange;
    }
    return Claim::NotOurs;
}

/// Replaces the handles in the handle area. False if the one at `absent` must not reach the TPM.
bool Space::mapHandles(size_t& absent, Claim& why) {
    for (size_t i = 0; i < plan_.handles; ++i) {
        const TPM2_HANDLE handle = command().handle(i);
        const Claim whose = claim(handle);
        if (whose == Claim::Own) {
            plan_.named[i] = handle;
            if (wire::isTransient(handle)) command().setHandle(i, holding_.find(handle)->physical);
        } else if (whose == Claim::OutOfRange && !tpm_.isResourceManager()) {
            command().setHandle(i, wire::poisonOf(handle));
        } else if (whose != Claim::NotOurs) {
            absent = i;
            why = whose;
            return false;
        }
    }
    return true;
}

tpm::Exchange Space::probeHandles(size_t absent, Claim why) {
    plan_.absent = absent;
    plan_.verdict = why == Claim::Absent ? TPM2_RC_REFERENCE_H0 + static_cast<TPM2_RC>(absent)
                                         : wire::forHandle(TPM2_RC_VALUE, absent);
    probe_.ofHandles(command(), plan_.attributes.handles);
    if (tpm_.isResourceManager()) {
        if (!probeForResourceManager(absent)) return answer(plan_.verdict);
    } else {
        for (size_t i = absent; i < plan_.handles; ++i) {
            const TPM2_HANDLE handle = command().handle(i);
            const Claim whose = claim(handle);
            if (whose == Claim::OutOfRange) probe_.setHandle(i, wire::poisonOf(handle));
            // From here on the type alone matters, whether loaded or not.
            else if (wire::isTransient(handle))
                probe_.setHandle(i, TPM2_TRANSIENT_FIRST);
        }
    }
    return exchange(Phase::Handles, probe_.bytes(), response_.data(),
                    {static_cast<uint8_t>(absent)});
}

/// Makes the probe fit for a child that refuses handles it never gave out: a persistent handle
/// stands for each, which is of the same type to almost every command. False if it cannot.
bool Space::probeForResourceManager(size_t absent) {
    constexpr TPM2_HANDLE kStandIn = TPM2_PERSISTENT_FIRST + wire::kIndexMask;
    if (plan_.handles < plan_.attributes.handles) return false;
    if (command().code() == TPM2_CC_ContextSave) return false;
    for (size_t i = absent; i < plan_.handles; ++i) {
        const TPM2_HANDLE handle = command().handle(i);
        if (wire::isTransient(handle)) probe_.setHandle(i, kStandIn);
    }
    return true;
}

/// Looks at the sessions of the authorisation area. The first that is not the space's own is
/// replaced; the command cannot be executed then, so what stands behind it does not matter.
void Space::guardSessions() {
    wire::AuthorizationArea area = command().authorizations(plan_.attributes.handles);
    for (size_t i = 0; i < area.count; ++i) {
        wire::Authorization& entry = area.entries[i];
        if (!wire::isSession(entry.handle)) continue;
        const Claim whose = claim(entry.handle);
        if (whose == Claim::Own) {
            plan_.sessions[i] = entry.handle;
            plan_.ending[i] = !entry.continueSession;
            continue;
        }
        if (whose == Claim::Absent) {
            // A malformed entry is noticed before its session is looked for.
            plan_.poisonAnswer = wire::forSession(TPM2_RC_VALUE, i);
            plan_.poisonMeaning = entry.defect == TPM2_RC_SUCCESS
                                      ? TPM2_RC_REFERENCE_S0 + static_cast<TPM2_RC>(i)
                                      : wire::forSession(entry.defect, i);
        }
        entry.setHandle(wire::poisonOf(entry.handle));
        return;
    }
}

/// FlushContext names what to flush in a parameter (Part 3, 28.4), saved sessions included.
tpm::Exchange Space::prepareFlush() {
    // Sessions are not allowed: with them the TPM never comes to the parameter. Resource managers
    // take what stands there for a handle all the same.
    if (command().hasSessions()) {
        if (!tpm_.isResourceManager()) return sendCommand();
        const TPM2_RC defect = command().authorizationSizeDefect(0);
        return answer(defect != TPM2_RC_SUCCESS ? defect : TPM2_RC_AUTH_CONTEXT);
    }
    if (command().handlesPresent(1) == 0)
        return tpm_.isResourceManager() ? answer(wire::forParameter(TPM2_RC_INSUFFICIENT, 0))
                                        : sendCommand();
    const TPM2_HANDLE handle = command().handle(0);
    const Claim whose = claim(handle);
    const bool own = whose == Claim::Own || ownership_.findSession(holding_, handle) != nullptr;
    if (whose == Claim::NotOurs) return sendCommand();
    if (own) {
        plan_.flushed = handle;
        if (wire::isTransient(handle)) command().setHandle(0, holding_.find(handle)->physical);
        return sendCommand();
    }
    plan_.poisonAnswer = wire::forParameter(TPM2_RC_VALUE, 0);
    if (whose == Claim::Absent) {
        const bool trailing = commandSize_ > kFlushSize;
        plan_.poisonMeaning = trailing ? TPM2_RC_SIZE : wire::forParameter(TPM2_RC_HANDLE, 0);
    }
    if (tpm_.isResourceManager() && wire::isTransient(handle))
        return answer(whose == Claim::Absent ? plan_.poisonMeaning : plan_.poisonAnswer);
    command().setHandle(0, wire::poisonOf(handle));
    return sendCommand();
}

/// A code that the table does not have. Most such codes do not exist; that is asked first, with
/// a probe, because GetCapability would end an exclusive audit session for a mere typing error.
tpm::Exchange Space::askForCode() {
    // A resource manager refuses such a probe for want of handles.
    if (tpm_.isResourceManager()) return askForHandles();
    probe_.ofCode(command().code());
    return exchange(Phase::CodeExists, probe_.bytes(), response_.data());
}

tpm::Exchange Space::codeExistsAnswered() {
    const TPM2_RC code = wire::Response(response_).code();
    if (!handlesAcceptable(code) && !wire::isHandleError(code)) return answer(code);
    return askForHandles();
}

tpm::Exchange Space::askForHandles() {
    const wire::MutableBytes query =
        wire::putCapabilityQuery(ownership_.scratch(), {TPM2_CAP_COMMANDS, command().code(), 1});
    return exchange(Phase::CodeHandles, query, response_.data());
}

tpm::Exchange Space::codeHandlesAnswered(size_t size) {
    wire::Response response({response_.data(), size});
    if (!response.succeeded()) return answer(response.code());
    const wire::CapabilityList list({response_.data(), size});
    constexpr uint32_t kCodeMask = TPMA_CC_COMMANDINDEX_MASK | TPMA_CC_V;
    if (list.count() == 0 || (list.entry(0) & kCodeMask) != (command().code() & kCodeMask))
        return answer(TPM2_RC_COMMAND_CODE);
    const auto attributes = wire::attributesFrom(list.entry(0));
    try {
        ownership_.learn(command().code(), attributes);
    } catch (const std::bad_alloc&) {
        return answer(tpm::kNoMemory);
    }
    return prepare(attributes);
}

// ---- After a response ---------------------------------------------------------------------------

tpm::Exchange Space::handlesAnswered() {
    const TPM2_RC code = wire::Response(response_).code();
    const TPM2_RC meaning = precedence(code, command(), plan_.absent, plan_.verdict);
    if (meaning == code) refused(code);
    answer(meaning);
    return nextSuspect();
}

tpm::Exchange Space::commandAnswered(size_t size) {
    responseSize_ = size;
    const TPM2_RC code = wire::Response({response_.data(), size}).code();
    if (code == TPM2_RC_SUCCESS) {
        succeeded(size);
    } else if (code == plan_.poisonAnswer && plan_.poisonMeaning != 0) {
        answer(plan_.poisonMeaning);
    } else if (isWorthLooking(code)) {
        phase_ = Phase::Leftovers;
        return ownership_.leftovers.begin(ownership_.scratch());
    } else {
        refused(code);
    }
    return nextSuspect();
}

/// Something that is not ours may have taken the slot that the command needs. Where there is
/// swapping, that looks for itself, and a resource manager shows us nothing else.
bool Space::isWorthLooking(TPM2_RC code) {
    if (tpm_.makesRoom() || tpm_.isResourceManager()) return false;
    const size_t ours = code == TPM2_RC_OBJECT_MEMORY
                            ? ownership_.countObjects() + command().persistent(plan_.handles)
                            : ownership_.countLoadedSessions();
    return ownership_.leftovers.areWorthALook(code, ours);
}

/// The client's command is as it was sent, and so is the refusal that it got.
tpm::Exchange Space::leftoversAnswered(size_t size) {
    const auto isOurs = [this](TPM2_HANDLE physical) { return ownership_.isOurs(physical); };
    const tpm::Exchange next = ownership_.leftovers.answered(size, isOurs);
    if (!next.nothing()) return next;
    return ownership_.leftovers.madeRoom() ? sendCommand() : tpm::Exchange::none();
}

/// The TPM refused: nothing has changed, but it may tell of what had gone before.
void Space::refused(TPM2_RC code) {
    if (wire::isReferenceHandle(code) && code - TPM2_RC_REFERENCE_H0 < wire::kMaxHandles)
        missing(plan_.named[code - TPM2_RC_REFERENCE_H0], true);
    if (wire::isReferenceSession(code) && code - TPM2_RC_REFERENCE_S0 < wire::kMaxAuthorizations)
        missing(plan_.sessions[code - TPM2_RC_REFERENCE_S0], true);
    if (code == wire::forParameter(TPM2_RC_HANDLE, 0)) {
        missing(plan_.flushed, false);
        const Session* session = returningSession();  // it was loaded, and the answer was lost
        if (session != nullptr && session->unsure)
            ownership_.adoptSession(holding_, session->handle);
    }
    // There is no orderly Shutdown to come back from.
    if (command().code() == TPM2_CC_Startup && code != TPM2_RC_INITIALIZE)
        ownership_.shutdownState = false;
}

/// Something of ours, if `own` is not 0, is not there, and we did not take it away.
void Space::missing(TPM2_HANDLE own, bool maybeSaved) {
    if (own == 0) return;
    const Session* session = ownership_.findSession(holding_, own);
    if (session == nullptr)
        ownership_.removeObject(holding_, own);
    else if (maybeSaved)
        ownership_.missSession(own);
    else
        ownership_.removeSession(own);
    if (!tpm_.noticesLoss()) ownership_.suspectEverything();
}

/// The session, one that our client saved, whose context the client's command is to load.
const Session* Space::returningSession() {
    if (command().code() != TPM2_CC_ContextLoad) return nullptr;
    const wire::Context context(command().parameters(0));
    return context.empty() ? nullptr : ownership_.findSession(holding_, context.savedHandle());
}

void Space::succeeded(size_t size) {
    endSessions();
    if (plan_.attributes.flushedHandle < wire::kMaxHandles)
        ownership_.removeObject(holding_, plan_.named[plan_.attributes.flushedHandle]);
    if (plan_.attributes.responseHandle) welcome(size);
    commitByCode(size);
}

/// A handle that the TPM gives out, and that is on record, tells of a loss; but for a session that
/// comes back. What else is lost is asked for first: the new thing gets the number that a private
/// TPM would give it.
void Space::welcome(size_t size) {
    const wire::Response response({response_.data(), size});
    plan_.newcomer = response.hasHandle();
    if (!plan_.newcomer ||
        (command().code() == TPM2_CC_ContextLoad && wire::isSession(response.handle())))
        return;
    if (ownership_.expel(response.handle()) && !tpm_.noticesLoss()) ownership_.suspectEverything();
}

/// The client's response is the TPM's still, but for what this changes in it.
void Space::finish() {
    if (std::exchange(plan_.newcomer, false))
        adopt(wire::Response({response_.data(), responseSize_}));
    if (std::exchange(plan_.listed, false))
        responseSize_ =
            rewriteCapability(plan_.query, buffer(), responseSize_, holding_, ownership_, tpm_);
}

/// Part 1, 19.6.4: a session whose continueSession is clear ends with the command's success.
void Space::endSessions() {
    for (size_t i = 0; i < plan_.sessions.size(); ++i)
        if (plan_.ending[i]) ownership_.removeSession(plan_.sessions[i]);
}

void Space::adopt(wire::Response response) {
    const TPM2_HANDLE physical = response.handle();
    // A TPM puts the persistent objects of a command into its lowest free slots while it runs.
    if (wire::isTransient(physical))
        response.setHandle(ownership_.adoptObject(holding_, physical, plan_.hierarchy,
                                                  command().persistent(plan_.handles)));
    else if (wire::isSession(physical))
        adoptSession(physical);
    statistics_.mostObjects = std::max(statistics_.mostObjects, holding_.count());
    statistics_.mostSessions =
        std::max(statistics_.mostSessions, ownership_.countSessions(holding_, false));
}

/// Moving a session's context in, as out, spoils an orderly Shutdown.
void Space::adoptSession(TPM2_HANDLE handle) {
    ownership_.adoptSession(holding_, handle);
    if (command().code() == TPM2_CC_ContextLoad) ownership_.shutdownState = false;
}

/// What success means beyond handles and sessions, for the commands where it does.
void Space::commitByCode(size_t size) {
    switch (command().code()) {
        case TPM2_CC_FlushContext:
            if (wire::isSession(plan_.flushed))
                ownership_.removeSession(plan_.flushed);
            else
                ownership_.removeObject(holding_, plan_.flushed);
            break;
        case TPM2_CC_ContextSave:
            ownership_.shutdownState = false;
            if (!wire::isSession(plan_.named[0])) break;
            ownership_.markSaved(plan_.named[0]);
            ownership_.markUnsure(plan_.named[0], false);
            unfetched_ = plan_.named[0];
            break;
        case TPM2_CC_Shutdown:
            ownership_.shutdownState = command().startupType() == TPM2_SU_STATE;
            break;
        case TPM2_CC_Startup:
            restarted();
            break;
        case TPM2_CC_GetCapability:
            plan_.listed = true;
            if (tellsOfLoss(plan_.query, {response_.data(), size}, holding_, ownership_, tpm_))
                ownership_.suspectEverything();
            break;
        default:
            for (const TPM2_HANDLE hierarchy :
                 wire::flushedHierarchies(command(), plan_.attributes.handles))
                ownership_.hierarchyFlushed(hierarchy);
            break;
    }
}

/// Startup succeeds on a TPM that was reset or powered up. Contexts stay good only after an
/// orderly Shutdown(STATE).
void Space::restarted() {
    ownership_.tpmRestarted(!ownership_.shutdownState);
    ownership_.shutdownState = false;
}

tpm::Exchange Space::nextSuspect() {
    suspect_ = tpm_.isResourceManager() ? 0 : ownership_.nextSuspect();
    if (suspect_ == 0) {
        finish();
        return tpm::Exchange::none();
    }
    probe_.ofPresence(suspect_);
    return exchange(Phase::Presence, probe_.bytes(), ownership_.scratch(), probe_.attributes());
}

tpm::Exchange Space::presenceAnswered() {
    const TPM2_RC code = wire::Response({ownership_.scratch(), wire::kMaxResponseSize}).code();
    // A session of the other type has its index by now.
    const bool gone = code == TPM2_RC_REFERENCE_H0 || code == wire::forHandle(TPM2_RC_HANDLE, 0);
    ownership_.resolveSuspect(suspect_, !gone);
    return nextSuspect();
}

// ---- Closing ------------------------------------------------------------------------------------

void Space::close() {
    if (closing_) return;
    if (inTurn_ && !channel_->withdraw()) channel_->wait(TSS2_TCTI_TIMEOUT_BLOCK);
    closing_ = true;
    for (int attempt = 0; attempt < 2 && (attempt == 0 || closeAgain_); ++attempt) {
        sentBefore_ = channel_->traffic().commands;
        channel_->submit();
        channel_->wait(TSS2_TCTI_TIMEOUT_BLOCK);
    }
    --ownership_.spaces;
    statistics_.traffic = channel_->traffic();
    statistics_.traffic.flushes += flushes_;
}

/// A session that its client saved is whoever's who holds the context; but nobody can load it if
/// the client never got that context, or if it is outdated.
bool Space::staysSaved(const Session& session) const {
    return session.saved && !session.unsure && session.handle != unfetched_ &&
           !tpm_.isStranded(session.handle);
}

/// When the last space closes, nobody is left who could load these.
TPM2_HANDLE Space::strandedForGood() {
    const TPM2_HANDLE stranded = ownership_.spaces == 1 ? tpm_.anyStranded() : 0;
    if (stranded == stranded_) return 0;  // the TPM does not let it go
    return stranded_ = stranded;
}

tpm::Exchange Space::nextFlush() {
    leaving_ = 0;
    if (const TPM2_HANDLE first = holding_.next(TPM2_TRANSIENT_FIRST))
        leaving_ = holding_.find(first)->physical;
    for (const Session& session : ownership_.sessions())
        if (leaving_ == 0 && session.owner == &holding_ && !staysSaved(session))
            leaving_ = session.handle;
    if (leaving_ == 0) leaving_ = strandedForGood();
    if (leaving_ == 0) {
        ownership_.forget(holding_);  // the sessions that the client saved
        return tpm::Exchange::none();
    }
    return sendFlush();
}

tpm::Exchange Space::sendFlush() {
    ++flushes_;
    return exchange(Phase::Closing,
                    wire::putHandleCommand(command_.data(), TPM2_CC_FlushContext, leaving_),
                    ownership_.scratch());
}

/// Whatever the warning is about, it is the last chance to leave nothing.
tpm::Exchange Space::flushAnswered() {
    const TPM2_RC code = wire::Response({ownership_.scratch(), wire::kMaxResponseSize}).code();
    if (wire::isWarning(code) && ++attempts_ < tpm::kMostAttempts) return sendFlush();
    attempts_ = 0;
    const bool gone = code == TPM2_RC_SUCCESS || code == TPM2_RC_INITIALIZE ||
                      code == wire::forParameter(TPM2_RC_HANDLE, 0);
    if (!gone)
        LOG_WARNING("The TPM does not flush 0x%x (0x%x): it may be left there", leaving_, code);
    if (wire::isSession(leaving_))
        ownership_.removeSession(leaving_);
    else
        ownership_.removeObject(holding_, holding_.next(TPM2_TRANSIENT_FIRST));
    return nextFlush();
}

}  // namespace spaces::space
