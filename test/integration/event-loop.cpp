// SPDX-License-Identifier: BSD-2-Clause
//
// Event loops: a context's poll handle is readable exactly when its receive would get somewhere
// without waiting, and many ESAPI contexts in one thread come to their ends by poll handles alone.
//
// What always holds here: a wait for poll handles has no timeout. A handle that should be readable
// and is not ends the test by SIGALRM; one that is and should not be costs a wakeup too many.

#include <poll.h>
#include <sys/epoll.h>
#include <tss2/tss2_esys.h>
#include <tss2/tss2_tctildr.h>

#include <algorithm>
#include <memory>
#include <numeric>
#include <vector>

#include "behind_a_gate.h"
#include "support/crypto.h"

namespace spaces::test {
namespace {

// ---- One handle

class PollHandle : public OverEachChild {
  protected:
    void TearDown() override { EXPECT_EQ(residue(sim), ""); }

    static int handleOf(Client& client) {
        TSS2_TCTI_CONTEXT* context = client.context();
        TSS2_TCTI_POLL_HANDLE handle{-1, 0, 0};
        size_t count = 1;
        EXPECT_EQ(Tss2_Tcti_GetPollHandles(context, &handle, &count), TSS2_RC_SUCCESS);
        EXPECT_EQ(count, 1u);
        EXPECT_EQ(handle.events, POLLIN);
        return handle.fd;
    }
    static bool readable(Client& client) {
        pollfd watched{handleOf(client), POLLIN, 0};
        return ::poll(&watched, 1, 0) == 1;
    }
    static void awaitReadable(Client& client) {
        pollfd watched{handleOf(client), POLLIN, 0};
        EXPECT_EQ(::poll(&watched, 1, -1), 1);
    }
    static TSS2_RC tryReceive(Client& client) {
        Bytes response;
        return client.receive(response, kNone);
    }
};

TEST_P(PollHandle, IsReadableExactlyWhenReceiveGetsSomewhere) {
    Client a = space(), b = space(), c = space();
    for (Client* each : {&a, &b, &c}) EXPECT_FALSE(readable(*each)) << "nothing to receive";
    start(a, createPrimary());
    ASSERT_EQ(b.transmit(getRandom(9)), TSS2_RC_SUCCESS);
    EXPECT_EQ(hex(tryReceive(a)), hex(TSS2_TCTI_RC_TRY_AGAIN));
    EXPECT_EQ(hex(tryReceive(b)), hex(TSS2_TCTI_RC_TRY_AGAIN));
    for (Client* each : {&a, &b, &c}) EXPECT_FALSE(readable(*each)) << "the TPM is busy";

    gate.passOne();
    awaitReadable(b);
    EXPECT_TRUE(readable(a)) << "its response is in the child";
    EXPECT_FALSE(readable(c)) << "it waits for nothing";
    EXPECT_EQ(hex(tryReceive(b)), hex(TSS2_TCTI_RC_TRY_AGAIN)) << "takes A's and sends its own";
    EXPECT_TRUE(readable(a)) << "its response is in our buffer";
    EXPECT_FALSE(readable(b)) << "its command is with the TPM";
    EXPECT_EQ(hex(handle(answer(a, kNone))), hex(kFirst));
    EXPECT_FALSE(readable(a)) << "it has its response";

    ASSERT_EQ(a.transmit(getRandom(10)), TSS2_RC_SUCCESS);
    EXPECT_FALSE(readable(a));
    gate.open();
    awaitReadable(b);
    size_t size = 0;
    EXPECT_EQ(b.receiveSize(size, kNone), TSS2_RC_SUCCESS);
    EXPECT_TRUE(readable(b)) << "a size query takes nothing";
    EXPECT_EQ(octets(answer(b, kNone)), 9u);
    EXPECT_FALSE(readable(b));
    awaitReadable(a);
    EXPECT_EQ(octets(answer(a, kNone)), 10u);
}

TEST_P(PollHandle, IsReadableForACanceledPlaceInLine) {
    Client a = space(), b = space();
    start(a, getRandom(9));
    ASSERT_EQ(b.transmit(getRandom(10)), TSS2_RC_SUCCESS);
    EXPECT_FALSE(readable(b));
    EXPECT_EQ(b.cancel(), TSS2_RC_SUCCESS);
    EXPECT_TRUE(readable(b));
    EXPECT_FALSE(readable(a));
    EXPECT_EQ(hex(rc(answer(b, kNone))), hex(TPM2_RC_CANCELED));
    EXPECT_FALSE(readable(b));
    gate.open();
    EXPECT_EQ(octets(answer(a)), 9u);
}

TEST_P(PollHandle, IsOneAndStaysTheSame) {
    Client a = space(), b = space();
    TSS2_TCTI_CONTEXT* context = a.context();
    size_t count = 0;
    EXPECT_EQ(Tss2_Tcti_GetPollHandles(context, nullptr, &count), TSS2_RC_SUCCESS);
    EXPECT_EQ(count, 1u);
    const int first = handleOf(a);
    EXPECT_NE(handleOf(b), first);
    a.ok(getRandom());
    EXPECT_EQ(handleOf(a), first);
    start(a, getRandom());
    EXPECT_EQ(handleOf(a), first);
    gate.open();
    answer(a);
}

class NoPollHandle : public OverEachChild {};

TEST_P(NoPollHandle, WhereTheChildHasNone) {
    Client a = space();
    TSS2_TCTI_CONTEXT* context = a.context();
    TSS2_TCTI_POLL_HANDLE handle;
    size_t count = 1;
    EXPECT_EQ(hex(Tss2_Tcti_GetPollHandles(context, &handle, &count)),
              hex(TSS2_TCTI_RC_NOT_IMPLEMENTED));
}

// ---- Many contexts in one thread

/** An ESAPI context that sends one command after the other, each when it has the last one's
 *  response. Where spaces swap it holds an object meanwhile. */
class Machine {
  public:
    static constexpr int kRounds = 6;

    Machine(Client client, size_t number) : number_(number), tcti_(client.release()) {
        EXPECT_EQ(Esys_Initialize(&esys_, tcti_, nullptr), TSS2_RC_SUCCESS);
    }
    ~Machine() {
        Esys_Finalize(&esys_);
        Tss2_TctiLdr_Finalize(&tcti_);
    }
    Machine(const Machine&) = delete;
    Machine& operator=(const Machine&) = delete;

    pollfd handle() {
        TSS2_TCTI_POLL_HANDLE* handles = nullptr;
        size_t count = 0;
        if (Esys_GetPollHandles(esys_, &handles, &count) != TSS2_RC_SUCCESS || count != 1)
            throw std::runtime_error("no poll handle");
        const pollfd handle = *handles;
        Esys_Free(handles);
        return handle;
    }

    static int steps() { return kRounds + (swapping() ? 2 : 0); }
    int done() const { return done_; }
    bool over() const { return done_ == steps(); }

    void start() {
        EXPECT_EQ(hex(startStep()), hex(TSS2_RC_SUCCESS)) << number_ << ", step " << done_;
    }
    /** False if the response is not there yet. */
    bool finish() {
        const TSS2_RC result = finishStep();
        if ((result & ~TSS2_RC_LAYER_MASK) == TSS2_BASE_RC_TRY_AGAIN) return false;
        EXPECT_EQ(hex(result), hex(TSS2_RC_SUCCESS)) << number_ << ", step " << done_;
        ++done_;
        return true;
    }

  private:
    bool makes() const { return swapping() && done_ == 0; }
    bool flushes() const { return swapping() && done_ == steps() - 1; }

    TSS2_RC startStep() {
        if (makes()) return startMaking();
        if (flushes()) return Esys_FlushContext_Async(esys_, key_);
        if (swapping())
            return Esys_HMAC_Async(esys_, key_, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE,
                                   &text_, TPM2_ALG_SHA256);
        return Esys_Hash_Async(esys_, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, &text_,
                               TPM2_ALG_SHA256, ESYS_TR_RH_NULL);
    }
    TSS2_RC finishStep() {
        if (makes())
            return Esys_CreatePrimary_Finish(esys_, &key_, nullptr, nullptr, nullptr, nullptr);
        if (flushes()) return Esys_FlushContext_Finish(esys_);
        TPM2B_DIGEST* digest = nullptr;
        const TSS2_RC result = swapping() ? Esys_HMAC_Finish(esys_, &digest)
                                          : Esys_Hash_Finish(esys_, &digest, nullptr);
        if (result == TSS2_RC_SUCCESS) check(*digest);
        Esys_Free(digest);
        return result;
    }

    TSS2_RC startMaking() {
        TPM2B_SENSITIVE_CREATE secret{};
        secret.sensitive.data = {1, {static_cast<BYTE>(number_)}};
        TPM2B_PUBLIC key{};
        key.publicArea.type = TPM2_ALG_KEYEDHASH;
        key.publicArea.nameAlg = TPM2_ALG_SHA256;
        key.publicArea.objectAttributes = TPMA_OBJECT_SIGN_ENCRYPT | TPMA_OBJECT_USERWITHAUTH;
        key.publicArea.parameters.keyedHashDetail.scheme.scheme = TPM2_ALG_HMAC;
        key.publicArea.parameters.keyedHashDetail.scheme.details.hmac.hashAlg = TPM2_ALG_SHA256;
        const TPM2B_DATA nothing{};
        const TPML_PCR_SELECTION noPcrs{};
        return Esys_CreatePrimary_Async(esys_, ESYS_TR_RH_NULL, ESYS_TR_PASSWORD, ESYS_TR_NONE,
                                        ESYS_TR_NONE, &secret, &key, &nothing, &noPcrs);
    }

    /** The one right answer: nobody else's has it. */
    void check(const TPM2B_DIGEST& digest) {
        const Bytes got(digest.buffer, digest.buffer + digest.size);
        const Bytes text(text_.buffer, text_.buffer + text_.size);
        const Bytes secret{static_cast<uint8_t>(number_)};
        EXPECT_EQ(hex(got), hex(swapping() ? hmacSha256(secret, text) : sha256(text)));
    }

    size_t number_;
    TSS2_TCTI_CONTEXT* tcti_;
    ESYS_CONTEXT* esys_ = nullptr;
    ESYS_TR key_ = ESYS_TR_NONE;
    int done_ = 0;
    TPM2B_MAX_BUFFER text_{1, {static_cast<BYTE>(number_)}};
};

class EventLoop : public OverEachChild {
  protected:
    static constexpr size_t kMachines = 32;

    void SetUp() override {
        for (size_t i = 0; i < kMachines; ++i) {
            machines.push_back(std::make_unique<Machine>(space(), i));
            handles.push_back(machines.back()->handle());
        }
        mark = gate.commandCount();
        for (auto& each : machines) each->start();
    }
    void TearDown() override {
        const size_t clientCommands = kMachines * static_cast<size_t>(Machine::steps());
        EXPECT_EQ(progress, clientCommands);
        if (swapping()) {
            EXPECT_GT(tpmCommands(), clientCommands);
        } else {
            EXPECT_EQ(tpmCommands(), clientCommands);
        }
        machines.clear();
        EXPECT_EQ(residue(sim), "");
    }

    size_t tpmCommands() { return gate.commandCount() - mark; }

    /** Whoever is woken gets somewhere: takes a response from the TPM, or from our buffer. So there
     *  are no more wakeups, this one aside, than there were responses of both kinds. */
    void woken() {
        if (++wakeups > progress + tpmCommands() + 1)
            throw std::runtime_error("woken for nothing, at wakeup " + std::to_string(wakeups));
    }

    /** Lets the machine see whether its response is there, and starts its next command. */
    void serve(size_t number) {
        Machine& machine = *machines[number];
        // One that is over waits for nothing: it should not have been woken.
        if (machine.over() || !machine.finish()) return;
        ++progress;
        if (machine.over()) return;
        machine.start();
        const auto [slowest, fastest] = std::minmax_element(
            machines.begin(), machines.end(),
            [](const auto& one, const auto& other) { return one->done() < other->done(); });
        spread = std::max(spread, (*fastest)->done() - (*slowest)->done());
    }
    bool over() const {
        return std::all_of(machines.begin(), machines.end(),
                           [](const auto& each) { return each->over(); });
    }

    std::vector<std::unique_ptr<Machine>> machines;
    std::vector<pollfd> handles;
    size_t mark = 0, wakeups = 0, progress = 0;
    int spread = 0;
};

TEST_P(EventLoop, ByPollServingAllWhoAreReady) {
    while (!over()) {
        ASSERT_GT(::poll(handles.data(), handles.size(), -1), 0);
        woken();
        for (size_t i = 0; i < kMachines; ++i)
            if (handles[i].revents != 0) serve(i);
    }
    // First come, first served: nobody is more than two commands ahead of anybody.
    EXPECT_LE(spread, 2);
}

TEST_P(EventLoop, ByPollServingOneAtATime) {
    for (size_t next = 0; !over(); next = (next + 7) % kMachines) {
        ASSERT_GT(::poll(handles.data(), handles.size(), -1), 0);
        woken();
        while (handles[next].revents == 0) next = (next + 1) % kMachines;
        serve(next);
    }
}

TEST_P(EventLoop, ByPollServingAlwaysTheLast) {
    while (!over()) {
        ASSERT_GT(::poll(handles.data(), handles.size(), -1), 0);
        woken();
        size_t last = kMachines - 1;
        while (handles[last].revents == 0) --last;
        serve(last);
    }
}

TEST_P(EventLoop, ByEpoll) {
    const Descriptor loop(::epoll_create1(EPOLL_CLOEXEC));
    for (size_t i = 0; i < kMachines; ++i) {
        epoll_event event{};
        event.events = EPOLLIN;
        event.data.u64 = i;
        ASSERT_EQ(::epoll_ctl(loop.get(), EPOLL_CTL_ADD, handles[i].fd, &event), 0);
    }
    while (!over()) {
        epoll_event ready[5];
        const int count = ::epoll_wait(loop.get(), ready, 5, -1);
        ASSERT_GT(count, 0);
        woken();
        for (int i = 0; i < count; ++i) serve(ready[i].data.u64);
    }
}

constexpr const char* kTelling[] = {"device", "mssim", "pcap_mssim"};

INSTANTIATE_TEST_SUITE_P(Over, PollHandle, testing::ValuesIn(kTelling), kindOf);
INSTANTIATE_TEST_SUITE_P(Over, NoPollHandle, testing::Values("swtpm"), kindOf);
INSTANTIATE_TEST_SUITE_P(Over, EventLoop, testing::Values("device", "mssim"), kindOf);

}  // namespace
}  // namespace spaces::test
