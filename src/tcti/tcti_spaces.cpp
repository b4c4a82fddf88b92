// SPDX-License-Identifier: BSD-2-Clause
// The C face: the two exported functions and the seven of a TCTI context, in the manner of the
// TCG's TSS 2.0 TPM Command Transmission Interface (TCTI) specification.
//
// The context is the caller's memory: a plain struct with a pointer to what is ours.
// Always holds:
// - State Transmit: no command is under way. Receive: one is, or its response waits to be
//   fetched. Final: finalized, nothing is ours any more.
// - Checks come in the order pointers, context, state, values.
// - No exception leaves these functions.
// - After fork a context belongs to the parent process: in the child process every call fails at
//   once, and finalize leaves the parent's connection and TPM alone.
#include <poll.h>
#include <tss2/tss2_tcti.h>

#include <algorithm>
#include <cinttypes>
#include <new>

#include "log/log.h"
#include "space/space.h"
#include "tcti/conf.h"
#include "tcti/stack.h"
#include "tss2/tss2_tcti_spaces.h"

// The loader looks for this name; no public header declares it.
extern "C" const TSS2_TCTI_INFO* Tss2_Tcti_Info(void);

// The library is built with hidden symbols; these two are its face.
#define SPACES_EXPORT [[gnu::visibility("default")]]

namespace spaces::tcti {
namespace {

constexpr uint64_t kMagic = 0x5fc2a8d1e96b7043;
constexpr uint32_t kVersion = 2;

enum class State { Transmit, Receive, Final };

struct Inner {
    explicit Inner(StackUse use)
        : stack(std::move(use)), space(stack->top(), stack->ownership), forks(forkCount()) {}

    StackUse stack;
    space::Space space;
    unsigned forks;
};

struct Context {
    TSS2_TCTI_CONTEXT_COMMON_V2 common;
    Inner* inner;
    State state;
};

/// Runs `body` and turns exceptions into codes.
template <class Body>
TSS2_RC guarded(Body body) noexcept {
    try {
        return body();
    } catch (const std::bad_alloc&) {
        return TSS2_TCTI_RC_MEMORY;
    } catch (...) {
        LOG_ERROR("An unexpected error");
        return TSS2_TCTI_RC_GENERAL_FAILURE;
    }
}

/// The context behind a pointer, or the code of what is wrong with it.
TSS2_RC open(TSS2_TCTI_CONTEXT* pointer, Context*& context) {
    if (pointer == nullptr) return TSS2_TCTI_RC_BAD_REFERENCE;
    context = reinterpret_cast<Context*>(pointer);
    if (context->common.v1.magic != kMagic) return TSS2_TCTI_RC_BAD_CONTEXT;
    return context->state == State::Final ? TSS2_TCTI_RC_BAD_SEQUENCE : TSS2_RC_SUCCESS;
}

/// The same for a call that is for this process only.
TSS2_RC openHere(TSS2_TCTI_CONTEXT* pointer, Context*& context) {
    const TSS2_RC rc = open(pointer, context);
    if (rc != TSS2_RC_SUCCESS || context->inner->forks == forkCount()) return rc;
    LOG_ERROR("This context belongs to the parent process: after fork, open a new one");
    return TSS2_TCTI_RC_NO_CONNECTION;
}

/// The same for one that needs a state.
TSS2_RC openIn(State state, TSS2_TCTI_CONTEXT* pointer, Context*& context) {
    const TSS2_RC rc = openHere(pointer, context);
    if (rc != TSS2_RC_SUCCESS) return rc;
    return context->state == state ? TSS2_RC_SUCCESS : TSS2_TCTI_RC_BAD_SEQUENCE;
}

TSS2_RC transmit(TSS2_TCTI_CONTEXT* pointer, size_t size, const uint8_t* command) {
    if (command == nullptr) return TSS2_TCTI_RC_BAD_REFERENCE;
    Context* context = nullptr;
    const TSS2_RC rc = openIn(State::Transmit, pointer, context);
    if (rc != TSS2_RC_SUCCESS) return rc;
    if (!wire::Command::sizeIsRight({command, size})) {
        LOG_ERROR("A command of %zu octets whose header says otherwise", size);
        return TSS2_TCTI_RC_BAD_VALUE;
    }
    return guarded([&] {
        LOG_BYTES("from the client", wire::Bytes(command, size));
        context->inner->space.start({command, size});
        context->state = State::Receive;
        return TSS2_RC_SUCCESS;
    });
}

/// Gives the response, or its size alone if there is no buffer.
TSS2_RC fetch(Context& context, size_t* size, uint8_t* buffer) {
    const wire::Bytes response = context.inner->space.response();
    const size_t room = *size;
    *size = response.size();
    if (buffer == nullptr) return TSS2_RC_SUCCESS;
    if (room < response.size()) return TSS2_TCTI_RC_INSUFFICIENT_BUFFER;
    std::copy(response.begin(), response.end(), buffer);
    LOG_BYTES("to the client", response);
    context.inner->space.fetched();
    context.state = State::Transmit;
    return TSS2_RC_SUCCESS;
}

TSS2_RC receive(TSS2_TCTI_CONTEXT* pointer, size_t* size, uint8_t* response, int32_t timeout) {
    if (size == nullptr) return TSS2_TCTI_RC_BAD_REFERENCE;
    Context* context = nullptr;
    const TSS2_RC rc = openIn(State::Receive, pointer, context);
    if (rc != TSS2_RC_SUCCESS) return rc;
    if (timeout < TSS2_TCTI_TIMEOUT_BLOCK) {
        LOG_ERROR("Bad timeout %" PRId32 ": allowed is -1 to block, 0, or milliseconds", timeout);
        return TSS2_TCTI_RC_BAD_VALUE;
    }
    return guarded([&] {
        if (!context->inner->space.wait(timeout)) return TSS2_TCTI_RC_TRY_AGAIN;
        return fetch(*context, size, response);
    });
}

TSS2_RC cancel(TSS2_TCTI_CONTEXT* pointer) {
    Context* context = nullptr;
    const TSS2_RC rc = openIn(State::Receive, pointer, context);
    if (rc != TSS2_RC_SUCCESS) return rc;
    return guarded([&] { return context->inner->space.cancel(); });
}

TSS2_RC setLocality(TSS2_TCTI_CONTEXT* pointer, uint8_t locality) {
    Context* context = nullptr;
    const TSS2_RC rc = openIn(State::Transmit, pointer, context);
    if (rc != TSS2_RC_SUCCESS) return rc;
    return guarded([&] { return context->inner->space.setLocality(locality); });
}

/// One handle, the context's own: what the child gives would not tell of a response that another
/// context took from it.
TSS2_RC getPollHandles(TSS2_TCTI_CONTEXT* pointer, TSS2_TCTI_POLL_HANDLE* handles, size_t* count) {
    if (count == nullptr) return TSS2_TCTI_RC_BAD_REFERENCE;
    Context* context = nullptr;
    TSS2_RC rc = openHere(pointer, context);
    if (rc != TSS2_RC_SUCCESS) return rc;
    int descriptor = -1;
    rc = guarded([&] { return context->inner->space.pollHandle(descriptor); });
    if (rc != TSS2_RC_SUCCESS) return rc;
    const size_t room = *count;
    *count = 1;
    if (handles == nullptr) return TSS2_RC_SUCCESS;
    if (room < 1) return TSS2_TCTI_RC_INSUFFICIENT_BUFFER;
    handles[0] = {descriptor, POLLIN, 0};
    return TSS2_RC_SUCCESS;
}

/// Stickiness is for access brokers that swap; no TCTI of tpm2-tss has it.
TSS2_RC makeSticky(TSS2_TCTI_CONTEXT* pointer, TPM2_HANDLE* handle, uint8_t) {
    if (handle == nullptr) return TSS2_TCTI_RC_BAD_REFERENCE;
    Context* context = nullptr;
    const TSS2_RC rc = openHere(pointer, context);
    return rc != TSS2_RC_SUCCESS ? rc : TSS2_TCTI_RC_NOT_IMPLEMENTED;
}

void close(Inner& inner) {
    inner.space.close();
    const space::Statistics& done = inner.space.statistics();
    LOG_INFO("A space over '%s' closes: %" PRIu64 " client commands, %" PRIu64
             " TPM commands, %" PRIu64 " saves, %" PRIu64 " loads, %" PRIu64
             " flushes, at most %zu objects and %zu "
             "sessions",
             inner.stack->broker.childName().c_str(), done.clientCommands, done.traffic.commands,
             done.traffic.saves, done.traffic.loads, done.traffic.flushes, done.mostObjects,
             done.mostSessions);
}

void finalize(TSS2_TCTI_CONTEXT* pointer) {
    Context* context = nullptr;
    if (open(pointer, context) != TSS2_RC_SUCCESS) return;
    Inner* inner = context->inner;
    context->inner = nullptr;
    context->state = State::Final;
    guarded([&] {
        // In a forked process all but the memory is the parent's.
        if (inner->forks != forkCount())
            inner->space.abandon();
        else
            close(*inner);
        delete inner;
        return TSS2_RC_SUCCESS;
    });
}

TSS2_RC initialize(Context& context, const char* text) {
    Conf conf;
    if (!parseConf(text, conf)) return TSS2_TCTI_RC_BAD_VALUE;
    StackUse stack;
    const TSS2_RC rc = useStack(conf, stack);
    if (rc != TSS2_RC_SUCCESS) return rc;
    context.inner = new Inner(std::move(stack));
    context.state = State::Transmit;
    context.common = {
        {kMagic, kVersion, transmit, receive, finalize, cancel, getPollHandles, setLocality},
        makeSticky};
    return TSS2_RC_SUCCESS;
}

constexpr TSS2_TCTI_INFO kInfo = {
    kVersion,
    "tcti-spaces",
    "TCTI that gives each context a space, a TPM of its own, on any other TCTI",
    kOptionsHelp,
    Tss2_Tcti_Spaces_Init,
};

}  // namespace
}  // namespace spaces::tcti

SPACES_EXPORT TSS2_RC Tss2_Tcti_Spaces_Init(TSS2_TCTI_CONTEXT* tctiContext, size_t* size,
                                            const char* conf) {
    using namespace spaces::tcti;
    if (size == nullptr) return TSS2_TCTI_RC_BAD_VALUE;
    if (tctiContext == nullptr) {
        *size = sizeof(Context);
        return TSS2_RC_SUCCESS;
    }
    if (*size < sizeof(Context)) return TSS2_TCTI_RC_BAD_VALUE;
    return guarded([&] { return initialize(*reinterpret_cast<Context*>(tctiContext), conf); });
}

SPACES_EXPORT const TSS2_TCTI_INFO* Tss2_Tcti_Info(void) { return &spaces::tcti::kInfo; }
