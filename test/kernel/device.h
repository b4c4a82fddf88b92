/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What tests on a real kernel share: its two devices for one TPM, other processes that use them,
 * and the TPM's own view of what is left in it.
 *
 * What always holds here: every test leaves the TPM as it found it, and one that does not fails and
 * does not disturb the next. A process that a test starts is gone when the test is.
 */
#ifndef SPACES_TEST_KERNEL_DEVICE_H
#define SPACES_TEST_KERNEL_DEVICE_H

#include <gtest/gtest.h>
#include <sys/types.h>

#include <functional>
#include <string>
#include <vector>

#include "support/client.h"
#include "support/command.h"

namespace spaces::test {

/** One user at a time; what it leaves behind stays. */
inline constexpr const char* kTpm = "device:/dev/tpm0";
/** The kernel's resource manager: any number of users, three objects and three sessions for each.
 */
inline constexpr const char* kManaged = "device:/dev/tpmrm0";

/** A way for a space to reach the TPM. */
struct Way {
    const char* name;
    const char* device;
    const char* options;
    Client space() const { return Client(conf()); }
    std::string conf() const { return Client::spaceConf(device, options); }
};
inline constexpr Way kWays[] = {
    {"tpm0", kTpm, ""},
    {"tpm0Swapping", kTpm, "swap=on"},
    {"tpmrm0", kManaged, ""},
    {"tpmrm0Swapping", kManaged, "swap=on"},
};
void PrintTo(const Way& way, std::ostream* out);

/** What the TPM itself holds, "" for nothing; it is all flushed. Nobody else may use /dev/tpm0. */
std::string flushResidue();

class Device : public testing::Test {
  protected:
    void TearDown() override { EXPECT_EQ(flushResidue(), ""); }
};

class EachWay : public Device, public testing::WithParamInterface<Way> {
  protected:
    Client space() const { return GetParam().space(); }
};

/** While it lives, this process comes before the kernel's own, which carry out what it writes to a
 *  device. They hold a lock that poll() takes, too, so that one who is not ahead of them sleeps
 *  there, deaf to signals, until the response has come; one who is waits as poll() should. */
class AheadOfTheKernel {
  public:
    AheadOfTheKernel();
    ~AheadOfTheKernel();
    AheadOfTheKernel(const AheadOfTheKernel&) = delete;
    AheadOfTheKernel& operator=(const AheadOfTheKernel&) = delete;
};

/** An HMAC key that is known, so that what it computes can be foretold. */
struct Key {
    std::string secret;
    TPM2_HANDLE object;
    Key(Client& client, const std::string& secret);
    void expectUsable(Client& client) const;
};

/** A policy session with a digest that tells it from all others. */
struct Policy {
    TPM2_HANDLE session;
    Bytes digest;
    Policy(Client& client, const std::string& text);
    void expectUsable(Client& client) const;
};

/** Another process, which does `work` and then waits until it is told to go on or is killed. */
class Process {
  public:
    /** `work` gets a function that says so to the parent and waits for goOn(). What it writes to
     *  standard error is kept; what it throws makes its exit status 1. */
    using Work = std::function<int(const std::function<void()>& pause)>;
    explicit Process(const Work& work);
    ~Process();
    Process(const Process&) = delete;
    Process& operator=(const Process&) = delete;

    /** Until it pauses; false when it ended instead. */
    bool waitUntilPaused();
    void goOn();
    /** SIGKILL, and it is gone. */
    void kill();
    /** The exit status, -1 for one that was killed. */
    int wait();
    /** All that it wrote to standard error, once it has ended. */
    std::string messages();

  private:
    pid_t pid_ = -1;
    int fromChild_ = -1, toChild_ = -1, messages_ = -1;
};

}  // namespace spaces::test

#endif
