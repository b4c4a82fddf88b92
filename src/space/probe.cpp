// SPDX-License-Identifier: BSD-2-Clause
// Making probes and reading their answers; see probe.h.
#include "space/probe.h"

#include <algorithm>

#include "wire/handle.h"

namespace spaces::space {

void Probe::start(TPM2_CC code, size_t handleBytes) {
    size_ = wire::kHeaderSize + handleBytes;
    wire::putHeader(bytes_.data(), TPM2_ST_SESSIONS, size_, code);
}

void Probe::ofCode(TPM2_CC code) { start(code, 0); }

void Probe::ofPresence(TPM2_HANDLE handle) {
    // ContextSave takes every kind of handle that can be loaded.
    start(TPM2_CC_ContextSave, wire::kHandleSize);
    setHandle(0, handle);
}

void Probe::ofHandles(const wire::Command& command, size_t handles) {
    const size_t present =
        std::min(handles * wire::kHandleSize, command.size() - wire::kHeaderSize);
    start(command.code(), present);
    std::copy_n(command.bytes().data() + wire::kHeaderSize, present,
                bytes_.data() + wire::kHeaderSize);
}

void Probe::setHandle(size_t position, TPM2_HANDLE handle) {
    wire::put32(&bytes_[wire::kHeaderSize + position * wire::kHandleSize], handle);
}

namespace {

/// A number set aside for vendors' authorisations, as the entity a session is bound to: of a right
/// type, and refused only when it is looked for (Part 2, 7.4, TPM_RH_AUTH_00 to _FF).
bool isAbsentEntity(const wire::Command& command, size_t position) {
    if (command.code() != TPM2_CC_StartAuthSession || position != 1) return false;
    return command.handle(1) >= TPM2_RH_AUTH_00 && command.handle(1) <= TPM2_RH_AUTH_FF;
}

}  // namespace

bool handlesAcceptable(TPM2_RC answer) {
    // The reference TPM misses the size of the authorisation area (INSUFFICIENT). Others may look
    // for the area's presence, the command's attributes or the first session before.
    return answer == TPM2_RC_INSUFFICIENT || answer == TPM2_RC_SIZE || answer == TPM2_RC_AUTHSIZE ||
           answer == TPM2_RC_AUTH_CONTEXT || answer == TPM2_RC_AUTH_MISSING ||
           answer == TPM2_RC_COMMAND_SIZE || wire::isSessionError(answer);
}

TPM2_RC precedence(TPM2_RC answer, const wire::Command& command, size_t position, TPM2_RC verdict) {
    if (handlesAcceptable(answer)) return verdict;
    if (wire::isHandleError(answer)) {
        const TPM2_RC base = wire::formatOneBase(answer);
        const size_t at = wire::handleErrorPosition(answer);
        const bool typeError =
            base == TPM2_RC_INSUFFICIENT || (base == TPM2_RC_VALUE && !isAbsentEntity(command, at));
        return typeError || at < position ? answer : verdict;
    }
    if (wire::isReferenceHandle(answer))
        return answer - TPM2_RC_REFERENCE_H0 < position ? answer : verdict;
    if (answer == TPM2_RC_OBJECT_MEMORY) {
        // A persistent object needs a slot when its handle is looked up.
        return command.persistent(position) > 0 ? answer : verdict;
    }
    return answer;
}

}  // namespace spaces::space
