// SPDX-License-Identifier: BSD-2-Clause
// A saved context, TPMS_CONTEXT (TPM 2.0 Library, Part 2, 14.5): sequence (8), savedHandle (4),
// hierarchy (4), contextBlob (2 + its size).
#pragma once

#include <tss2/tss2_tpm2_types.h>

#include "wire/bytes.h"

namespace spaces::wire {

constexpr TPM2_HANDLE kSavedSequence = 0x80000001;  // savedHandle of a sequence object

class Context {
  public:
    /// The context at the front of `bytes`, without what stands behind it; empty if there is no
    /// whole one.
    explicit Context(Bytes bytes) {
        if (bytes.size() < kFixedSize) return;
        const size_t size = kFixedSize + get16(&bytes[kFixedSize - 2]);
        if (bytes.size() >= size) bytes_ = bytes.first(size);
    }

    bool empty() const { return bytes_.empty(); }
    Bytes bytes() const { return bytes_; }
    uint64_t sequence() const { return uint64_t{get32(&bytes_[0])} << 32 | get32(&bytes_[4]); }
    TPM2_HANDLE savedHandle() const { return get32(&bytes_[8]); }
    TPM2_HANDLE hierarchy() const { return get32(&bytes_[12]); }

  private:
    static constexpr size_t kFixedSize = 18;
    Bytes bytes_;
};

}  // namespace spaces::wire
