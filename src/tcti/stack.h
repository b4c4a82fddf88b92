// SPDX-License-Identifier: BSD-2-Clause
// The layers that contexts share, and where they are put together: contexts of one process that
// name the same child TCTI share the one TPM behind it and the record of who owns what in it.
// Always holds: a stack lives while a context uses it; at most one stack of a name is findable.
#pragma once

#include <tss2/tss2_common.h>

#include <memory>
#include <string>

#include "config.h"
#include "log/trace.h"
#include "space/ownership.h"
#include "tcti/conf.h"
#include "tpm/broker.h"
#if SPACES_SWAPPING
#include "swap/swap.h"
#endif

namespace spaces::tcti {

struct Stack {
    /// `child` is NAME or NAME:CONF.
    Stack(const std::string& child, const Conf& conf);

    /// What spaces stand on: the one TPM, or the swapping layer over it.
    tpm::Tpm& top();

    const Conf conf;  // of the context that made it
    log::Trace trace;
    tpm::Broker broker;
#if SPACES_SWAPPING
    std::optional<swap::Swap> swap;
#endif
    space::Ownership ownership;

  private:
    log::Trace* traceIfAsked() { return conf.trace.empty() ? nullptr : &trace; }

  public:
    // The registry's, under its lock.
    Stack* next = nullptr;
    unsigned users = 0;
};

struct StackReleaser {
    void operator()(Stack* stack) const;
};
using StackUse = std::unique_ptr<Stack, StackReleaser>;

/// The stack over the child that `conf` names, connected; new if no context has it. No name: the
/// usual places are tried in turn. On failure `stack` is empty and the result is what the child
/// says, or BAD_VALUE where swapping is asked for on a child that is in use without. May throw
/// std::bad_alloc. Any thread may call it.
TSS2_RC useStack(const Conf& conf, StackUse& stack);

/// How often this process has been forked from its ancestors since the library was first used in
/// them: what was made at another number belongs to a parent process.
unsigned forkCount();

}  // namespace spaces::tcti
