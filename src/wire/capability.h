// SPDX-License-Identifier: BSD-2-Clause
// GetCapability's parameters and those of its answer (TPM 2.0 Library, Part 3, 30.2), for the
// capabilities whose entries have one size.
// Always holds: nothing outside the octets given is read.
#pragma once

#include <tss2/tss2_tpm2_types.h>

#include "wire/command.h"

namespace spaces::wire {

/// What is asked for.
struct CapabilityQuery {
    TPM2_CAP capability = 0;
    uint32_t property = 0;
    uint32_t count = 0;
};

constexpr size_t kCapabilityQuerySize = 12;  // capability, property, count

/// The query in GetCapability's parameters; all zero where they are cut.
CapabilityQuery readCapabilityQuery(Bytes parameters);

/// Makes a GetCapability without sessions, and returns it. There is room for it from `at` on.
MutableBytes putCapabilityQuery(uint8_t* at, const CapabilityQuery& query);

/// Where the entries begin in a response without sessions: after moreData (1), capability (4) and
/// count (4).
constexpr size_t kCapabilityEntriesAt = kHeaderSize + 9;

/// A successful answer whose entries are of four octets each: handles, commands.
class CapabilityList {
  public:
    explicit CapabilityList(Bytes response) : response_(response) {}

    /// How many entries are there in full.
    size_t count() const;
    uint32_t entry(size_t i) const { return get32(&response_[kCapabilityEntriesAt + 4 * i]); }
    /// The TPM has more of them.
    bool more() const { return response_.size() > kHeaderSize && response_[kHeaderSize] != 0; }

  private:
    Bytes response_;
};

}  // namespace spaces::wire
