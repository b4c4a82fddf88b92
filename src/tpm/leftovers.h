// SPDX-License-Identifier: BSD-2-Clause
// What occupies the TPM's slots and is nobody's here: objects and loaded sessions of processes that
// ended without flushing them, or that use the same TPM at this moment; the TPM cannot tell which.
// Looked for only when a command was refused for want of a slot and nothing of ours can leave.
//
// Always holds: a handle is flushed only if its owner-to-be says that it is not ours; one look for
// each command; what cannot be flushed is passed over.
#pragma once

#include <tss2/tss2_tpm2_types.h>

#include <array>

#include "tpm/tpm.h"
#include "wire/capability.h"

namespace spaces::tpm {

class Leftovers {
  public:
    enum class Policy { Keep, Flush };

    explicit Leftovers(Policy policy) : policy_(policy) {}

    /// A new command: it may have its look.
    void forgetLook() { looked_ = false; }

    /// A command was refused with this code, while `ours` objects or loaded sessions of ours are in
    /// the TPM. True if others are to be looked for: then begin() is next.
    bool areWorthALook(TPM2_RC code, size_t ours);

    /// The question to the TPM; answers go to `response`.
    Exchange begin(uint8_t* response);

    /// After each answer, of `size` octets: the next FlushContext, or nothing when all is done.
    /// `isOurs` is asked with a physical handle, of a session with its own type.
    template <class IsOurs>
    Exchange answered(size_t size, IsOurs isOurs) {
        if (!note(size)) return Exchange::none();
        while (next_ < count_)
            if (const TPM2_HANDLE handle = handles_[next_++]; !isOurs(handle)) return flush(handle);
        finish();
        return Exchange::none();
    }

    /// Something was flushed: the command may be sent again.
    bool madeRoom() const { return flushed_ > 0; }

  private:
    bool note(size_t size);
    Exchange flush(TPM2_HANDLE handle);
    void finish() const;

    static constexpr size_t kMostHandles = 64;

    const Policy policy_;
    bool looked_ = false;
    bool listed_ = false;
    TPM2_HANDLE first_ = 0;
    uint8_t* response_ = nullptr;
    std::array<TPM2_HANDLE, kMostHandles> handles_{};
    size_t count_ = 0;
    size_t next_ = 0;
    unsigned flushed_ = 0;
    std::array<uint8_t, wire::kHeaderSize + wire::kCapabilityQuerySize> command_{};
};

}  // namespace spaces::tpm
