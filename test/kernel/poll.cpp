/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Waiting in poll() for a space over the kernel's devices, as an event loop does.
 */
#include <gtest/gtest.h>
#include <poll.h>
#include <tss2/tss2_esys.h>

#include <memory>

#include "device.h"
#include "support/response.h"

namespace spaces::test {
namespace {

class Poll : public EachWay {
  protected:
    static constexpr int kSeconds = 30;

    /** The one handle of a context. */
    static pollfd pollHandle(Client& client) {
        TSS2_TCTI_CONTEXT* context = client.context();
        size_t count = 0;
        EXPECT_EQ(hex(Tss2_Tcti_GetPollHandles(context, nullptr, &count)), hex(0u));
        EXPECT_EQ(count, 1u);
        pollfd handle{};
        EXPECT_EQ(hex(Tss2_Tcti_GetPollHandles(context, &handle, &count)), hex(0u));
        return handle;
    }

    /** Sends a command and waits for the response in poll() alone. Returns how often it waited. */
    static int exchange(Client& client, const Bytes& command, Bytes& response) {
        EXPECT_EQ(hex(client.transmit(command)), hex(0u));
        for (int waits = 1;; waits++) {
            pollfd handle = pollHandle(client);
            if (poll(&handle, 1, kSeconds * 1000) != 1) {
                ADD_FAILURE() << "nothing happens";
                return waits;
            }
            EXPECT_EQ(handle.revents, POLLIN);
            const TSS2_RC answer = client.receive(response, TSS2_TCTI_TIMEOUT_NONE);
            if (answer == TSS2_RC_SUCCESS) return waits;
            EXPECT_EQ(hex(answer), hex(TSS2_TCTI_RC_TRY_AGAIN));
            if (answer != TSS2_TCTI_RC_TRY_AGAIN) return waits;
        }
    }
};
INSTANTIATE_TEST_SUITE_P(, Poll, testing::ValuesIn(kWays),
                         [](const auto& info) { return std::string(info.param.name); });

// What poll() says is true: it is not ready before there is something to do, nor at once every
// time, and each time that it is ready the command comes nearer.
TEST_P(Poll, UntilTheResponse) {
    const AheadOfTheKernel ahead;
    Client client = space();
    for (int i = 0; i < 10; i++) {
        Bytes response;
        const int waits = exchange(client, createPrimary(TPM2_RH_NULL, eccStorage()), response);
        ASSERT_EQ(hex(rc(response)), hex(0u));
        EXPECT_LE(waits, 20) << "for a command and what swapping sends for it";
        exchange(client, flushContext(handle(response)), response);
    }
}

TEST_P(Poll, NothingIsReadyBeforeACommand) {
    Client client = space();
    pollfd handle = pollHandle(client);
    EXPECT_EQ(poll(&handle, 1, 0), 0);
    client.ok(getRandom());
    handle = pollHandle(client);
    EXPECT_EQ(poll(&handle, 1, 0), 0);
}

// More than fits: several commands of the TPM for one of the client, one after the other.
TEST_P(Poll, WhileSwapping) {
    if (std::string(GetParam().options) != "swap=on") return;
    Client client = space();
    std::vector<Key> keys;
    for (int i = 0; i < 6; i++) keys.emplace_back(client, "key " + std::to_string(i));
    const AheadOfTheKernel ahead;
    for (int round = 0; round < 3; round++)
        for (const Key& key : keys) {
            Bytes response;
            EXPECT_LE(exchange(client, hmac(key.object, "data"), response), 20);
            EXPECT_EQ(hex(rc(response)), hex(0u)) << key.secret;
        }
    for (const Key& key : keys) key.expectUsable(client);
}

// Two spaces of one thread on one TPM: each hears of its own response, whoever fetches it.
TEST_P(Poll, TwoSpaces) {
    Client a = space(), b = space();
    const AheadOfTheKernel ahead;
    ASSERT_EQ(hex(a.transmit(createPrimary(TPM2_RH_NULL))), hex(0u));
    ASSERT_EQ(hex(b.transmit(getRandom())), hex(0u));
    bool aIsDone = false, bIsDone = false;
    Bytes ofA, ofB;
    for (int waits = 0; waits < 40 && !(aIsDone && bIsDone); waits++) {
        std::vector<pollfd> handles;
        if (!aIsDone) handles.push_back(pollHandle(a));
        if (!bIsDone) handles.push_back(pollHandle(b));
        ASSERT_GT(poll(handles.data(), handles.size(), kSeconds * 1000), 0) << "nothing happens";
        if (!aIsDone) aIsDone = a.receive(ofA, TSS2_TCTI_TIMEOUT_NONE) == TSS2_RC_SUCCESS;
        if (!bIsDone) bIsDone = b.receive(ofB, TSS2_TCTI_TIMEOUT_NONE) == TSS2_RC_SUCCESS;
    }
    EXPECT_EQ(hex(rc(ofA)), hex(0u));
    EXPECT_EQ(hex(rc(ofB)), hex(0u));
}

// ESAPI's asynchronous calls, in the loop that its manual shows.
TEST_P(Poll, Esapi) {
    Client client = space();
    const AheadOfTheKernel ahead;
    ESYS_CONTEXT* esys = nullptr;
    ASSERT_EQ(hex(Esys_Initialize(&esys, client.context(), nullptr)), hex(0u));
    for (int i = 0; i < 10; i++) {
        ASSERT_EQ(hex(Esys_GetRandom_Async(esys, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, 8)),
                  hex(0u));
        TPM2B_DIGEST* random = nullptr;
        TSS2_RC answer = TSS2_ESYS_RC_TRY_AGAIN;
        for (int waits = 0; waits < 20 && (answer & 0xFFFF) == TSS2_BASE_RC_TRY_AGAIN; waits++) {
            TSS2_TCTI_POLL_HANDLE* handles = nullptr;
            size_t count = 0;
            ASSERT_EQ(hex(Esys_GetPollHandles(esys, &handles, &count)), hex(0u));
            EXPECT_EQ(poll(handles, count, kSeconds * 1000), 1) << "nothing happens";
            Esys_Free(handles);
            answer = Esys_GetRandom_Finish(esys, &random);
        }
        EXPECT_EQ(hex(answer), hex(0u));
        Esys_Free(random);
    }
    Esys_Finalize(&esys);
}

}  // namespace
}  // namespace spaces::test
