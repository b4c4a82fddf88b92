// SPDX-License-Identifier: BSD-2-Clause
// What poll() is told. A context's poll handle must be readable exactly when its receive would get
// somewhere without waiting, and the child's own handle cannot say that: a response may be in our
// buffer already, taken from the child by another context's receive. So each context has a handle
// of its own, which watches one of two things: the child, or something that is always readable.
//
// Always holds: nothing is made before the first context asks for its poll handle; nothing is ever
// read from these descriptors but in poll(); all are close-on-exec.
#pragma once

#include <chrono>
#include <span>

#include "tpm/descriptor.h"

namespace spaces::tpm {

/// Where a TPM's next step comes from: its child's descriptors, or the clock. One for all contexts.
class Progress {
  public:
    /// Makes the descriptors. False, with nothing made, if the system has none left.
    bool open();
    bool isOpen() const { return progress_.isOpen(); }

    /// From now on the child has these. False if one of them cannot be watched.
    bool watch(std::span<const int> child);

    /// They are about to be closed. Without this a copy in a forked process would keep them.
    void unwatch(std::span<const int> child);

    /// There is a next step at this time, whatever the child does.
    void setAlarm(std::chrono::steady_clock::time_point at);
    void clearAlarm();

    /// In a forked process: nothing is closed.
    void abandon();

    int descriptor() const { return progress_.number(); }
    int alwaysReadable() const { return always_.number(); }

  private:
    Descriptor progress_;
    Descriptor always_;
    Descriptor alarm_;
};

/// One context's poll handle.
class Readiness {
  public:
    enum class Of { Nothing, Progress, Always };

    /// Makes the descriptor, which watches nothing yet. `progress` is open, and outlives it. False
    /// if the system has none left.
    bool open(const Progress& progress);
    bool isOpen() const { return handle_.isOpen(); }
    int descriptor() const { return handle_.number(); }

    /// Changes what makes it readable. Needs nothing and does nothing before open().
    void become(Of of);

    /// In a forked process: nothing is closed.
    void abandon() { handle_.abandon(); }

  private:
    void watch(int descriptor, bool on) const;

    Descriptor handle_;
    const Progress* progress_ = nullptr;
};

}  // namespace spaces::tpm
