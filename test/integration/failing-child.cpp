/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A child TCTI that fails, is interrupted, or is not there yet.
 * What always holds here: no failure of the child ends a context; what the TPM has lost is answered
 * as a TPM of one's own would answer after a reset; no wait is without an end.
 */
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "our_log.h"
#include "over_children.h"
#include "shared_and_private.h"
#include "support/session.h"

namespace spaces::test {
namespace {

constexpr TPM2_RC kReferenceH0 = 0x910, kReferenceS0 = 0x918;

bool ofTheLayer(TPM2_RC code) { return (code & 0xFFFF0000) == TSS2_RESMGR_RC_LAYER; }

Bytes received(Client& client) {
    Bytes response;
    EXPECT_EQ(hex(client.receive(response)), hex(TSS2_RC_SUCCESS));
    return response;
}

class FailingChild : public OverChildren {
  protected:
    ~FailingChild() override { ::setitimer(ITIMER_REAL, &kNever, nullptr); }

    static constexpr itimerval kNever{};
};

/** An object and two sessions, for all of which there is a moment to be lost. */
struct Belongings {
    explicit Belongings(Client& client)
        : name(primaryName(client.ok(createPrimary(TPM2_RH_NULL, hmacKey("mine"))))),
          session(Session::start(client)),
          policy(handle(client.ok(startAuthSession(TPM2_SE_POLICY)))) {}

    /** They are there, all of them. */
    void expectKept(Client& client) {
        EXPECT_EQ(hex(publicName(client.ok(readPublic(kFirst)))), hex(name));
        EXPECT_EQ(rc(session.authorize(client, createPrimary(TPM2_RH_NULL, hmacKey("other")))),
                  TPM2_RC_SUCCESS);
        client.ok(flushContext(kSecond));
        client.ok(policyGetDigest(policy));
    }

    /** They are answered as what is not there, and are in no list; new ones take their places. */
    void expectLost(Client& client) const {
        EXPECT_EQ(hex(rc(client.send(readPublic(kFirst)))), hex(kReferenceH0));
        EXPECT_EQ(
            hex(rc(client.send(createPrimary(TPM2_RH_NULL).noAuth().session(session.handle())))),
            hex(kReferenceS0));
        EXPECT_EQ(hex(rc(client.send(policyGetDigest(policy)))), hex(kReferenceH0));
        for (TPM2_HANDLE kind : {kFirst, kLoaded, kSaved})
            EXPECT_EQ(handles(client, kind), Handles{});
        EXPECT_EQ(hex(handle(client.ok(createPrimary(TPM2_RH_NULL, hmacKey("new"))))), hex(kFirst));
        client.ok(startAuthSession());
    }

    Bytes name;
    Session session;
    TPM2_HANDLE policy;
};

TEST_P(FailingChild, ATpmThatEndsAndStartsAgainHasLostEverything) {
    Client a(conf), b(conf);
    const Belongings ofA(a);
    const Bytes name = primaryName(b.ok(createPrimary()));
    endTpm();
    for (int i = 0; i < 2; i++)
        for (Client* each : {&a, &b})
            EXPECT_PRED1(ofTheLayer, rc(each->send(getRandom()))) << hex(getRandom());
    startTpm();
    for (Client* each : {&a, &b}) {  // the connection may be open still, and broken
        const TPM2_RC code = rc(each->send(getRandom()));
        EXPECT_TRUE(code == TPM2_RC_SUCCESS || ofTheLayer(code)) << hex(code);
    }
    ofA.expectLost(a);
    EXPECT_EQ(hex(rc(b.send(readPublic(kFirst)))), hex(kReferenceH0));
    EXPECT_EQ(hex(primaryName(b.ok(createPrimary()))), hex(name));
    a.close();
    b.close();
    EXPECT_EQ(residue(sim), "");
}

// The one whose command the TPM had is told; the ones in line are served by the next TPM.
TEST_P(FailingChild, ACommandUnderWayFailsAndThoseInLineDoNot) {
    Client a(conf), b(conf), c(conf);
    a.ok(createPrimary(TPM2_RH_NULL, hmacKey("a")));
    ASSERT_EQ(::kill(sim.pid(), SIGSTOP), 0);
    ASSERT_EQ(a.transmit(getRandom(11)), TSS2_RC_SUCCESS);
    ASSERT_EQ(b.transmit(getRandom(12)), TSS2_RC_SUCCESS);
    ASSERT_EQ(c.transmit(createPrimary(TPM2_RH_NULL, hmacKey("c"))), TSS2_RC_SUCCESS);
    endTpm();
    startTpm();
    EXPECT_PRED1(ofTheLayer, rc(received(a)));
    EXPECT_EQ(parameters(received(b)).tpm2b().size(), 12u);
    EXPECT_EQ(hex(handle(received(c))), hex(kFirst));
    EXPECT_EQ(hex(rc(a.send(readPublic(kFirst)))), hex(kReferenceH0));
    c.ok(readPublic(kFirst));
}

// What breaks here is the connection: the TPM has everything still.
TEST_P(FailingChild, AConnectionIsOpenedAgain) {
    Client a(conf), b(conf);
    Belongings ofA(a);
    const Bytes name = primaryName(b.ok(createPrimary(TPM2_RH_NULL, hmacKey("b"))));
    for (int i = 0; i < 3; i++) {
        startBridge();
        const TPM2_RC code = rc(i % 2 == 0 ? a.send(getRandom()) : b.send(getRandom()));
        EXPECT_TRUE(ofTheLayer(code) == (kind != "swtpm")) << hex(code);
        ofA.expectKept(a);
        EXPECT_EQ(hex(publicName(b.ok(readPublic(kFirst)))), hex(name));
    }
    a.close();
    b.close();
    EXPECT_EQ(residue(sim), "");
}

TEST_P(FailingChild, ClosingWhileThereIsNoTpmComesToAnEnd) {
    {
        Client a(conf), b(conf);
        const Belongings ofA(a);
        ASSERT_EQ(b.transmit(getRandom()), TSS2_RC_SUCCESS);
        endTpm();
    }
    startTpm();
    Client next(conf);
    Belongings(next).expectKept(next);
}

/** One that tells when it has something to give. */
class TellingChild : public FailingChild {};

TEST_P(TellingChild, SignalsInterruptNothing) {
    Client a(conf), b(conf);
    Belongings ofA(a);
    static volatile sig_atomic_t signals;
    signals = 0;
    struct sigaction action {};  // without SA_RESTART
    action.sa_handler = [](int) { signals = signals + 1; };
    ASSERT_EQ(::sigaction(SIGALRM, &action, nullptr), 0);
    const itimerval often{{0, 500}, {0, 500}};
    ASSERT_EQ(::setitimer(ITIMER_REAL, &often, nullptr), 0);
    for (int i = 0; i < 100 || signals < 100; i++) {
        ofA.expectKept(a);
        b.ok(createPrimary(TPM2_RH_NULL, hmacKey("b")));
        b.ok(flushContext(kFirst));
        if (i % 50 == 0) {
            b.ok(createPrimary(TPM2_RH_NULL));  // takes longer than the timer
            b.ok(flushContext(kFirst));
        }
        if (HasFailure()) break;
    }
    ASSERT_EQ(::setitimer(ITIMER_REAL, &kNever, nullptr), 0);
    EXPECT_GE(signals, 100);
}

// ---- Children that are not there yet, or in somebody else's hands

/** What the library has logged since the object was made. */
class Log {
  public:
    Log() : path_(std::getenv("TSS2_LOGFILE")) { start_ = lines().size(); }

    std::vector<std::string> containing(const std::string& text) const {
        std::vector<std::string> found;
        const std::vector<std::string> all = lines();
        for (size_t i = start_; i < all.size(); i++)
            if (all[i].find(text) != std::string::npos) found.push_back(all[i]);
        return found;
    }
    void await(const std::string& text) const {
        while (containing(text).empty()) std::this_thread::yield();
    }

  private:
    /** Ours; children log to the same file. */
    std::vector<std::string> lines() const {
        std::ifstream file(path_);
        std::vector<std::string> all;
        for (std::string line; std::getline(file, line);)
            if (line.find(":src/tpm/") != std::string::npos ||
                line.find(":src/tcti/") != std::string::npos)
                all.push_back(line);
        return all;
    }

    std::string path_;
    size_t start_ = 0;
};

/** Another process that has a device for itself, for as long as it is told to. A terminal stands in
 *  for the device: the kernel keeps others from it, but for the privileged. */
class Holder {
  public:
    explicit Holder(const std::string& device) {
        int ready[2];
        if (::pipe2(ready, O_CLOEXEC) != 0 || ::pipe2(stay_, O_CLOEXEC) != 0)
            throw std::runtime_error("pipe2");
        pid_ = ::fork();
        if (pid_ == 0) {
            ::close(stay_[1]);
            hold(device.c_str(), ready[1]);
        }
        ::close(ready[1]);
        char c;
        const bool held = ::read(ready[0], &c, 1) == 1;
        ::close(ready[0]);
        if (!held) throw std::runtime_error("cannot hold " + device);
    }
    ~Holder() { letGo(); }
    Holder(const Holder&) = delete;
    Holder& operator=(const Holder&) = delete;

    pid_t pid() const { return pid_; }

    void letGo() {
        if (pid_ <= 0) return;
        ::close(stay_[0]);
        ::close(stay_[1]);
        ::waitpid(pid_, nullptr, 0);
        pid_ = -1;
    }

  private:
    [[noreturn]] void hold(const char* device, int ready) const {
        const int held = ::open(device, O_RDWR | O_NOCTTY | O_CLOEXEC);
        if (held < 0 || ::ioctl(held, TIOCEXCL) != 0) ::_exit(1);
        if (::write(ready, "r", 1) != 1) ::_exit(1);
        char c;
        if (::read(stay_[0], &c, 1) != 0) ::_exit(1);
        ::ioctl(held, TIOCNXCL);
        ::_exit(0);
    }

    pid_t pid_ = -1;
    int stay_[2];
};

/** From now on exclusive terminals are so for this thread as well. */
void dropPrivilege() {
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    __user_cap_data_struct data[2]{};
    if (::syscall(SYS_capget, &header, data) != 0) throw std::runtime_error("capget");
    for (uint32_t* set : {&data[0].effective, &data[0].permitted})
        *set &= ~(uint32_t{1} << CAP_SYS_ADMIN);
    if (::syscall(SYS_capset, &header, data) != 0) throw std::runtime_error("capset");
}

/** Opens a space in a thread that is not privileged, and uses it. */
class Opening {
  public:
    explicit Opening(const std::string& conf) : thread_([this, conf] { run(conf); }) {}
    ~Opening() { join(); }
    Opening(const Opening&) = delete;
    Opening& operator=(const Opening&) = delete;

    /** "" when all was well. */
    std::string outcome() {
        join();
        return outcome_;
    }
    double seconds() const { return seconds_; }

  private:
    void run(const std::string& conf) {
        const auto start = std::chrono::steady_clock::now();
        try {
            dropPrivilege();
            Client client(conf);
            if (handle(client.ok(createPrimary(TPM2_RH_NULL, hmacKey()))) != kFirst)
                outcome_ = "no first object";
        } catch (const std::exception& problem) {
            outcome_ = problem.what();
        }
        seconds_ = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    }
    void join() {
        if (thread_.joinable()) thread_.join();
    }

    std::string outcome_;
    double seconds_ = 0;
    std::thread thread_;
};

class LateChild : public OverChildren {
  protected:
    LateChild() {
        // The name that processes which have it open are found by.
        if (kind == "device") {
            device = std::filesystem::canonical(where).string();
            child = "device:" + device;
        }
    }
    std::string waiting(const std::string& seconds) {
        return Client::spaceConf(child, "wait=" + seconds);
    }
    std::string device;
};

TEST_P(LateChild, IsWaitedFor) {
    const Log log;
    if (kind == "device") {
        Holder holder(device);
        Opening opening(waiting("60"));
        log.await("Waiting for at most 60 s: ");
        EXPECT_EQ(log.containing("(process " + std::to_string(holder.pid()) + ")").size(), 1u);
        holder.letGo();
        EXPECT_EQ(opening.outcome(), "");
    } else {
        endTpm();
        Opening opening(waiting("60"));
        log.await("Waiting for at most 60 s: ");
        startTpm();
        EXPECT_EQ(opening.outcome(), "");
    }
    EXPECT_EQ(log.containing("").size(), 1u);
}

TEST_P(LateChild, IsWaitedForNoLongerThanAsked) {
    const Log log;
    endTpm();
    std::unique_ptr<Holder> holder;
    if (kind == "device") {
        startTpm();
        device = std::filesystem::canonical(where).string();
        child = "device:" + device;
        holder = std::make_unique<Holder>(device);
    }
    Opening opening(waiting("1"));
    EXPECT_NE(opening.outcome(), "");
    EXPECT_GE(opening.seconds(), 1.0);
    EXPECT_EQ(log.containing("Waiting for at most 1 s: ").size(), 1u);
    EXPECT_EQ(log.containing("cannot be opened").size(), 1u);
    EXPECT_EQ(log.containing("").size(), 2u);
}

TEST_P(LateChild, IsAnErrorAtOnceThatSaysWhatToDo) {
    const Log log;
    if (kind == "device") {
        const Holder holder(device);
        Opening opening(Client::spaceConf(child));
        EXPECT_NE(opening.outcome(), "");
        ASSERT_EQ(log.containing("cannot be opened").size(), 1u);
        const std::string line = log.containing("cannot be opened")[0];
        EXPECT_NE(line.find(device + " is held by "), std::string::npos) << line;
        EXPECT_NE(line.find("(process " + std::to_string(holder.pid()) + ")"), std::string::npos)
            << line;
        EXPECT_NE(line.find("wait=SECONDS"), std::string::npos) << line;
    } else {
        endTpm();
        Opening opening(Client::spaceConf(child));
        EXPECT_NE(opening.outcome(), "");
        ASSERT_EQ(log.containing("cannot be opened").size(), 1u);
        const std::string line = log.containing("cannot be opened")[0];
        EXPECT_NE(line.find("is it started"), std::string::npos) << line;
    }
    EXPECT_EQ(log.containing("").size(), 1u);
}

INSTANTIATE_TEST_SUITE_P(Over, FailingChild, everyChild(), childName);
INSTANTIATE_TEST_SUITE_P(Over, TellingChild, testing::Values("device", "mssim"), childName);
INSTANTIATE_TEST_SUITE_P(Over, LateChild, everyChild(), childName);

}  // namespace
}  // namespace spaces::test

int main(int argc, char** argv) { return spaces::test::runTestsWithLog(argc, argv); }
