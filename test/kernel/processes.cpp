/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Several processes on /dev/tpm0, which one at a time may open, and processes that are killed.
 */
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>

#include "device.h"
#include "support/response.h"

namespace spaces::test {
namespace {

class Processes : public Device {};

std::string conf(const char* device, const char* options = "") {
    return Client::spaceConf(device, options);
}

/** Has three objects and three sessions of its own until it is told to go on. */
int holdAllSlots(const std::string& conf, const std::function<void()>& pause) {
    Client client(conf);
    for (int i = 0; i < 3; i++) {
        client.ok(loadExternalEcc());
        client.ok(startAuthSession());
    }
    pause();
    return 0;
}

TEST_F(Processes, SecondIsToldThatTheDeviceIsBusy) {
    Process first([](const auto& pause) { return holdAllSlots(conf(kTpm), pause); });
    ASSERT_TRUE(first.waitUntilPaused()) << first.messages();
    Process second([](const auto&) { return Client::tryOpen(conf(kTpm)) == 0 ? 0 : 3; });
    EXPECT_EQ(second.wait(), 3);
    EXPECT_NE(second.messages().find("Device or resource busy"), std::string::npos)
        << second.messages();
    first.goOn();
    EXPECT_EQ(first.wait(), 0) << first.messages();
    Client third(conf(kTpm));
    third.ok(loadExternalEcc());
}

TEST_F(Processes, SecondWaitsUntilTheDeviceIsFree) {
    Process first([](const auto& pause) { return holdAllSlots(conf(kTpm), pause); });
    ASSERT_TRUE(first.waitUntilPaused()) << first.messages();
    Process second([](const auto& pause) {
        if (Client::tryOpen(conf(kTpm)) == TSS2_RC_SUCCESS) return 3;  // it is not busy
        pause();
        return holdAllSlots(conf(kTpm, "wait=60"), [] {});
    });
    ASSERT_TRUE(second.waitUntilPaused()) << second.messages();
    second.goOn();
    // Time for one that does not wait to fail. One that does, however slow it is, passes.
    usleep(300000);
    first.goOn();
    EXPECT_EQ(first.wait(), 0) << first.messages();
    EXPECT_EQ(second.wait(), 0) << second.messages();
}

TEST_F(Processes, SecondWaitsInVain) {
    Process first([](const auto& pause) { return holdAllSlots(conf(kTpm), pause); });
    ASSERT_TRUE(first.waitUntilPaused()) << first.messages();
    const auto start = std::chrono::steady_clock::now();
    Process second([](const auto&) { return Client::tryOpen(conf(kTpm, "wait=1")) == 0 ? 0 : 3; });
    EXPECT_EQ(second.wait(), 3);
    EXPECT_GE(std::chrono::steady_clock::now() - start, std::chrono::seconds(1));
    EXPECT_NE(second.messages().find("busy"), std::string::npos) << second.messages();
    first.goOn();
    EXPECT_EQ(first.wait(), 0) << first.messages();
}

// Both have the kernel's resource manager, and all of the TPM, to themselves.
TEST_F(Processes, TwoOnTheManagedDevice) {
    Process first([](const auto& pause) { return holdAllSlots(conf(kManaged), pause); });
    ASSERT_TRUE(first.waitUntilPaused()) << first.messages();
    Process second([](const auto& pause) { return holdAllSlots(conf(kManaged), pause); });
    EXPECT_TRUE(second.waitUntilPaused()) << second.messages();
    second.goOn();
    EXPECT_EQ(second.wait(), 0) << second.messages();
    first.goOn();
    EXPECT_EQ(first.wait(), 0) << first.messages();
}

TEST_F(Processes, KilledOnTheManagedDeviceLeavesNothing) {
    Process killed([](const auto& pause) { return holdAllSlots(conf(kManaged), pause); });
    ASSERT_TRUE(killed.waitUntilPaused()) << killed.messages();
    killed.kill();
    EXPECT_EQ(flushResidue(), "");
}

// On /dev/tpm0 a process that is killed has nobody to flush for it.
TEST_F(Processes, KilledLeavesItsObjects) {
    Process killed([](const auto& pause) { return holdAllSlots(conf(kTpm), pause); });
    ASSERT_TRUE(killed.waitUntilPaused()) << killed.messages();
    killed.kill();
    for (const char* options : {"", "swap=on"}) {
        Client next(conf(kTpm, options));
        EXPECT_EQ(handles(next, TPM2_TRANSIENT_FIRST).size(), 0u);
        EXPECT_EQ(hex(rc(next.send(loadExternalEcc()))), hex(TPM2_RC_OBJECT_MEMORY)) << options;
        EXPECT_EQ(hex(rc(next.send(startAuthSession()))), hex(TPM2_RC_SESSION_MEMORY)) << options;
    }
    EXPECT_NE(flushResidue(), "");
}

// The kernel finishes the command of a process that is gone, and then lets the next one in.
TEST_F(Processes, KilledInTheMiddleOfACommand) {
    for (const char* device : {kTpm, kManaged}) {
        Process killed([&](const auto& pause) {
            Client client(conf(device));
            client.transmit(createPrimary(TPM2_RH_NULL, rsaStorage(device)));
            pause();
            return 0;
        });
        ASSERT_TRUE(killed.waitUntilPaused()) << killed.messages();
        killed.kill();
        Client next(conf(device));
        EXPECT_EQ(hex(handle(next.ok(loadExternalEcc()))), hex(TPM2_TRANSIENT_FIRST)) << device;
        next.close();
        EXPECT_EQ(flushResidue() == "", device == kManaged) << device;
    }
}

}  // namespace
}  // namespace spaces::test
