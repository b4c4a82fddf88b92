// SPDX-License-Identifier: BSD-2-Clause
// Unit test of memory: a command costs no allocation, and an allocation that fails loses nothing.
// Always holds: operator new is counted_new.cpp's; the child TCTI is this file's, a TPM of a few
// slots that itself allocates nothing.
#include <gtest/gtest.h>
#include <tss2/tss2_tctildr.h>

#include <algorithm>
#include <array>

#include "tss2/tss2_tcti_spaces.h"
#include "unit/counted_new.h"
#include "unit/packets.h"
#include "wire/bytes.h"

namespace spaces::test {
namespace {

constexpr TPM2_CC kVendor = 0x20000123;

/// The TPM: what is loaded, by handle, and the response to the last command.
struct Tpm {
    TSS2_TCTI_CONTEXT_COMMON_V2 common;
    unsigned opened = 0, closed = 0;
    std::array<bool, 40> objects{};
    std::array<bool, 40> sessions{};
    uint8_t response[64];
    size_t size = 0;

    size_t count() const {
        return static_cast<size_t>(std::count(objects.begin(), objects.end(), true) +
                                   std::count(sessions.begin(), sessions.end(), true));
    }
    void answer(TPM2_RC code, size_t length = 10) {
        size = length;
        wire::put16(response, TPM2_ST_NO_SESSIONS);
        wire::put32(response + 2, static_cast<uint32_t>(length));
        wire::put32(response + 6, code);
    }
    void make(std::array<bool, 40>& slots, TPM2_HANDLE first) {
        const auto free = std::find(slots.begin(), slots.end(), false);
        if (free == slots.end()) return answer(TPM2_RC_OBJECT_MEMORY);
        *free = true;
        answer(TPM2_RC_SUCCESS, 14);
        wire::put32(response + 10, first + static_cast<uint32_t>(free - slots.begin()));
    }
    void execute(const uint8_t* command, size_t length) {
        const TPM2_CC code = wire::get32(command + 6);
        if (code == TPM2_CC_CreatePrimary) return make(objects, TPM2_TRANSIENT_FIRST);
        if (code == TPM2_CC_StartAuthSession) return make(sessions, TPM2_HMAC_SESSION_FIRST);
        if (length == 10 && wire::get16(command) == TPM2_ST_SESSIONS)
            return answer(TPM2_RC_INSUFFICIENT);  // a probe
        if (code == TPM2_CC_FlushContext) {
            const TPM2_HANDLE handle = wire::get32(command + 10);
            auto& slots = handle >= TPM2_TRANSIENT_FIRST ? objects : sessions;
            const size_t index = handle & 0xFFFFFF;
            if (index >= slots.size()) return answer(TPM2_RC_VALUE + TPM2_RC_P + TPM2_RC_1);
            bool& slot = slots[index];
            answer(slot ? TPM2_RC_SUCCESS : TPM2_RC_HANDLE + TPM2_RC_P + TPM2_RC_1);
            slot = false;
            return;
        }
        answer(TPM2_RC_SUCCESS);
        if (code == TPM2_CC_GetCapability && wire::get32(command + 10) == TPM2_CAP_COMMANDS) {
            answer(TPM2_RC_SUCCESS, 23);
            response[10] = 0;
            wire::put32(response + 11, TPM2_CAP_COMMANDS);
            wire::put32(response + 15, 1);
            wire::put32(response + 19, TPMA_CC_V | 0x123);
        } else if (code == TPM2_CC_GetCapability) {
            answer(TPM2_RC_SUCCESS, 19);
            wire::put32(response + 15, 0);
        }
    }
};
Tpm tpm;

TSS2_RC transmit(TSS2_TCTI_CONTEXT*, size_t size, const uint8_t* command) {
    tpm.execute(command, size);
    return TSS2_RC_SUCCESS;
}

TSS2_RC receive(TSS2_TCTI_CONTEXT*, size_t* size, uint8_t* response, int32_t) {
    *size = tpm.size;
    std::copy_n(tpm.response, tpm.size, response);
    return TSS2_RC_SUCCESS;
}

class Allocation : public testing::TestWithParam<bool> {
  protected:
    Allocation() {
        tpm = Tpm{};
        Tss2_Tcti_Spaces_Init(nullptr, &size_, nullptr);
    }
    ~Allocation() override {
        finalize();
        EXPECT_EQ(tpm.opened, tpm.closed);
        EXPECT_EQ(tpm.count(), 0u) << "something is left in the TPM";
    }

    TSS2_RC open() {
        std::fill(memory_.begin(), memory_.end(), 0);
        return Tss2_Tcti_Spaces_Init(context(), &size_, "fake");
    }
    void finalize() {
        const auto function = reinterpret_cast<TSS2_TCTI_CONTEXT_COMMON_V1*>(context())->finalize;
        if (function == nullptr) return;
        const Counting counting;
        function(context());
        const size_t needed = Allocations::count;
        EXPECT_EQ(needed, 0u);
    }
    /// Sends and receives, with this allocation failing. The response's code.
    TPM2_RC send(const Packet& command, size_t failing = 0) {
        const Counting counting(failing, GetParam());
        size_t size = buffer_.size();
        TSS2_TCTI_CONTEXT* pointer = context();
        TSS2_RC rc = Tss2_Tcti_Transmit(pointer, command.length(), command.all().data());
        if (rc == TSS2_RC_SUCCESS) rc = Tss2_Tcti_Receive(pointer, &size, buffer_.data(), -1);
        failed = counting.failed();
        needed = Allocations::count;
        return rc != TSS2_RC_SUCCESS ? rc : wire::get32(&buffer_[6]);
    }
    /// Sends it again and again, each time with a later allocation failing, until none fails.
    /// Returns how often it did.
    size_t sendFailing(const Packet& command) {
        for (size_t failing = 1;; ++failing) {
            const size_t before = tpm.count();
            const TPM2_RC rc = send(command, failing);
            if (!failed) {
                EXPECT_EQ(rc, TPM2_RC_SUCCESS);
                return failing - 1;
            }
            EXPECT_EQ(rc, 0xB0904u) << "the layer's own MEMORY";
            EXPECT_EQ(tpm.count(), before) << "made, and nobody knows of it";
        }
    }

    bool failed = false;
    size_t needed = 0;

  private:
    TSS2_TCTI_CONTEXT* context() { return reinterpret_cast<TSS2_TCTI_CONTEXT*>(memory_.data()); }

    size_t size_ = 0;
    alignas(16) std::array<uint8_t, 1024> memory_{};
    std::array<uint8_t, TPM2_MAX_RESPONSE_SIZE> buffer_{};
};

INSTANTIATE_TEST_SUITE_P(Failing, Allocation, testing::Bool(),
                         [](const auto& info) { return info.param ? "FromThenOn" : "Once"; });

TEST_P(Allocation, ACommandNeedsNone) {
    ASSERT_EQ(open(), TSS2_RC_SUCCESS);
    ASSERT_EQ(send(createPrimary()), TPM2_RC_SUCCESS);
    ASSERT_EQ(send(startAuthSession()), TPM2_RC_SUCCESS);
    ASSERT_EQ(send(command(kVendor)), TPM2_RC_SUCCESS);
    const TPM2_HANDLE object = 0x80000000, session = 0x02000000;
    const Packet hmac =
        command(TPM2_CC_HMAC).handle(object).auth({password("x")}).tpm2b(Bytes(99)).u16(11);
    for (const Packet& each :
         {getRandom(), hmac, unseal(object, {{session}}), unseal(object, {{session}, password()}),
          readPublic(object), readPublic(0x80000001), unseal(object, {{0x02000001}}),
          flushContext(0x80000001), getCapability(TPM2_CAP_HANDLES, object, 99),
          contextSave(object), command(kVendor), getRandom().tag(0x1234)}) {
        send(each);
        EXPECT_EQ(needed, 0u) << each;
    }
}

TEST_P(Allocation, WhatIsMadeAndFlushedAgainNeedsNone) {
    ASSERT_EQ(open(), TSS2_RC_SUCCESS);
    for (int round = 0; round < 3; ++round) {
        EXPECT_EQ(send(createPrimary()), TPM2_RC_SUCCESS);
        EXPECT_TRUE(round == 0 || needed == 0) << needed;
        EXPECT_EQ(send(startAuthSession()), TPM2_RC_SUCCESS);
        EXPECT_TRUE(round == 0 || needed == 0) << needed;
        EXPECT_EQ(send(flushContext(0x80000000)), TPM2_RC_SUCCESS);
        EXPECT_EQ(send(unseal(0x81000000, {{0x02000000, 0}})), TPM2_RC_SUCCESS);
        tpm.sessions[0] = false;  // it was not continued
        EXPECT_EQ(needed, 0u);
    }
}

TEST_P(Allocation, ThatFailsFailsInit) {
    size_t failures = 0;
    for (size_t failing = 1;; ++failing) {
        TSS2_RC rc;
        bool failed;
        {
            const Counting counting(failing, GetParam());
            rc = open();
            failed = counting.failed();
        }
        if (!failed) {
            EXPECT_EQ(rc, TSS2_RC_SUCCESS);
            break;
        }
        ++failures;
        EXPECT_EQ(rc, TSS2_TCTI_RC_MEMORY);
        EXPECT_EQ(tpm.opened, tpm.closed);
    }
    EXPECT_GE(failures, 3u);
    EXPECT_EQ(send(getRandom()), TPM2_RC_SUCCESS);
}

TEST_P(Allocation, ThatFailsLosesNothingThatIsMade) {
    ASSERT_EQ(open(), TSS2_RC_SUCCESS);
    size_t failures = 0;
    for (int i = 0; i < 20; ++i) {
        failures += sendFailing(createPrimary());
        failures += sendFailing(startAuthSession());
    }
    EXPECT_GE(failures, 3u);
    EXPECT_EQ(tpm.count(), 40u);
}

TEST_P(Allocation, ThatFailsForgetsACodeAndNothingElse) {
    ASSERT_EQ(open(), TSS2_RC_SUCCESS);
    EXPECT_EQ(sendFailing(command(kVendor)), 1u);
    EXPECT_EQ(send(command(kVendor), 1), TPM2_RC_SUCCESS) << "learned";
}

}  // namespace
}  // namespace spaces::test

// What the linker puts in place of the loader.
extern "C" TSS2_RC __wrap_Tss2_TctiLdr_Initialize(const char*, TSS2_TCTI_CONTEXT** context) {
    using namespace spaces::test;
    ++tpm.opened;
    tpm.common = {{0, 2, transmit, receive, nullptr, nullptr, nullptr, nullptr}, nullptr};
    *context = reinterpret_cast<TSS2_TCTI_CONTEXT*>(&tpm.common);
    return TSS2_RC_SUCCESS;
}

extern "C" void __wrap_Tss2_TctiLdr_Finalize(TSS2_TCTI_CONTEXT** context) {
    ++spaces::test::tpm.closed;
    *context = nullptr;
}
