// SPDX-License-Identifier: BSD-2-Clause
// A file descriptor that is closed with its owner. Every one that this library makes is
// close-on-exec: a program started beside us inherits none.
#pragma once

#include <unistd.h>

#include <utility>

namespace spaces::tpm {

class Descriptor {
  public:
    Descriptor() = default;
    explicit Descriptor(int number) : number_(number) {}
    Descriptor(Descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
    Descriptor& operator=(Descriptor&& other) noexcept {
        std::swap(number_, other.number_);
        return *this;
    }
    ~Descriptor() {
        if (isOpen()) ::close(number_);
    }

    bool isOpen() const { return number_ >= 0; }
    int number() const { return number_; }

    /// Not closed: in a forked process the number may be somebody else's by now.
    void abandon() { number_ = -1; }

  private:
    int number_ = -1;
};

}  // namespace spaces::tpm
