// SPDX-License-Identifier: BSD-2-Clause
// The model TPM of the unit tests as a TPM beside a real one. A header of its own: packets.h, which
// the model brings, and support/command.h have functions of the same names.
// Always holds: commands go to the model as a child TCTI's, as in the unit tests.
#pragma once

#include <memory>

#include "support/bytes.h"

namespace spaces::test {

class ModelTpm;

class ModelSide {
  public:
    ModelSide();
    ~ModelSide();

    Bytes send(const Bytes& command);
    void powerCycle();

    size_t objects() const;
    size_t loadedSessions() const;
    size_t savedSessions() const;

  private:
    std::unique_ptr<ModelTpm> model_;
    void* context_ = nullptr;
};

}  // namespace spaces::test
