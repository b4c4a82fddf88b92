// SPDX-License-Identifier: BSD-2-Clause
// A client and what it checks; see client.h.
#include "fuzz/client.h"

#include <gtest/gtest.h>

#include <csignal>

#include "tss2/tss2_tcti_spaces.h"

namespace spaces::fuzz {

TSS2_RC checkCode(TSS2_RC rc) {
    if (rc == TSS2_RC_SUCCESS) return rc;
    const TSS2_RC base = rc & ~TSS2_RC_LAYER_MASK;
    require((rc & TSS2_RC_LAYER_MASK) == TSS2_TCTI_RC_LAYER, "a code is of the TCTI layer", rc);
    require(base >= TSS2_BASE_RC_GENERAL_FAILURE && base <= TSS2_BASE_RC_NOT_SUPPORTED,
            "a code is one that a TCTI has", rc);
    return rc;
}

void checkResponse(const Bytes& response) {
    require(response.size() >= 10, "a response has a header", response.size());
    require(response.size() <= TPM2_MAX_RESPONSE_SIZE, "a response fits", response.size());
    require(wire::get32(&response[2]) == response.size(), "a response is as large as it says",
            wire::get32(&response[2]));
    const TPM2_ST tag = wire::get16(&response[0]);
    require(tag == TPM2_ST_NO_SESSIONS || tag == TPM2_ST_SESSIONS || tag == TPM2_ST_RSP_COMMAND,
            "a response has a response's tag", tag);
}

TSS2_RC Client::open(const std::string& conf) {
    size_t size = 0;
    require(Tss2_Tcti_Spaces_Init(nullptr, &size, conf.c_str()) == TSS2_RC_SUCCESS,
            "Init tells the size");
    memory_.assign(size, 0);
    auto* made = reinterpret_cast<TSS2_TCTI_CONTEXT*>(memory_.data());
    const TSS2_RC rc = checkCode(Tss2_Tcti_Spaces_Init(made, &size, conf.c_str()));
    if (rc == TSS2_RC_SUCCESS) {
        context = made;
    } else {
        require(memory_ == Bytes(size), "a context that failed to open is left alone");
    }
    return rc;
}

void Client::close() {
    if (!isOpen()) return;
    Tss2_Tcti_Finalize(context);
    size_t size = 0;
    require(Tss2_Tcti_Receive(context, &size, nullptr, 0) == TSS2_TCTI_RC_BAD_SEQUENCE,
            "a finalized context refuses");
    Tss2_Tcti_Finalize(context);  // once more is harmless
    context = nullptr;
}

TSS2_RC Client::transmit(const Bytes& command) {
    return checkCode(Tss2_Tcti_Transmit(context, command.size(), command.data()));
}

TSS2_RC Client::receive(Bytes& response, int32_t timeout) {
    size_t asked = 0;
    TSS2_RC rc = checkCode(Tss2_Tcti_Receive(context, &asked, nullptr, timeout));
    if (rc != TSS2_RC_SUCCESS) return rc;
    response.assign(TPM2_MAX_RESPONSE_SIZE, 0);
    size_t size = response.size();
    rc = checkCode(Tss2_Tcti_Receive(context, &size, response.data(), timeout));
    require(rc == TSS2_RC_SUCCESS, "a response whose size was told is there", rc);
    require(size == asked, "the size told is the size", size);
    response.resize(size);
    checkResponse(response);
    return rc;
}

std::optional<Bytes> Client::send(const Bytes& command) {
    if (transmit(command) != TSS2_RC_SUCCESS) return std::nullopt;
    Bytes response;
    const TSS2_RC rc = receive(response);
    require(rc == TSS2_RC_SUCCESS, "waiting without end brings a response", rc);
    return response;
}

void prepareProcess() {
    static const bool done = [] {
        setenv("TSS2_LOG", "all+none", 0);
        GTEST_FLAG_SET(break_on_failure, true);
        // The fuzzer keeps no input for a trap.
        signal(SIGTRAP, [](int) { abort(); });
        return true;
    }();
    (void)done;
}

}  // namespace spaces::fuzz
