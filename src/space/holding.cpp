// SPDX-License-Identifier: BSD-2-Clause
// The table of a space's objects.
#include "space/holding.h"

#include <algorithm>

#include "wire/handle.h"

namespace spaces::space {
namespace {

constexpr TPM2_HANDLE handleAt(size_t index) {
    return TPM2_TRANSIENT_FIRST + static_cast<TPM2_HANDLE>(index);
}

}  // namespace

const Object* Holding::find(TPM2_HANDLE handle) const {
    const uint32_t index = wire::indexOf(handle);
    if (!wire::isTransient(handle) || index >= slots_.size()) return nullptr;
    return slots_[index].physical == 0 ? nullptr : &slots_[index];
}

void Holding::reserve() {
    if (slots_.size() == slots_.capacity()) slots_.reserve(std::max<size_t>(4, slots_.size() * 2));
}

TPM2_HANDLE Holding::add(const Object& object) {
    while (lowestFree_ < slots_.size() && slots_[lowestFree_].physical != 0) ++lowestFree_;
    if (lowestFree_ == slots_.size()) slots_.emplace_back();
    slots_[lowestFree_] = object;
    ++count_;
    return handleAt(lowestFree_++);
}

void Holding::remove(TPM2_HANDLE handle) {
    const uint32_t index = wire::indexOf(handle);
    slots_[index] = Object{};
    lowestFree_ = std::min<size_t>(lowestFree_, index);
    --count_;
}

TPM2_HANDLE Holding::next(TPM2_HANDLE from) const {
    for (size_t index = wire::indexOf(from); index < slots_.size(); ++index) {
        if (slots_[index].physical != 0) return handleAt(index);
    }
    return 0;
}

}  // namespace spaces::space
