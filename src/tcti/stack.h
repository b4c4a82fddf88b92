// SPDX-License-Identifier: BSD-2-Clause
// The layers that contexts share, and where they are put together: contexts of one process that
// name the same child TCTI share the one TPM behind it and the record of who owns what in it.
// Always holds: a stack lives while a context uses it; at most one stack of a name is findable.
#pragma once

#include <tss2/tss2_common.h>

#include <memory>
#include <string>

#include "space/ownership.h"
#include "tpm/broker.h"

namespace spaces::tcti {

struct Stack {
    explicit Stack(std::string child) : broker(std::move(child)) {}

    tpm::Broker broker;
    space::Ownership ownership;

    // The registry's, under its lock.
    Stack* next = nullptr;
    unsigned users = 0;
};

struct StackReleaser {
    void operator()(Stack* stack) const;
};
using StackUse = std::unique_ptr<Stack, StackReleaser>;

/// The stack over this child, connected; new if no context has it. An empty name tries the usual
/// places in turn. On failure `stack` is empty and the result is what the child says. May throw
/// std::bad_alloc. Any thread may call it.
TSS2_RC useStack(const std::string& child, StackUse& stack);

/// How often this process has been forked from its ancestors since the library was first used in
/// them: what was made at another number belongs to a parent process.
unsigned forkCount();

}  // namespace spaces::tcti
