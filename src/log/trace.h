// SPDX-License-Identifier: BSD-2-Clause
// A picture of what happens in time, in the Trace Event Format of Chrome, which chrome://tracing
// and Perfetto open: one row for each space, with what was sent to the TPM for it, and one for what
// is in each TPM's slots. Names and codes only, no octet of a command.
//
// Always holds: the file is complete JSON after every event, so that of a process that is killed at
// most the last one is missing (and, if it was just beginning a page of the file, the bracket at
// the end, which the format allows to be missing); several processes may write to one file, each
// under its own id; a file that is not a trace is left alone; a new one is for its owner's eyes
// only.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <mutex>

namespace spaces::log {

class Trace {
  public:
    using Clock = std::chrono::steady_clock;

    Trace() = default;
    ~Trace();
    Trace(const Trace&) = delete;
    Trace& operator=(const Trace&) = delete;

    /// Opens or makes the file. `tpm` names the TPM whose slots are shown. False, after a log line
    /// that says why, if that cannot be done.
    bool open(const char* path, const char* tpm = "");

    /// Without it, everything below does nothing.
    bool isOpen() const { return file_ >= 0; }

    /// In a forked process: the trace is the parent's, and so is the lock that it may hold just
    /// now.
    void abandon();

    /// A new row, of a space; returns its number. No other row of this process has it, unless the
    /// library was unloaded in between.
    unsigned addSpace();

    /// Something that took its time in a space's row. `name` and `kind` need no escapes in JSON.
    void addSpan(unsigned space, const char* name, const char* kind, Clock::time_point begin,
                 Clock::time_point end, uint32_t responseCode);

    /// How many objects and loaded sessions of ours are in the TPM now. Called by one thread at a
    /// time.
    void setSlots(size_t objects, size_t sessions);

  private:
    [[gnu::format(printf, 2, 3)]] void add(const char* format, ...);

    int file_ = -1;
    int process_ = 0;
    std::array<char, 64> tpm_{};
    std::mutex adding_;
    size_t objects_ = 0, sessions_ = 0;
};

}  // namespace spaces::log
