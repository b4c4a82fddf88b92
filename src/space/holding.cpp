// SPDX-License-Identifier: BSD-2-Clause
// The table of a space's objects.
#include "space/holding.h"

#include <algorithm>

#include "wire/command_table.h"
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
    constexpr size_t kMost = 1 + wire::kMaxHandles;  // with those that add() skips
    if (slots_.capacity() < slots_.size() + kMost) slots_.reserve(2 * (slots_.size() + kMost));
}

TPM2_HANDLE Holding::add(const Object& object, size_t skip) {
    const auto isTaken = [this](size_t i) { return i < slots_.size() && slots_[i].physical != 0; };
    while (isTaken(lowestFree_)) ++lowestFree_;
    size_t index = lowestFree_;
    for (; skip > 0; --skip) {
        do ++index;
        while (isTaken(index));
    }
    if (index >= slots_.size()) slots_.resize(index + 1);
    slots_[index] = object;
    ++count_;
    return handleAt(index);
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
