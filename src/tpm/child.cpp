// SPDX-License-Identifier: BSD-2-Clause
// Calls into the child TCTI, through the macros of tss2_tcti.h.
#include "tpm/child.h"

#include <tss2/tss2_tctildr.h>

#include "log/log.h"

namespace spaces::tpm {

TSS2_RC Child::open() {
    if (isOpen()) return TSS2_RC_SUCCESS;
    const TSS2_RC rc = Tss2_TctiLdr_Initialize(nameAndConf_.c_str(), &context_);
    if (rc != TSS2_RC_SUCCESS) context_ = nullptr;
    return rc;
}

void Child::close() {
    if (isOpen()) Tss2_TctiLdr_Finalize(&context_);
    context_ = nullptr;
}

TSS2_RC Child::transmit(wire::Bytes command) {
    LOG_BYTES("to the TPM", command);
    return Tss2_Tcti_Transmit(context_, command.size(), command.data());
}

TSS2_RC Child::receive(wire::ResponseBuffer response, size_t& size, int32_t timeout) {
    size = response.size();
    const TSS2_RC rc = Tss2_Tcti_Receive(context_, &size, response.data(), timeout);
    if (rc != TSS2_RC_SUCCESS) return rc;
    if (size > response.size() || !wire::Response::wellFormed(response.first(size))) {
        LOG_ERROR("The child TCTI '%s' gave %zu octets that are no TPM response",
                  nameAndConf_.c_str(), size);
        return TSS2_TCTI_RC_MALFORMED_RESPONSE;
    }
    LOG_BYTES("from the TPM", response.first(size));
    return rc;
}

TSS2_RC Child::cancel() { return Tss2_Tcti_Cancel(context_); }

TSS2_RC Child::setLocality(uint8_t locality) { return Tss2_Tcti_SetLocality(context_, locality); }

}  // namespace spaces::tpm
