// SPDX-License-Identifier: BSD-2-Clause
// Unit test of the C face: the two-call Init, the states, and the code for every misuse.
// Always holds: contexts are used through the macros of tss2_tcti.h, as the TSS does, in zeroed
// memory of the test's own.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <stdexcept>

#include "config.h"
#include "tss2/tss2_tcti_spaces.h"
#include "unit/fake_child.h"

extern "C" const TSS2_TCTI_INFO* Tss2_Tcti_Info(void);

namespace spaces::test {
namespace {

constexpr int32_t kBlock = TSS2_TCTI_TIMEOUT_BLOCK, kNone = TSS2_TCTI_TIMEOUT_NONE;

class Context {
  public:
    Context() {
        EXPECT_EQ(Tss2_Tcti_Spaces_Init(nullptr, &size_, nullptr), TSS2_RC_SUCCESS);
        memory_ = static_cast<TSS2_TCTI_CONTEXT*>(std::calloc(1, size_));
    }
    ~Context() {
        finalize();
        std::free(memory_);
    }
    Context(const Context&) = delete;
    Context& operator=(const Context&) = delete;

    TSS2_RC open(const char* conf) { return Tss2_Tcti_Spaces_Init(memory_, &size_, conf); }
    TSS2_RC transmit(const Packet& command) {
        return Tss2_Tcti_Transmit(memory_, command.length(), command.all().data());
    }
    TSS2_RC receive(int32_t timeout = kBlock, size_t room = 4096) {
        size = room;
        Bytes buffer(4096);
        const TSS2_RC rc = Tss2_Tcti_Receive(memory_, &size, buffer.data(), timeout);
        if (rc == TSS2_RC_SUCCESS)
            received = Packet(Bytes(buffer.begin(), buffer.begin() + static_cast<ptrdiff_t>(size)));
        return rc;
    }
    TSS2_RC querySize(int32_t timeout = kBlock) {
        size = 0;
        return Tss2_Tcti_Receive(memory_, &size, nullptr, timeout);
    }
    TSS2_RC cancel() { return Tss2_Tcti_Cancel(memory_); }
    TSS2_RC setLocality(uint8_t locality) { return Tss2_Tcti_SetLocality(memory_, locality); }
    TSS2_RC getPollHandles() {
        size_t count = 0;
        return Tss2_Tcti_GetPollHandles(memory_, nullptr, &count);
    }
    TSS2_RC makeSticky() {
        TPM2_HANDLE handle = 0x80000000;
        return Tss2_Tcti_MakeSticky(memory_, &handle, 1);
    }
    /// By its pointer, since the macro looks at the context first.
    void finalize() {
        const auto function = common()->v1.finalize;
        if (function != nullptr) function(memory_);
    }

    Packet send(const Packet& command) {
        EXPECT_EQ(transmit(command), TSS2_RC_SUCCESS);
        EXPECT_EQ(receive(), TSS2_RC_SUCCESS);
        return received;
    }

    TSS2_TCTI_CONTEXT_COMMON_V2* common() {
        return reinterpret_cast<TSS2_TCTI_CONTEXT_COMMON_V2*>(memory_);
    }
    TSS2_TCTI_CONTEXT* pointer() { return memory_; }

    size_t size = 0;
    Packet received = Packet(Bytes());

  private:
    TSS2_TCTI_CONTEXT* memory_ = nullptr;
    size_t size_ = 0;
};

class Tcti : public testing::Test {
  protected:
    FakeChild child{"fake"};
    Context context;
};

class Open : public Tcti {
  protected:
    Open() { EXPECT_EQ(context.open("fake"), TSS2_RC_SUCCESS); }
};

// ---- Info and Init

TEST(Info, NamesEverything) {
    const TSS2_TCTI_INFO* info = Tss2_Tcti_Info();
    ASSERT_NE(info, nullptr);
    EXPECT_EQ(info->version, 2u);
    EXPECT_STREQ(info->name, "tcti-spaces");
    EXPECT_STRNE(info->description, "");
    EXPECT_STRNE(info->config_help, "");
    EXPECT_EQ(info->init, &Tss2_Tcti_Spaces_Init);
}

TEST_F(Tcti, InitGivesTheSizeAndDoesNothingElse) {
    size_t size = 0xDEAD;
    EXPECT_EQ(Tss2_Tcti_Spaces_Init(nullptr, &size, "no such: conf=,"), TSS2_RC_SUCCESS);
    EXPECT_GE(size, sizeof(TSS2_TCTI_CONTEXT_COMMON_V2));
    EXPECT_LT(size, 4096u);
    EXPECT_EQ(child.opens, 0u);
}

TEST_F(Tcti, InitWantsASizeThatIsLargeEnough) {
    EXPECT_EQ(Tss2_Tcti_Spaces_Init(nullptr, nullptr, "fake"), TSS2_TCTI_RC_BAD_VALUE);
    EXPECT_EQ(Tss2_Tcti_Spaces_Init(context.pointer(), nullptr, "fake"), TSS2_TCTI_RC_BAD_VALUE);
    size_t size = sizeof(TSS2_TCTI_CONTEXT_COMMON_V2);
    EXPECT_EQ(Tss2_Tcti_Spaces_Init(context.pointer(), &size, "fake"), TSS2_TCTI_RC_BAD_VALUE);
    EXPECT_EQ(child.opens, 0u);
}

TEST_F(Tcti, InitOpensTheChild) {
    ASSERT_EQ(context.open("fake"), TSS2_RC_SUCCESS);
    EXPECT_EQ(child.opens, 1u);
    EXPECT_EQ(context.common()->v1.version, 2u);
    EXPECT_NE(context.common()->v1.magic, 0u);
    for (const bool there :
         {context.common()->v1.transmit != nullptr, context.common()->v1.receive != nullptr,
          context.common()->v1.finalize != nullptr, context.common()->v1.cancel != nullptr,
          context.common()->v1.getPollHandles != nullptr,
          context.common()->v1.setLocality != nullptr, context.common()->makeSticky != nullptr})
        EXPECT_TRUE(there);
    EXPECT_TRUE(child.commands.empty()) << "nothing is sent";
}

/// Nobody finalizes what Init did not make.
TEST_F(Tcti, InitThatFailsLeavesNothing) {
    const auto untouched = [this] {
        const auto* octets = reinterpret_cast<const uint8_t*>(context.pointer());
        size_t size = 0;
        Tss2_Tcti_Spaces_Init(nullptr, &size, nullptr);
        return std::all_of(octets, octets + size, [](uint8_t octet) { return octet == 0; });
    };
    EXPECT_EQ(context.open("swap=maybe,fake"), TSS2_TCTI_RC_BAD_VALUE);
    EXPECT_TRUE(untouched());
    EXPECT_EQ(context.open("spaces:fake"), TSS2_TCTI_RC_BAD_VALUE);
    EXPECT_TRUE(untouched());
    EXPECT_EQ(context.open("nobody"), TSS2_TCTI_RC_NOT_SUPPORTED);
    EXPECT_TRUE(untouched());
    child.openCode = TSS2_TCTI_RC_NOT_PERMITTED;
    EXPECT_EQ(context.open("fake"), TSS2_TCTI_RC_NOT_PERMITTED);
    EXPECT_TRUE(untouched());
    EXPECT_EQ(child.opens, 0u);
    child.openCode = TSS2_RC_SUCCESS;
    EXPECT_EQ(context.open("fake"), TSS2_RC_SUCCESS);
}

TEST_F(Tcti, NoExceptionComesOut) {
    child.whileOpening = [] { throw std::bad_alloc(); };
    EXPECT_EQ(context.open("fake"), TSS2_TCTI_RC_MEMORY);
    child.whileOpening = [] { throw std::runtime_error("x"); };
    EXPECT_EQ(context.open("fake"), TSS2_TCTI_RC_GENERAL_FAILURE);
    child.whileOpening = [] { throw 42; };
    EXPECT_EQ(context.open("fake"), TSS2_TCTI_RC_GENERAL_FAILURE);
    child.whileOpening = nullptr;
    EXPECT_EQ(context.open("fake"), TSS2_RC_SUCCESS);
}

TEST_F(Tcti, WithoutAChildTheUsualOnesAreTried) {
    testing::internal::CaptureStderr();
    EXPECT_NE(context.open(nullptr), TSS2_RC_SUCCESS);
    const std::string log = testing::internal::GetCapturedStderr();
    EXPECT_NE(log.find("No TPM found: name the child TCTI"), std::string::npos);
    EXPECT_EQ(std::count(log.begin(), log.end(), '\n'), 1) << log;
    size_t at = 0;
    for (const char* name : {"'device'", "'device'", "'swtpm'", "'mssim'"}) {
        at = log.find(name, at + 1);
        EXPECT_NE(at, std::string::npos) << name << " in this order: " << log;
    }
    FakeChild swtpm("swtpm"), mssim("mssim");
    Context other;
    EXPECT_EQ(other.open(""), TSS2_RC_SUCCESS);
    EXPECT_EQ(swtpm.opens, 1u);
    EXPECT_EQ(mssim.opens, 0u);
    other.finalize();
}

#if SPACES_SWAPPING
TEST_F(Tcti, WithoutAChildTheNextOneIsNotTriedForAConfThatIsRefused) {
    FakeChild swtpm("swtpm"), mssim("mssim");
    ASSERT_EQ(context.open(""), TSS2_RC_SUCCESS);
    Context other;
    testing::internal::CaptureStderr();
    EXPECT_EQ(other.open("swap=on"), TSS2_TCTI_RC_BAD_VALUE);
    const std::string log = testing::internal::GetCapturedStderr();
    EXPECT_EQ(std::count(log.begin(), log.end(), '\n'), 1) << log;
    EXPECT_EQ(mssim.opens, 0u);
    context.finalize();
}
#endif

// ---- Contexts that share a child

TEST_F(Tcti, ContextsOfOneChildShareIt) {
    Context other, third;
    FakeChild another("another");
    ASSERT_EQ(context.open("fake"), TSS2_RC_SUCCESS);
    ASSERT_EQ(other.open("swap=off,fake"), TSS2_RC_SUCCESS);
    ASSERT_EQ(third.open("another"), TSS2_RC_SUCCESS);
    EXPECT_EQ(child.opens, 1u);
    EXPECT_EQ(another.opens, 1u);
    child.expect(createPrimary(), response().handle(0x80000000));
    EXPECT_EQ(context.send(createPrimary()), response().handle(0x80000000));
    child.expect(createPrimary(), response().handle(0x80000001));
    EXPECT_EQ(other.send(createPrimary()), response().handle(0x80000000));
    child.expect(flushContext(0x80000000), response());
    context.finalize();
    EXPECT_EQ(child.closes, 0u);
    child.expect(flushContext(0x80000001), response());
    other.finalize();
    EXPECT_EQ(child.closes, 1u);
    third.finalize();
}

TEST_F(Tcti, InterleavedContextsNeverWaitForEachOther) {
    Context other;
    ASSERT_EQ(context.open("fake"), TSS2_RC_SUCCESS);
    ASSERT_EQ(other.open("fake"), TSS2_RC_SUCCESS);
    child.expect(getRandom(), response().u8(1));
    child.expect(getRandom(), response().u8(2));
    ASSERT_EQ(context.transmit(getRandom()), TSS2_RC_SUCCESS);
    ASSERT_EQ(other.transmit(getRandom()), TSS2_RC_SUCCESS);
    EXPECT_EQ(other.receive(), TSS2_RC_SUCCESS);
    EXPECT_EQ(other.received, response().u8(2));
    EXPECT_EQ(context.receive(), TSS2_RC_SUCCESS);
    EXPECT_EQ(context.received, response().u8(1));
}

#if SPACES_SWAPPING
TEST_F(Tcti, SwappingIsForAllContextsOfAChild) {
    Context other;
    ASSERT_EQ(context.open("fake"), TSS2_RC_SUCCESS);
    EXPECT_EQ(other.open("swap=on,fake"), TSS2_TCTI_RC_BAD_VALUE);
    context.finalize();
    EXPECT_EQ(other.open("swap=on,fake"), TSS2_RC_SUCCESS);
    EXPECT_EQ(child.opens, 2u);
}
#endif

// ---- The states

TEST_F(Open, TransmitAndReceiveTakeTurns) {
    EXPECT_EQ(context.receive(), TSS2_TCTI_RC_BAD_SEQUENCE);
    EXPECT_EQ(context.querySize(), TSS2_TCTI_RC_BAD_SEQUENCE);
    child.expect(getRandom(), response().u8(7));
    ASSERT_EQ(context.transmit(getRandom()), TSS2_RC_SUCCESS);
    EXPECT_EQ(context.transmit(getRandom()), TSS2_TCTI_RC_BAD_SEQUENCE);
    EXPECT_EQ(context.setLocality(0), TSS2_TCTI_RC_BAD_SEQUENCE);
    ASSERT_EQ(context.receive(), TSS2_RC_SUCCESS);
    EXPECT_EQ(context.received, response().u8(7));
    EXPECT_EQ(context.receive(), TSS2_TCTI_RC_BAD_SEQUENCE);
    EXPECT_EQ(context.cancel(), TSS2_TCTI_RC_BAD_SEQUENCE);
    EXPECT_EQ(context.setLocality(1), TSS2_RC_SUCCESS);
}

TEST_F(Open, WhatIsNotImplementedSaysSoInAnyState) {
    const auto check = [this] {
        EXPECT_EQ(context.getPollHandles(), TSS2_TCTI_RC_NOT_IMPLEMENTED);
        EXPECT_EQ(context.makeSticky(), TSS2_TCTI_RC_NOT_IMPLEMENTED);
    };
    check();
    child.expect(getRandom(), response());
    context.transmit(getRandom());
    check();
    context.receive();
    check();
}

TEST_F(Open, ACommandIsItsHeadersSize) {
    for (const Packet& wrong : {getRandom().cut(9), getRandom().cut(1), getRandom().size(11),
                                getRandom().size(13), getRandom().size(0xFFFFFFFF)})
        EXPECT_EQ(context.transmit(wrong), TSS2_TCTI_RC_BAD_VALUE) << wrong;
    EXPECT_TRUE(child.commands.empty());
    child.expect(getRandom(), response());
    EXPECT_EQ(context.send(getRandom()), response()) << "usable afterwards";
}

TEST_F(Open, TheSizeCanBeAskedForAgainAndAgain) {
    child.expect(createPrimary(), response().handle(0x80000005).tpm2b(Bytes(90))).tryAgain(1);
    ASSERT_EQ(context.transmit(createPrimary()), TSS2_RC_SUCCESS);
    EXPECT_EQ(context.querySize(kNone), TSS2_TCTI_RC_TRY_AGAIN);
    for (int i = 0; i < 3; ++i) {
        EXPECT_EQ(context.querySize(), TSS2_RC_SUCCESS);
        EXPECT_EQ(context.size, 106u);
    }
    EXPECT_EQ(context.receive(kNone, 106), TSS2_RC_SUCCESS);
    EXPECT_EQ(context.received, response().handle(0x80000000).tpm2b(Bytes(90)));
    EXPECT_EQ(child.receives, 2u);
    // The response counted once.
    child.expect(createPrimary(), response().handle(0x80000006));
    EXPECT_EQ(context.send(createPrimary()), response().handle(0x80000001));
    child.acceptFlushes();
    context.finalize();
}

TEST_F(Open, ABufferThatIsTooSmallLosesNothing) {
    child.expect(getRandom(), response().tpm2b(Bytes(8, 3)));
    ASSERT_EQ(context.transmit(getRandom()), TSS2_RC_SUCCESS);
    for (const size_t room : {0u, 10u, 19u}) {
        EXPECT_EQ(context.receive(kBlock, room), TSS2_TCTI_RC_INSUFFICIENT_BUFFER);
        EXPECT_EQ(context.size, 20u);
    }
    EXPECT_EQ(context.receive(kBlock, 20), TSS2_RC_SUCCESS);
    EXPECT_EQ(context.received, response().tpm2b(Bytes(8, 3)));
}

TEST_F(Open, AResponseThatIsNotThereYetLeavesTheStateAsItIs) {
    child.expect(getRandom(), response()).tryAgain(2);
    ASSERT_EQ(context.transmit(getRandom()), TSS2_RC_SUCCESS);
    EXPECT_EQ(context.receive(kNone), TSS2_TCTI_RC_TRY_AGAIN);
    EXPECT_EQ(context.querySize(kNone), TSS2_TCTI_RC_TRY_AGAIN);
    EXPECT_EQ(context.receive(kNone), TSS2_RC_SUCCESS);
}

TEST_F(Open, ATimeoutIsBlockOrNoneOrMilliseconds) {
    child.expect(getRandom(), response());
    ASSERT_EQ(context.transmit(getRandom()), TSS2_RC_SUCCESS);
    EXPECT_EQ(context.receive(-2), TSS2_TCTI_RC_BAD_VALUE);
    EXPECT_EQ(context.receive(INT32_MIN), TSS2_TCTI_RC_BAD_VALUE);
    EXPECT_EQ(context.receive(INT32_MAX), TSS2_RC_SUCCESS);
}

TEST_F(Open, AFailureOfTheChildIsAResponse) {
    child.expect(getRandom(), response()).transmitFails(TSS2_TCTI_RC_IO_ERROR);
    EXPECT_EQ(context.send(getRandom()), response(0xB0101));
    child.expect(getRandom(), response()).receiveFails(TSS2_TCTI_RC_IO_ERROR);
    EXPECT_EQ(context.send(getRandom()), response(0xB0101));
    child.expect(getRandom(), response());
    EXPECT_EQ(context.send(getRandom()), response());
}

TEST_F(Open, CancelLeavesTheResponseOwed) {
    child.expect(getRandom(), response(TPM2_RC_CANCELED));
    ASSERT_EQ(context.transmit(getRandom()), TSS2_RC_SUCCESS);
    child.cancelCode = TSS2_TCTI_RC_NOT_IMPLEMENTED;
    EXPECT_EQ(context.cancel(), TSS2_TCTI_RC_NOT_IMPLEMENTED);
    child.cancelCode = TSS2_RC_SUCCESS;
    EXPECT_EQ(context.cancel(), TSS2_RC_SUCCESS);
    EXPECT_EQ(context.receive(), TSS2_RC_SUCCESS);
    EXPECT_EQ(context.received, response(TPM2_RC_CANCELED));
}

TEST_F(Open, ALocalityIsForTheChildToRefuse) {
    child.localityCode = TSS2_TCTI_RC_NOT_IMPLEMENTED;
    EXPECT_EQ(context.setLocality(3), TSS2_TCTI_RC_NOT_IMPLEMENTED);
    child.expect(getRandom(), response()).atLocality(0);
    EXPECT_EQ(context.send(getRandom()), response());
}

// ---- Pointers and contexts

TEST_F(Open, PointersComeBeforeAllElse) {
    const auto& functions = context.common()->v1;
    size_t size = 0;
    uint8_t octet = 0;
    TPM2_HANDLE handle = 0;
    EXPECT_EQ(functions.transmit(nullptr, 1, &octet), TSS2_TCTI_RC_BAD_REFERENCE);
    EXPECT_EQ(functions.transmit(context.pointer(), 1, nullptr), TSS2_TCTI_RC_BAD_REFERENCE);
    EXPECT_EQ(functions.receive(nullptr, &size, &octet, 0), TSS2_TCTI_RC_BAD_REFERENCE);
    EXPECT_EQ(functions.receive(context.pointer(), nullptr, &octet, 0), TSS2_TCTI_RC_BAD_REFERENCE);
    EXPECT_EQ(functions.cancel(nullptr), TSS2_TCTI_RC_BAD_REFERENCE);
    EXPECT_EQ(functions.setLocality(nullptr, 0), TSS2_TCTI_RC_BAD_REFERENCE);
    EXPECT_EQ(functions.getPollHandles(nullptr, nullptr, &size), TSS2_TCTI_RC_BAD_REFERENCE);
    EXPECT_EQ(functions.getPollHandles(context.pointer(), nullptr, nullptr),
              TSS2_TCTI_RC_BAD_REFERENCE);
    EXPECT_EQ(context.common()->makeSticky(nullptr, &handle, 0), TSS2_TCTI_RC_BAD_REFERENCE);
    EXPECT_EQ(context.common()->makeSticky(context.pointer(), nullptr, 0),
              TSS2_TCTI_RC_BAD_REFERENCE);
    functions.finalize(nullptr);
}

TEST_F(Open, AnotherTctisContextIsRefused) {
    const uint64_t magic = context.common()->v1.magic;
    context.common()->v1.magic = magic + 1;
    EXPECT_EQ(context.transmit(getRandom()), TSS2_TCTI_RC_BAD_CONTEXT);
    EXPECT_EQ(context.receive(), TSS2_TCTI_RC_BAD_CONTEXT);
    EXPECT_EQ(context.cancel(), TSS2_TCTI_RC_BAD_CONTEXT);
    EXPECT_EQ(context.setLocality(0), TSS2_TCTI_RC_BAD_CONTEXT);
    EXPECT_EQ(context.getPollHandles(), TSS2_TCTI_RC_BAD_CONTEXT);
    EXPECT_EQ(context.makeSticky(), TSS2_TCTI_RC_BAD_CONTEXT);
    context.finalize();
    EXPECT_EQ(child.closes, 0u);
    context.common()->v1.magic = magic;
}

// ---- Finalize

TEST_F(Open, AFinalizedContextIsOutOfSequence) {
    context.finalize();
    EXPECT_EQ(child.closes, 1u);
    EXPECT_EQ(context.transmit(getRandom()), TSS2_TCTI_RC_BAD_SEQUENCE);
    EXPECT_EQ(context.receive(), TSS2_TCTI_RC_BAD_SEQUENCE);
    EXPECT_EQ(context.cancel(), TSS2_TCTI_RC_BAD_SEQUENCE);
    EXPECT_EQ(context.setLocality(0), TSS2_TCTI_RC_BAD_SEQUENCE);
    EXPECT_EQ(context.getPollHandles(), TSS2_TCTI_RC_BAD_SEQUENCE);
    EXPECT_EQ(context.makeSticky(), TSS2_TCTI_RC_BAD_SEQUENCE);
    context.finalize();
    EXPECT_EQ(child.closes, 1u);
}

TEST_F(Open, FinalizeWithoutReceiveLeavesNothingInTheTpm) {
    child.expect(startAuthSession(), response().handle(0x02000000)).tryAgain(1);
    ASSERT_EQ(context.transmit(startAuthSession()), TSS2_RC_SUCCESS);
    child.expect(flushContext(0x02000000), response());
    context.finalize();
    EXPECT_TRUE(child.done());
    EXPECT_EQ(child.closes, 1u);
}

/// A session that was saved is the client's, once the client has its context.
TEST_F(Open, FinalizeFlushesASavedSessionThatWasNeverFetched) {
    for (const bool fetched : {true, false}) {
        child.expect(startAuthSession(), response().handle(0x02000001));
        context.send(startAuthSession());
        child.expect(contextSave(0x02000001), response());
        ASSERT_EQ(context.transmit(contextSave(0x02000001)), TSS2_RC_SUCCESS);
        EXPECT_EQ(context.querySize(), TSS2_RC_SUCCESS) << "its size is not the context";
        if (fetched) {
            EXPECT_EQ(context.receive(), TSS2_RC_SUCCESS);
        } else {
            child.expect(flushContext(0x02000001), response());
        }
        context.finalize();
        EXPECT_TRUE(child.done());
        ASSERT_EQ(context.open("fake"), TSS2_RC_SUCCESS);
    }
}

// ---- Fork

TEST_F(Open, AfterForkAContextIsTheParents) {
    child.expect(createPrimary(), response().handle(0x80000000));
    context.send(createPrimary());
    child.expect(getRandom(), response().u8(1));
    Context waiting;
    ASSERT_EQ(waiting.open("fake"), TSS2_RC_SUCCESS);
    ASSERT_EQ(waiting.transmit(getRandom()), TSS2_RC_SUCCESS);
    const pid_t pid = fork();
    ASSERT_GE(pid, 0);
    if (pid == 0) {
        const size_t before = child.commands.size();
        int bad = context.transmit(getRandom()) != TSS2_TCTI_RC_NO_CONNECTION;
        bad |= (waiting.receive() != TSS2_TCTI_RC_NO_CONNECTION) << 1;
        bad |= (waiting.cancel() != TSS2_TCTI_RC_NO_CONNECTION) << 2;
        bad |= (context.setLocality(0) != TSS2_TCTI_RC_NO_CONNECTION) << 3;
        const TSS2_RC polled = context.getPollHandles(), stuck = context.makeSticky();
        context.finalize();
        waiting.finalize();
        bad |= (child.commands.size() != before || child.closes != 0) << 4;
        FakeChild own("another");
        Context fresh;
        bad |= (fresh.open("another") != TSS2_RC_SUCCESS) << 5;
        own.expect(getRandom(), response());
        bad |= (fresh.send(getRandom()) != response()) << 6;
        bad |= (polled != TSS2_TCTI_RC_NO_CONNECTION || stuck != TSS2_TCTI_RC_NO_CONNECTION) << 7;
        _exit(bad);
    }
    int status = -1;
    ASSERT_EQ(waitpid(pid, &status, 0), pid);
    EXPECT_EQ(status, 0);
    EXPECT_EQ(waiting.receive(), TSS2_RC_SUCCESS);
    child.acceptFlushes();
    waiting.finalize();
    context.finalize();
}

}  // namespace
}  // namespace spaces::test
