// SPDX-License-Identifier: BSD-2-Clause
// The registry of stacks; see stack.h. It is a list of plain pointers, so that nothing of it has
// to be built or torn down when the library is loaded and unloaded.
#include "tcti/stack.h"

#include <pthread.h>

#include <atomic>
#include <mutex>
#include <new>

#include "log/log.h"

namespace spaces::tcti {
namespace {

// Recursive because a child TCTI may itself lead to a context of this library (by way of pcap).
std::recursive_mutex registryMutex;
Stack* registryFirst = nullptr;
std::atomic<unsigned> forks = 0;

constexpr const char* kUsualChildren[] = {"device:/dev/tpmrm0", "device:/dev/tpm0", "swtpm",
                                          "mssim"};

void beforeFork() {
    registryMutex.lock();
    for (Stack* stack = registryFirst; stack != nullptr; stack = stack->next)
        stack->broker.beforeFork();
}

void afterForkInParent() {
    for (Stack* stack = registryFirst; stack != nullptr; stack = stack->next)
        stack->broker.afterForkInParent();
    registryMutex.unlock();
}

/// The stacks are the parent's; here they can only be destroyed, by the contexts that use them.
void afterForkInChild() {
    new (&registryMutex) std::recursive_mutex;  // its owner was a thread of the parent
    for (Stack* stack = registryFirst; stack != nullptr; stack = stack->next) {
        stack->broker.afterForkInChild();
        stack->trace.abandon();
    }
    registryFirst = nullptr;
    ++forks;
}

void watchForks() {
    static bool watching = false;
    if (watching) return;
    watching = pthread_atfork(beforeFork, afterForkInParent, afterForkInChild) == 0;
}

Stack* find(const std::string& child) {
    for (Stack* stack = registryFirst; stack != nullptr; stack = stack->next)
        if (stack->broker.childName() == child) return stack;
    return nullptr;
}

/// Null if the trace cannot be written.
StackUse findOrMake(const std::string& child, const Conf& conf) {
    const std::lock_guard lock(registryMutex);
    watchForks();
    Stack* stack = find(child);
    if (stack == nullptr) {
        auto made = std::make_unique<Stack>(child, conf);
        if (!conf.trace.empty() && !made->trace.open(conf.trace.c_str(), child.c_str()))
            return nullptr;
        stack = made.release();
        stack->next = registryFirst;
        registryFirst = stack;
    }
    ++stack->users;
    return StackUse(stack);
}

/// The options that are not as another context has them.
std::string differences(const Conf& conf, const Conf& other) {
    std::string names;
    if (conf.objects != other.objects) names += " objects";
    if (conf.sessions != other.sessions) names += " sessions";
    if (conf.leftovers != other.leftovers) names += " leftovers";
    if (conf.wait != other.wait) names += " wait";
    if (conf.trace != other.trace) names += " trace";
    return names;
}

/// `advice` is for a child that does not open: null to log it.
TSS2_RC useNamed(const std::string& child, const Conf& conf, StackUse& stack,
                 std::string* advice = nullptr) {
    StackUse found = findOrMake(child, conf);
    if (!found) return TSS2_TCTI_RC_BAD_VALUE;
    if (conf.swap && !found->conf.swap) {
        LOG_ERROR("swap=on: contexts of this process use '%s' without; all of them have to ask",
                  child.c_str());
        return TSS2_TCTI_RC_BAD_VALUE;
    }
    if (!conf.swap && found->conf.swap)
        LOG_INFO("Swapping is on for '%s', as a context opened before asks for", child.c_str());
    if (const std::string names = differences(conf, found->conf); !names.empty())
        LOG_WARNING(
            "Contexts over '%s' share their options, as the first one has them; not as it "
            "has them here:%s",
            child.c_str(), names.c_str());
    const TSS2_RC rc = found->broker.connect(advice);
    if (rc == TSS2_RC_SUCCESS) stack = std::move(found);
    return rc;
}

}  // namespace

Stack::Stack(const std::string& child, const Conf& conf)
    : conf(conf),
      broker(child, conf.wait, traceIfAsked()),
      ownership(conf.leftovers, traceIfAsked()) {
#if SPACES_SWAPPING
    constexpr unsigned kAll = swap::Slots::kUnlimited;
    if (conf.swap)
        swap.emplace(
            broker,
            swap::Limits{conf.objects.value_or(kAll), conf.sessions.value_or(kAll), conf.leftovers},
            traceIfAsked());
#endif
}

tpm::Tpm& Stack::top() {
#if SPACES_SWAPPING
    if (swap) return *swap;
#endif
    return broker;
}

void StackReleaser::operator()(Stack* stack) const {
    // Closed before the lock is let go: a device can be opened once only, and the next context
    // may be opening it already.
    const std::lock_guard lock(registryMutex);
    if (--stack->users > 0) return;
    Stack** at = &registryFirst;
    while (*at != nullptr && *at != stack) at = &(*at)->next;
    if (*at != nullptr) *at = stack->next;  // else it was inherited
    delete stack;
}

TSS2_RC useStack(const Conf& conf, StackUse& stack) {
    if (!conf.child.empty()) return useNamed(conf.child, conf, stack);
    TSS2_RC rc = TSS2_TCTI_RC_GENERAL_FAILURE;
    std::string reasons;
    for (const char* usual : kUsualChildren) {
        std::string advice;
        rc = useNamed(usual, conf, stack, &advice);
        // It is the conf that is refused, not by the child, and would be for each of them.
        const bool refused = rc == TSS2_TCTI_RC_BAD_VALUE && advice.empty();
        if (rc == TSS2_RC_SUCCESS || refused) return rc;
        reasons += "; " + advice;
    }
    LOG_ERROR("No TPM found: name the child TCTI, as in spaces:device:/dev/tpm0%s",
              reasons.c_str());
    return rc;
}

unsigned forkCount() { return forks.load(std::memory_order_relaxed); }

}  // namespace spaces::tcti
