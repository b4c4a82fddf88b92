// SPDX-License-Identifier: BSD-2-Clause
// Swapping beside tpm2-abrmd: the same work by a client of each, in turn, on one swtpm.
//
//     dbus-run-session abrmd.bench      (abrmd.sh does that)
//
// Always holds: the daemon owns its name on the caller's session bus only and is ended, by its
// process id, with the program. TPM commands are what swtpm received; they are counted on one
// swtpm, and times are taken on another that keeps no record. No figure makes the program fail,
// only work that does.
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

#include "support/client.h"
#include "support/command.h"
#include "support/response.h"
#include "support/simulator.h"

namespace spaces::bench {
namespace {

using test::Client;
using test::Record;
using test::Simulator;

constexpr const char* kTabrmd = "tabrmd:bus_type=session";

// ---- The daemon ---------------------------------------------------------------------------------

class Daemon {
  public:
    explicit Daemon(const Simulator& sim) {
        const std::string tcti = "--tcti=" + sim.conf();
        const pid_t parent = getpid();
        pid_ = fork();
        if (pid_ < 0) throw std::runtime_error("fork failed");
        if (pid_ == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            if (getppid() != parent) _exit(127);
            // Through the descriptor: what stdio holds is the parent's to print.
            dup2(open("/dev/null", O_WRONLY), STDOUT_FILENO);
            // It refuses to run as root unless it is told that this is meant.
            execlp("tpm2-abrmd", "tpm2-abrmd", "--session", "--allow-root", tcti.c_str(),
                   static_cast<char*>(nullptr));
            _exit(127);
        }
        waitUntilServing();
    }
    ~Daemon() { end(); }
    Daemon(const Daemon&) = delete;
    Daemon& operator=(const Daemon&) = delete;

  private:
    void waitUntilServing() {
        const auto patience = std::chrono::steady_clock::now() + std::chrono::seconds(30);
        while (Client::tryOpen(kTabrmd) != TSS2_RC_SUCCESS) {
            if (waitpid(pid_, nullptr, WNOHANG) == pid_) {
                pid_ = -1;
                throw std::runtime_error("tpm2-abrmd ended before it served anybody");
            }
            if (std::chrono::steady_clock::now() > patience) {
                end();
                throw std::runtime_error("tpm2-abrmd serves nobody");
            }
            usleep(10000);
        }
    }
    void end() {
        if (pid_ <= 0) return;
        kill(pid_, SIGKILL);
        waitpid(pid_, nullptr, 0);
        pid_ = -1;
    }

    pid_t pid_ = -1;
};

// ---- The work -----------------------------------------------------------------------------------

struct Work {
    const char* name;
    size_t count;  // of what is used in turn
    test::Command (*make)(size_t number);
    test::Command (*use)(TPM2_HANDLE handle);
    bool fits;
};

test::Command makeKey(size_t number) {
    return test::loadExternalHmac("key " + std::to_string(number));
}
test::Command useKey(TPM2_HANDLE key) { return test::hmac(key, "some data"); }
test::Command makeSession(size_t) { return test::startAuthSession(TPM2_SE_POLICY); }

constexpr Work kWorks[] = {
    {"4 objects in turn", 4, makeKey, useKey, false},
    {"2 objects in turn", 2, makeKey, useKey, true},
    {"1 session", 1, makeSession, test::policyRestart, true},
};

/// What one client command costs, once it goes its usual way.
struct Cost {
    double commands = 0;
    double microseconds = 0;
};

Cost measure(const std::string& conf, const Work& work, Simulator& sim, Record record) {
    constexpr size_t kUsual = 100, kCommands = 600;
    Client client(conf);
    std::vector<test::Bytes> uses;
    std::vector<TPM2_HANDLE> handles;
    for (size_t i = 0; i < work.count; i++) {
        handles.push_back(test::handle(client.ok(work.make(i))));
        uses.push_back(work.use(handles.back()));
    }
    for (size_t i = 0; i < kUsual; i++) client.ok(uses[i % uses.size()]);
    const size_t before = record == Record::commands ? sim.commandCount() : 0;
    const auto start = std::chrono::steady_clock::now();
    for (size_t i = 0; i < kCommands; i++) client.ok(uses[i % uses.size()]);
    const std::chrono::duration<double, std::micro> time = std::chrono::steady_clock::now() - start;
    const size_t commands = record == Record::commands ? sim.commandCount() - before : 0;
    for (const TPM2_HANDLE handle : handles) client.ok(test::flushContext(handle));
    return {static_cast<double>(commands) / kCommands, time.count() / kCommands};
}

double median(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
}

/// Times of several rounds, both ways in each.
struct Times {
    double ours, theirs, ratio;
};

Times measureTimes(const Work& work, Simulator& sim) {
    std::vector<double> ours, theirs, ratios;
    for (int round = 0; round < 7; round++) {
        ours.push_back(
            measure(Client::spaceConf(sim, "swap=on"), work, sim, Record::nothing).microseconds);
        theirs.push_back(measure(kTabrmd, work, sim, Record::nothing).microseconds);
        ratios.push_back(theirs.back() / ours.back());
    }
    return {median(ours), median(theirs), median(ratios)};
}

void printCounts() {
    Simulator sim(Record::commands);
    const Daemon daemon(sim);
    std::puts("| TPM commands for one | bare TPM | spaces:swap=on | tpm2-abrmd | ratio |");
    std::puts("|---|---|---|---|---|");
    for (const Work& work : kWorks) {
        const double ours =
            measure(Client::spaceConf(sim, "swap=on"), work, sim, Record::commands).commands;
        const double theirs = measure(kTabrmd, work, sim, Record::commands).commands;
        std::printf("| %s |", work.name);
        if (work.fits)
            std::printf(" %.2f |", measure(sim.conf(), work, sim, Record::commands).commands);
        else
            std::printf(" fails |");
        std::printf(" %.2f | %.2f | %.2f |\n", ours, theirs, theirs / ours);
    }
}

void printTimes() {
    Simulator sim(Record::nothing);
    const Daemon daemon(sim);
    std::puts("| microseconds for one | spaces:swap=on | tpm2-abrmd | ratio |");
    std::puts("|---|---|---|---|");
    for (const Work& work : kWorks) {
        const Times times = measureTimes(work, sim);
        std::printf("| %s | %.0f | %.0f | %.2f |\n", work.name, times.ours, times.theirs,
                    times.ratio);
    }
}

}  // namespace
}  // namespace spaces::bench

int main() {
    setenv("TSS2_LOG", "all+none", 1);  // the loader's complaints until the daemon serves
    if (dlopen("libtss2-tcti-tabrmd.so.0", RTLD_LAZY) == nullptr) {
        std::puts(
            "The client's side of tpm2-abrmd (libtss2-tcti-tabrmd0) is not installed: "
            "nothing is compared.");
        return EXIT_SUCCESS;
    }
    try {
        spaces::bench::printCounts();
        std::puts("");
        spaces::bench::printTimes();
    } catch (const std::exception& error) {
        std::fprintf(stderr, "abrmd.bench: %s\n", error.what());
        return EXIT_FAILURE;
    }
    return EXIT_SUCCESS;
}
