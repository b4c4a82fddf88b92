// SPDX-License-Identifier: BSD-2-Clause
// Looking for what is nobody's here; see leftovers.h.
#include "tpm/leftovers.h"

#include <algorithm>

#include "log/log.h"

namespace spaces::tpm {
namespace {

// The PC Client profile asks for as many of each; fewer of ours cannot have filled a TPM.
constexpr size_t kSlotsOfAnyTpm = 3;

}  // namespace

bool Leftovers::areWorthALook(TPM2_RC code, size_t ours) {
    if (code != TPM2_RC_OBJECT_MEMORY && code != TPM2_RC_SESSION_MEMORY) return false;
    if (looked_) return false;
    looked_ = true;
    const bool objects = code == TPM2_RC_OBJECT_MEMORY;
    if (policy_ == Policy::Keep) {
        if (ours < kSlotsOfAnyTpm)
            LOG_WARNING(
                "The TPM has no slot left for %s, and %zu of them are this process's: the others "
                "are "
                "in use elsewhere, or left by a process that was killed; leftovers=flush would "
                "flush them",
                objects ? "an object" : "a session", ours);
        return false;
    }
    first_ = objects ? TPM2_TRANSIENT_FIRST : TPM2_LOADED_SESSION_FIRST;
    return true;
}

Exchange Leftovers::begin(uint8_t* response) {
    listed_ = false;
    count_ = next_ = 0;
    flushed_ = 0;
    response_ = response;
    Exchange exchange;
    exchange.command =
        wire::putCapabilityQuery(command_.data(), {TPM2_CAP_HANDLES, first_, kMostHandles});
    exchange.response = response;
    exchange.purpose = Purpose::Question;
    return exchange;
}

/// False: the TPM refuses, and there is no more to be done.
bool Leftovers::note(size_t size) {
    const wire::Response response({response_, size});
    if (listed_) {
        flushed_ += response.succeeded() ? 1 : 0;
        return true;
    }
    if (!response.succeeded()) return false;
    listed_ = true;
    const wire::CapabilityList list({response_, size});
    count_ = std::min(list.count(), handles_.size());
    for (size_t i = 0; i < count_; ++i) handles_[i] = list.entry(i);
    return true;
}

Exchange Leftovers::flush(TPM2_HANDLE handle) {
    Exchange exchange;
    exchange.command = wire::putHandleCommand(command_.data(), TPM2_CC_FlushContext, handle);
    exchange.response = response_;
    exchange.purpose = Purpose::Flush;
    return exchange;
}

void Leftovers::finish() const {
    if (flushed_ > 0)
        LOG_WARNING("Flushed %u %s that no space over this child owns (leftovers=flush)", flushed_,
                    first_ == TPM2_TRANSIENT_FIRST ? "objects" : "sessions");
}

}  // namespace spaces::tpm
