// SPDX-License-Identifier: BSD-2-Clause
// GetCapability, taken apart and made; see capability.h.
#include "wire/capability.h"

#include <algorithm>

namespace spaces::wire {

CapabilityQuery readCapabilityQuery(Bytes parameters) {
    if (parameters.size() < kCapabilityQuerySize) return {};
    return {get32(&parameters[0]), get32(&parameters[4]), get32(&parameters[8])};
}

MutableBytes putCapabilityQuery(uint8_t* at, const CapabilityQuery& query) {
    constexpr size_t kSize = kHeaderSize + kCapabilityQuerySize;
    putHeader(at, TPM2_ST_NO_SESSIONS, kSize, TPM2_CC_GetCapability);
    put32(at + kHeaderSize, query.capability);
    put32(at + kHeaderSize + 4, query.property);
    put32(at + kHeaderSize + 8, query.count);
    return {at, kSize};
}

size_t CapabilityList::count() const {
    if (response_.size() < kCapabilityEntriesAt) return 0;
    const size_t announced = get32(&response_[kCapabilityEntriesAt - 4]);
    return std::min(announced, (response_.size() - kCapabilityEntriesAt) / 4);
}

}  // namespace spaces::wire
