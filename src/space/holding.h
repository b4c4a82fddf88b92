// SPDX-License-Identifier: BSD-2-Clause
// The transient objects of one space, by the handles its client knows them by.
// Always holds: handles count from 0x80000000 and a new object gets the lowest free one, as the
// reference TPM counts; a handle that was ever given out stays in range for good.
#pragma once

#include <tss2/tss2_tpm2_types.h>

#include <cstddef>
#include <cstdint>
#include <vector>

namespace spaces::space {

struct Object {
    TPM2_HANDLE physical = 0;   // what the TPM below calls it; 0: no object
    TPM2_HANDLE hierarchy = 0;  // OWNER, ENDORSEMENT, PLATFORM, NULL; 0: not known
};

class Holding {
  public:
    /// The object behind a virtual handle; null if there is none.
    const Object* find(TPM2_HANDLE handle) const;

    /// Makes sure that the next add() needs no memory. May throw std::bad_alloc.
    void reserve();

    /// Returns the new object's virtual handle: the lowest free one but for `skip`.
    TPM2_HANDLE add(const Object& object, size_t skip = 0);
    void remove(TPM2_HANDLE handle);

    size_t count() const { return count_; }

    /// One above the highest index ever given out.
    uint32_t everUsed() const { return static_cast<uint32_t>(slots_.size()); }

    /// The first object with a handle of at least `from`; 0 if there is none.
    TPM2_HANDLE next(TPM2_HANDLE from) const;

  private:
    std::vector<Object> slots_;
    size_t lowestFree_ = 0;  // no free slot is below it
    size_t count_ = 0;
};

}  // namespace spaces::space
