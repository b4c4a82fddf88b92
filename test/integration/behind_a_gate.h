/* SPDX-License-Identifier: BSD-2-Clause
 *
 * One TPM behind a gate, and spaces over one kind of child that leads there: what tests of waiting
 * stand on. How long a command takes is the test's to say (see gate.h), so nothing depends on time.
 * A test that waits for ever is ended: SIGALRM.
 */
#ifndef SPACES_TEST_INTEGRATION_BEHIND_A_GATE_H
#define SPACES_TEST_INTEGRATION_BEHIND_A_GATE_H

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <future>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>

#include "support/bridge.h"
#include "support/client.h"
#include "support/command.h"
#include "support/gate.h"
#include "support/response.h"
#include "support/simulator.h"

namespace spaces::test {

constexpr TPM2_HANDLE kFirst = TPM2_TRANSIENT_FIRST, kSecond = kFirst + 1, kThird = kFirst + 2;
constexpr int32_t kBlock = TSS2_TCTI_TIMEOUT_BLOCK, kNone = TSS2_TCTI_TIMEOUT_NONE;

class BehindAGate {
  public:
    /** `kind`: swtpm, device, mssim or pcap_mssim. */
    explicit BehindAGate(const std::string& kind) : kind(kind), gate(sim) {
        ::alarm(kLongest);
        ::setenv("TCTI_PCAP_FILE", "/dev/null", 1);
        startBridge();
    }
    ~BehindAGate() {
        bridge.reset();
        std::filesystem::remove_all(folder);
        ::alarm(0);
    }
    BehindAGate(const BehindAGate&) = delete;
    BehindAGate& operator=(const BehindAGate&) = delete;

    /** The child, for the first time or once more. */
    void startBridge() {
        if (kind == "swtpm") {
            child = gate.conf();
        } else if (kind == "device") {
            bridge = std::make_unique<Bridge>("device-bridge", gate.port(), folder + "/tpm0");
            child = "device:" + bridge->line();
        } else {
            bridge = std::make_unique<Bridge>("mssim-bridge", gate.port());
            child = "mssim:host=127.0.0.1,port=" + bridge->line();
            if (kind == "pcap_mssim") child = "pcap:" + child;
        }
    }

    Client space(const std::string& options = "") const {
        return Client(Client::spaceConf(child, options));
    }

    /** Sends a command and leaves it with the TPM: on return it waits at the gate. */
    void start(Client& client, const Bytes& command) {
        gate.close();
        EXPECT_EQ(client.transmit(command), TSS2_RC_SUCCESS);
        gate.await();
    }

    const std::string kind;
    Simulator sim;
    Gate gate;
    std::unique_ptr<Bridge> bridge;
    std::string child;

  private:
    static constexpr unsigned kLongest = 120;  // seconds

    static std::string makeFolder() {
        char name[] = "/tmp/spaces-gate-XXXXXX";
        if (::mkdtemp(name) == nullptr) throw std::runtime_error("mkdtemp");
        return name;
    }
    const std::string folder = makeFolder();
};

/** The test's parameter is the kind. */
class OverEachChild : public testing::TestWithParam<const char*>, protected BehindAGate {
  protected:
    OverEachChild() : BehindAGate(GetParam()) {}
};

inline std::string kindOf(const testing::TestParamInfo<const char*>& info) { return info.param; }

/** The response, which must come, for a client that has transmitted. */
inline Bytes answer(Client& client, int32_t timeout = kBlock) {
    Bytes response;
    const TSS2_RC result = client.receive(response, timeout);
    if (result != TSS2_RC_SUCCESS) throw std::runtime_error("receive answered " + hex(result));
    return response;
}

/** Runs the task in a thread, and returns when that waits for something: for the gate to open, if
 *  it is closed. */
template <class Task>
std::thread waitingThread(Task task) {
    std::promise<pid_t> started;
    std::thread thread([&started, task] {
        started.set_value(::gettid());
        task();
    });
    const std::string file =
        "/proc/self/task/" + std::to_string(started.get_future().get()) + "/stat";
    for (char state = 'R'; state != 'S'; ::usleep(1000)) {
        std::string line;
        std::getline(std::ifstream(file), line);
        const size_t end = line.rfind(") ");  // of the program's name
        if (end != std::string::npos) state = line[end + 2];
    }
    return thread;
}

/** How many octets a GetRandom response brings: which command it is the answer to. */
inline size_t octets(const Bytes& response) { return parameters(response).tpm2b().size(); }

}  // namespace spaces::test

#endif
