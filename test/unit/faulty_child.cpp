// SPDX-License-Identifier: BSD-2-Clause
// One call that fails; see faulty_child.h.
#include "unit/faulty_child.h"

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "wire/bytes.h"
#include "wire/command_table.h"
#include "wire/handle.h"

namespace spaces::test {
namespace {

using Kind = Fault::Kind;

constexpr size_t kMostCommands = 20000;

FaultyChild* current = nullptr;
int inside = 0;

struct Inside {
    Inside() { ++inside; }
    ~Inside() { --inside; }
};

TPM2_CC codeOf(const Packet& packet) { return wire::get32(&packet.all()[6]); }

bool canGo(TPM2_HANDLE handle) { return wire::isTransient(handle) || wire::isSession(handle); }

TPM2_HANDLE handleAt(const Packet& packet, size_t offset) {
    return packet.length() >= offset + 4 ? wire::get32(&packet.all()[offset]) : 0;
}

/// The object or session that a command names first, in the handle area, among its authorisations,
/// as what is to be flushed, or as what its context was saved from; 0 if there is none.
TPM2_HANDLE subjectOf(const Packet& command) {
    constexpr size_t kFirst = 10, kSavedHandle = 18;
    if (codeOf(command) == TPM2_CC_ContextLoad) return handleAt(command, kSavedHandle);
    const auto attributes = wire::findCommand(codeOf(command));
    if (!attributes) return 0;
    const bool flushes = codeOf(command) == TPM2_CC_FlushContext;
    if (attributes->handles == 0 && !flushes) return 0;
    if (canGo(handleAt(command, kFirst))) return handleAt(command, kFirst);
    const bool sessions = wire::get16(command.all().data()) == TPM2_ST_SESSIONS;
    const size_t authorization = kFirst + 4 * attributes->handles + 4;
    return sessions && canGo(handleAt(command, authorization)) ? handleAt(command, authorization)
                                                               : 0;
}

bool makesSomething(const Packet& command) {
    const auto attributes = wire::findCommand(codeOf(command));
    return attributes && attributes->responseHandle;
}

}  // namespace

std::string nameOf(const Fault& fault) {
    constexpr const char* kNames[] = {"None",   "Transmit", "Receive",   "TryAgain", "Nothing",
                                      "Short",  "Cut",      "Oversized", "WrongTag", "WrongSize",
                                      "Code",   "Taken",    "Flushed",   "Reset",    "Cleared",
                                      "Memory", "NoMemory"};
    char code[8] = "";
    if (fault.kind == Kind::Code) snprintf(code, sizeof(code), "%X", fault.code);
    return kNames[static_cast<size_t>(fault.kind)] + std::string(code);
}

std::ostream& operator<<(std::ostream& out, const Fault& fault) { return out << nameOf(fault); }

std::vector<Fault> allFaults() {
    std::vector<Fault> all;
    for (int kind = 1; kind < static_cast<int>(Kind::Memory); ++kind)
        if (static_cast<Kind>(kind) != Kind::Code) all.push_back({static_cast<Kind>(kind)});
    // Each warning but those that something is not loaded, which Flushed makes true.
    for (TPM2_RC code = TPM2_RC_CONTEXT_GAP; code <= TPM2_RC_TESTING; ++code)
        all.push_back({Kind::Code, code});
    for (TPM2_RC code = TPM2_RC_NV_RATE; code <= TPM2_RC_NV_UNAVAILABLE; ++code)
        all.push_back({Kind::Code, code});
    return all;
}

FaultyChild::FaultyChild(TpmBehind& tpm, const Fault& fault, size_t position)
    : tpm_(tpm), fault_(fault), position_(position) {
    EXPECT_EQ(current, nullptr);
    current = this;
}

FaultyChild::~FaultyChild() {
    EXPECT_EQ(inner_, nullptr) << "the child was not closed";
    current = nullptr;
}

bool FaultyChild::atWork() { return inside > 0; }

bool FaultyChild::owns(const TSS2_TCTI_CONTEXT* context) {
    return current != nullptr &&
           context == reinterpret_cast<const TSS2_TCTI_CONTEXT*>(&current->context_);
}

FaultyChild& FaultyChild::of(TSS2_TCTI_CONTEXT* context) {
    FaultyChild& child = *reinterpret_cast<Context*>(context)->child;
    EXPECT_NE(child.inner_, nullptr) << "a call into a closed child";
    EXPECT_FALSE(child.failed_) << "a call into a child that has failed";
    return child;
}

TSS2_RC FaultyChild::fails(TSS2_RC rc) {
    failed_ = true;
    return rc;
}

TSS2_RC FaultyChild::load(TSS2_TCTI_CONTEXT** context) {
    const Inside here;
    FaultyChild& child = *current;
    EXPECT_EQ(child.inner_, nullptr) << "a child is opened once at a time";
    if (child.comesToCall()) return Fault::kSaid;
    if (const TSS2_RC rc = child.tpm_.open(&child.inner_)) return rc;
    child.context_.common = {{0, 2, transmit, receive, nullptr, cancel, nullptr, setLocality},
                             nullptr};
    child.context_.child = &child;
    *context = reinterpret_cast<TSS2_TCTI_CONTEXT*>(&child.context_);
    return TSS2_RC_SUCCESS;
}

void FaultyChild::unload(TSS2_TCTI_CONTEXT** context) {
    const Inside here;
    FaultyChild& child = *current;
    child.tpm_.close(&child.inner_);
    child.inner_ = nullptr;
    child.failed_ = false;
    child.pending_ = false;
    *context = nullptr;
}

/// One more of the calls to which the fault can happen. True if it is the one.
bool FaultyChild::comesTo(bool applies) {
    if (!applies || paused_ || fired_ || ++calls_ != position_) return false;
    return fired_ = true;
}

bool FaultyChild::applies(const Packet& command) const {
    switch (fault_.kind) {
        case Kind::Taken:
            return makesSomething(command);
        case Kind::Flushed:
            return codeOf(command) != TPM2_CC_ContextLoad && subjectOf(command) != 0;
        default:
            return !fault_.isOfMemory();
    }
}

TSS2_RC FaultyChild::transmit(TSS2_TCTI_CONTEXT* context, size_t size, const uint8_t* bytes) {
    const Inside here;
    FaultyChild& child = of(context);
    EXPECT_FALSE(child.pending_) << "a second command";
    if (++child.commands_ > kMostCommands) std::abort();  // it would never end
    child.command_ = Packet(Bytes(bytes, bytes + size));
    child.spoils_ = child.comesTo(child.applies(child.command_));
    child.instead_ = Packet(Bytes());
    if (child.spoils_ && child.fault_.kind == Kind::Transmit) return child.fails(Fault::kSaid);
    if (child.spoils_ && child.fault_.kind == Kind::Code)
        child.instead_ = response(child.fault_.code);
    if (child.spoils_ && child.fault_.takes()) child.actBehind(child.command_);
    child.pending_ = true;
    if (child.instead_.length() > 0) return TSS2_RC_SUCCESS;
    return Tss2_Tcti_Transmit(child.inner_, size, bytes);
}

TSS2_RC FaultyChild::receive(TSS2_TCTI_CONTEXT* context, size_t* size, uint8_t* response,
                             int32_t timeout) {
    const Inside here;
    FaultyChild& child = of(context);
    EXPECT_TRUE(child.pending_) << "there is no response to receive";
    EXPECT_EQ(*size, size_t{TPM2_MAX_RESPONSE_SIZE});
    if (child.spoils_ && child.fault_.kind == Kind::TryAgain) {
        child.spoils_ = false;
        return TSS2_TCTI_RC_TRY_AGAIN;
    }
    if (child.instead_.length() > 0) {
        *size = child.instead_.length();
        std::copy(child.instead_.all().begin(), child.instead_.all().end(), response);
    } else if (const TSS2_RC rc = Tss2_Tcti_Receive(child.inner_, size, response, timeout)) {
        return rc;
    }
    child.pending_ = false;
    if (!child.spoils_ || !child.fault_.hidesAnswer()) return TSS2_RC_SUCCESS;
    Event event{codeOf(child.command_), subjectOf(child.command_)};
    event.hidden = wire::get32(response + 6) == TPM2_RC_SUCCESS;
    if (child.happened) child.happened(event);
    child.spoil(size, response);
    // An answer that is none is a failure as well.
    return child.fails(child.fault_.kind == Kind::Receive ? Fault::kSaid : TSS2_RC_SUCCESS);
}

void FaultyChild::spoil(size_t* size, uint8_t* response) const {
    switch (fault_.kind) {
        case Kind::Nothing:
            *size = 0;
            break;
        case Kind::Short:
            *size = 9;
            break;
        case Kind::Cut:
            --*size;
            break;
        case Kind::Oversized:
            *size = TPM2_MAX_RESPONSE_SIZE + 1;
            wire::put32(response + 2, static_cast<uint32_t>(*size));
            break;
        case Kind::WrongTag:
            wire::put16(response, 0x7777);
            break;
        case Kind::WrongSize:
            wire::put32(response + 2, static_cast<uint32_t>(*size + 1));
            break;
        default:
            break;
    }
}

TPM2_RC FaultyChild::sendBehind(const Packet& command) {
    const Inside here;
    Bytes answer(TPM2_MAX_RESPONSE_SIZE);
    size_t size = answer.size();
    const bool isClosed = inner_ == nullptr;
    if (isClosed) tpm_.open(&inner_);
    EXPECT_EQ(Tss2_Tcti_Transmit(inner_, command.length(), command.all().data()), TSS2_RC_SUCCESS);
    EXPECT_EQ(Tss2_Tcti_Receive(inner_, &size, answer.data(), TSS2_TCTI_TIMEOUT_BLOCK),
              TSS2_RC_SUCCESS);
    if (isClosed) {
        tpm_.close(&inner_);
        inner_ = nullptr;
    }
    return wire::get32(&answer[6]);
}

void FaultyChild::actBehind(const Packet& command) {
    Event event{codeOf(command), subjectOf(command)};
    TPM2_HANDLE flushed = event.subject;
    switch (fault_.kind) {
        case Kind::Taken: {
            const bool session = codeOf(command) == TPM2_CC_StartAuthSession;
            flushed = session ? TPM2_HMAC_SESSION_FIRST : TPM2_TRANSIENT_FIRST;
            [[fallthrough]];
        }
        case Kind::Flushed:
            if (sendBehind(flushContext(flushed)) == TPM2_RC_SUCCESS) event.gone = flushed;
            break;
        case Kind::Reset:
            tpm_.powerCycle();
            EXPECT_EQ(sendBehind(startup(TPM2_SU_CLEAR)), TPM2_RC_SUCCESS);
            event.everythingGone = true;
            break;
        default:
            event.hierarchiesGone = sendBehind(clear()) == TPM2_RC_SUCCESS;
            break;
    }
    if (happened) happened(event);
}

TSS2_RC FaultyChild::cancel(TSS2_TCTI_CONTEXT* context) {
    const Inside here;
    FaultyChild& child = of(context);
    return child.comesToCall() ? Fault::kSaid : Tss2_Tcti_Cancel(child.inner_);
}

TSS2_RC FaultyChild::setLocality(TSS2_TCTI_CONTEXT* context, uint8_t locality) {
    const Inside here;
    FaultyChild& child = of(context);
    EXPECT_FALSE(child.pending_);
    return child.comesToCall() ? Fault::kSaid : Tss2_Tcti_SetLocality(child.inner_, locality);
}

}  // namespace spaces::test
