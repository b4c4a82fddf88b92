// SPDX-License-Identifier: BSD-2-Clause
// operator new and delete of the program that is linked with this file; see counted_new.h.
#include "unit/counted_new.h"

#include <cstdlib>
#include <new>

namespace {

using spaces::test::Allocations;

void* allocate(size_t size) {
    if (Allocations::counted && !(Allocations::exempt && Allocations::exempt())) {
        ++Allocations::count;
        if (Allocations::count == Allocations::failAt ||
            (Allocations::failFromThen && Allocations::failed()))
            throw std::bad_alloc();
    }
    void* memory = std::malloc(size == 0 ? 1 : size);
    if (memory == nullptr) throw std::bad_alloc();
    return memory;
}

}  // namespace

void* operator new(size_t size) { return allocate(size); }
void* operator new[](size_t size) { return allocate(size); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, size_t) noexcept { std::free(memory); }
