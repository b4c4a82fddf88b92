// SPDX-License-Identifier: BSD-2-Clause
// A child TCTI that does what the test says, in place of one that tctildr would load: programs
// that use it are linked with $(WRAP_TCTILDR).
// Always holds: it fails the test for a command that is not expected, for an expected one that
// does not come, for a second command before the first one's response was taken, for two calls at
// once, for a size query and for a buffer that the largest response would not fit in.
//
//     FakeChild child("fake");
//     child.expect(getRandom(), response(TPM2_RC_RETRY));
//     child.expect(getRandom(), response()).tryAgain(2);
#pragma once

#include <gtest/gtest.h>
#include <tss2/tss2_tcti.h>

#include <atomic>
#include <deque>
#include <functional>
#include <string>
#include <vector>

#include "unit/packets.h"

namespace spaces::test {

class FakeChild {
  public:
    /// One command and what becomes of it.
    class Step {
      public:
        Step(Packet expected, Packet answer)
            : command(std::move(expected)), response(std::move(answer)) {}

        /// How often receive says TRY_AGAIN before it gives the response.
        Step& tryAgain(unsigned times) { return set(tryAgainLeft, times); }
        Step& transmitFails(TSS2_RC rc) { return set(transmitCode, rc); }
        Step& receiveFails(TSS2_RC rc) { return set(receiveCode, rc); }
        /// Of a child that tells: there is no response before makeReady().
        Step& isSlow() { return set(slow, true); }
        /// Called while the command is being transmitted.
        Step& whileTransmitting(std::function<void()> action) { return set(onTransmit, action); }
        /// Called while the response is being waited for, each time.
        Step& whileReceiving(std::function<void()> action) { return set(onReceive, action); }
        /// The locality that the child must have for this command.
        Step& atLocality(uint8_t value) { return set(locality, int{value}); }

        Packet command;
        Packet response;
        unsigned tryAgainLeft = 0;
        TSS2_RC transmitCode = TSS2_RC_SUCCESS;
        TSS2_RC receiveCode = TSS2_RC_SUCCESS;
        std::function<void()> onTransmit;
        std::function<void()> onReceive;
        int locality = -1;  // -1: any
        bool slow = false;

      private:
        template <class T>
        Step& set(T& member, T value) {
            member = std::move(value);
            return *this;
        }
    };

    /// Until it is destroyed, the loader finds it under this name.
    explicit FakeChild(std::string nameAndConf);
    ~FakeChild();
    FakeChild(const FakeChild&) = delete;
    FakeChild& operator=(const FakeChild&) = delete;

    /// The command that must come next, after those expected before it.
    Step& expect(const Packet& command, const Packet& response);

    /// From now on, commands that are not expected are answered by this.
    void serve(std::function<Packet(const Packet&)> server) { server_ = std::move(server); }

    /// From now on, FlushContext that is not expected succeeds: for the end of a test that is not
    /// about closing.
    void acceptFlushes();

    /// The response to the command under way is there, however often it was to be tried again. A
    /// child that tells tells it. Any thread may call it.
    void makeReady();

    /// From now on it has a poll handle, as the device TCTI has: readable when a response is there,
    /// which is at once unless the step says isSlow().
    void tell();
    /// What it gives as its poll handle.
    int pollHandle() const { return handle_; }

    /// True when everything that was expected has come. Otherwise the end of the test fails.
    bool done() const { return steps_.empty() && !pending_; }

    // What it says when it is asked to do these.
    TSS2_RC openCode = TSS2_RC_SUCCESS;
    TSS2_RC localityCode = TSS2_RC_SUCCESS;
    TSS2_RC cancelCode = TSS2_RC_SUCCESS;

    /// After a cancel it believes that no response is owed any more, as the mssim TCTI does: it
    /// comes after the next command.
    bool forgetsOnCancel = false;

    /// Called while it is asked to cancel.
    std::function<void()> whileCanceling;
    /// Called while it is asked for a locality.
    std::function<void()> whileSettingLocality;

    /// Called while the loader opens it.
    std::function<void()> whileOpening;

    // What was asked of it.
    unsigned opens = 0;
    unsigned closes = 0;
    unsigned cancels = 0;
    unsigned receives = 0;
    std::vector<uint8_t> localities;  // each call of setLocality
    std::vector<int32_t> timeouts;    // each call of receive
    std::vector<Packet> commands;     // each command transmitted

    // For the loader's functions.
    static TSS2_RC load(const char* nameAndConf, TSS2_TCTI_CONTEXT** context);
    static void unload(TSS2_TCTI_CONTEXT** context);

  private:
    struct Context {
        TSS2_TCTI_CONTEXT_COMMON_V2 common;
        FakeChild* child;
    };
    class Inside;

    static FakeChild& of(TSS2_TCTI_CONTEXT* context);
    static TSS2_RC transmit(TSS2_TCTI_CONTEXT* context, size_t size, const uint8_t* command);
    static TSS2_RC receive(TSS2_TCTI_CONTEXT* context, size_t* size, uint8_t* response,
                           int32_t timeout);
    static TSS2_RC cancel(TSS2_TCTI_CONTEXT* context);
    static TSS2_RC getPollHandles(TSS2_TCTI_CONTEXT* context, TSS2_TCTI_POLL_HANDLE* handles,
                                  size_t* count);
    static TSS2_RC setLocality(TSS2_TCTI_CONTEXT* context, uint8_t locality);
    static void finalize(TSS2_TCTI_CONTEXT*) {}

    void take(const Packet& command);
    void setReadable(bool readable);
    TSS2_RC give(size_t* size, uint8_t* response);

    const std::string nameAndConf_;
    Context context_{};
    std::deque<Step> steps_;
    std::deque<Step> running_;  // at most one: what was transmitted and not yet received
    std::function<Packet(const Packet&)> server_;
    bool open_ = false;
    bool pending_ = false;
    bool forgotten_ = false;
    int handle_ = -1;
    uint8_t locality_ = 0;
    std::atomic<int> inside_ = 0;
};

}  // namespace spaces::test
