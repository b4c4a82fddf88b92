// SPDX-License-Identifier: BSD-2-Clause
// See model_side.h.
#include "model_side.h"

#include <stdexcept>

#include "unit/model_tpm.h"

namespace spaces::test {
namespace {

constexpr char kName[] = "model";

TSS2_TCTI_CONTEXT* tcti(void* context) { return static_cast<TSS2_TCTI_CONTEXT*>(context); }

}  // namespace

ModelSide::ModelSide() : model_(std::make_unique<ModelTpm>(kName, ModelTpm::Size{})) {
    TSS2_TCTI_CONTEXT* context = nullptr;
    if (ModelTpm::load(kName, &context) != TSS2_RC_SUCCESS)
        throw std::runtime_error("the model is not found");
    context_ = context;
}

ModelSide::~ModelSide() {
    TSS2_TCTI_CONTEXT* context = tcti(context_);
    ModelTpm::unload(&context);
}

Bytes ModelSide::send(const Bytes& command) {
    Bytes response(TPM2_MAX_RESPONSE_SIZE);
    size_t size = response.size();
    if (Tss2_Tcti_Transmit(tcti(context_), command.size(), command.data()) != TSS2_RC_SUCCESS ||
        Tss2_Tcti_Receive(tcti(context_), &size, response.data(), TSS2_TCTI_TIMEOUT_BLOCK) !=
            TSS2_RC_SUCCESS)
        throw std::runtime_error("the model's TCTI fails");
    response.resize(size);
    return response;
}

void ModelSide::powerCycle() { model_->powerCycle(); }
size_t ModelSide::objects() const { return model_->loadedObjects(); }
size_t ModelSide::loadedSessions() const { return model_->loadedSessions(); }
size_t ModelSide::savedSessions() const { return model_->savedSessions(); }

}  // namespace spaces::test
