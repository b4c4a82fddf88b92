// SPDX-License-Identifier: BSD-2-Clause
// The handle probe: a command's header and handles with nothing behind them, tagged as if
// authorisations followed. A TPM checks handles first (types of all, then presence in order) and
// only then misses the authorisations, so a probe is never executed, whatever it names, and its
// answer is what the TPM thinks of the handles alone.
#pragma once

#include <array>

#include "wire/command.h"
#include "wire/command_table.h"
#include "wire/response.h"

namespace spaces::space {

class Probe {
  public:
    /// Of a code alone: tells whether the TPM has the command.
    void ofCode(TPM2_CC code);

    /// Of one handle: tells whether an object or a session is loaded.
    void ofPresence(TPM2_HANDLE handle);

    /// Of a command's handle area, as far as it is there: `handles` handles, a last one perhaps
    /// cut short.
    void ofHandles(const wire::Command& command, size_t handles);

    /// Replaces a handle.
    void setHandle(size_t position, TPM2_HANDLE handle);

    wire::MutableBytes bytes() { return {bytes_.data(), size_}; }

    /// The attributes of a command with as many handles, for the way down.
    wire::CommandAttributes attributes() const {
        return {static_cast<uint8_t>((size_ - wire::kHeaderSize) / wire::kHandleSize)};
    }

  private:
    void start(TPM2_CC code, size_t handleBytes);

    std::array<uint8_t, wire::kHeaderSize + wire::kMaxHandles * wire::kHandleSize> bytes_{};
    size_t size_ = 0;
};

/// True if the answer to a probe says that all its handles are acceptable.
bool handlesAcceptable(TPM2_RC answer);

/// What a private TPM answers to a command whose handle at `position` is not there, `verdict` being
/// its code for that handle alone, when this TPM answered `answer` to the command's probe: wrong
/// types anywhere come before absence, absence before `position` comes before absence there, and
/// what is not about handles comes first of all.
TPM2_RC precedence(TPM2_RC answer, const wire::Command& command, size_t position, TPM2_RC verdict);

}  // namespace spaces::space
