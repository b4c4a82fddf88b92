// SPDX-License-Identifier: BSD-2-Clause
// A client of the library with swapping on, over a ModelTpm: makes, uses and flushes things, and
// replays the traces of traces.h.
// Always holds: every answer is looked at. A command that fails, or that used another thing than
// the one it named, or one whose changes were lost, ends the work with an exception.
#pragma once

#include <tss2/tss2_tcti.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "bench/model_tpm.h"
#include "bench/traces.h"
#include "unit/packets.h"

namespace spaces::bench {

/// An object, sequence or session as its client knows it.
struct Owned {
    Kind kind = Kind::Object;
    TPM2_HANDLE handle = 0;
    uint32_t serial = 0;
    uint32_t changes = 0;
};

class SwappingSpace {
  public:
    explicit SwappingSpace(ModelTpm& tpm);
    ~SwappingSpace();
    SwappingSpace(const SwappingSpace&) = delete;
    SwappingSpace& operator=(const SwappingSpace&) = delete;

    /// An object is loaded under its parent, if there is one.
    Owned make(Kind kind, const Owned* parent = nullptr);
    /// With a second object, both are named: Certify.
    void use(Owned& owned, const Owned* second = nullptr);
    void flush(const Owned& owned);

  private:
    const uint8_t* send(const test::Bytes& command);
    void exchange(const test::Bytes& command);

    ModelTpm& tpm_;
    std::unique_ptr<uint8_t[]> memory_;
    std::vector<uint8_t> response_;
};

/// TPM commands for a whole trace through the library; to open and to close the spaces is not part
/// of it.
uint64_t replay(const Trace& trace);

}  // namespace spaces::bench
