/* SPDX-License-Identifier: BSD-2-Clause
 *
 * trace=FILE over a real TPM.
 * What always holds here: the file is JSON that obeys the Trace Event Format whenever it is looked
 * at, and knows as much as the test does; what clients send to the TPM is not in it.
 */
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <stdexcept>
#include <thread>

#include "config.h"
#include "support/client.h"
#include "support/command.h"
#include "support/response.h"
#include "support/trace_events.h"

namespace spaces::test {
namespace {

using testing::ElementsAre;
using testing::ElementsAreArray;
using testing::HasSubstr;
using testing::Pair;

constexpr TPM2_HANDLE kFirst = TPM2_TRANSIENT_FIRST;

Command anObject(const std::string& unique = "") {
    return createPrimary(TPM2_RH_NULL, hmacKey(unique));
}

class Trace : public testing::Test {
  protected:
    Trace() {
        char name[] = "/tmp/spaces-trace.XXXXXX";
        if (::mkdtemp(name) == nullptr) throw std::runtime_error("mkdtemp");
        folder = name;
        path = folder + "/trace";
    }
    ~Trace() override { std::filesystem::remove_all(folder); }

    std::string conf(const std::string& more = "") const {
        return Client::spaceConf(sim, more + "trace=" + path);
    }
    TraceEvents events() const {
        TraceEvents read(path);
        EXPECT_EQ(read.brokenRule(), "");
        return read;
    }

    /** Ends as it says; the file is what is looked at. */
    template <class Body>
    static pid_t inAnotherProcess(Body body) {
        const pid_t pid = ::fork();
        if (pid != 0) return pid;
        try {
            body();
        } catch (const std::exception&) {
            ::_exit(1);
        }
        ::_exit(0);
    }
    static int outcome(pid_t pid) {
        int status = -1;
        return ::waitpid(pid, &status, 0) == pid ? status : -1;
    }

    Simulator sim;
    std::string folder, path;
};

TEST_F(Trace, GrowsWithEveryCommandAndCounts) {
    Client a(conf()), b(conf());
    EXPECT_EQ(events().of("M").size(), 3u);
    size_t spans = 0;
    const auto send = [&](Client& client, const Command& command, int objects, int sessions) {
        const Bytes response = client.ok(command);
        EXPECT_EQ(events().of("X").size(), ++spans);
        EXPECT_EQ(events().slots().back(), std::pair(objects, sessions));
        return response;
    };
    send(a, anObject(), 1, 0);
    send(b, anObject(), 2, 0);
    const TPM2_HANDLE session = handle(send(b, startAuthSession(TPM2_SE_POLICY), 2, 1));
    const Bytes saved = context(send(b, contextSave(session), 2, 0));
    send(a, contextLoad(saved), 2, 1);
    send(a, flushContext(kFirst), 1, 1);
    EXPECT_EQ(hex(rc(a.send(readPublic(kFirst)))), hex(0x910u));
    a.close();
    EXPECT_EQ(events().slots().back(), std::pair(1, 0));
    b.close();
    EXPECT_EQ(events().slots().back(), std::pair(0, 0));
    EXPECT_THAT(events().spans(2), ElementsAre("CreatePrimary client", "StartAuthSession client",
                                               "ContextSave client", "FlushContext flush"));
}

TEST_F(Trace, HasEveryCommandOfTheTpm) {
    const size_t mark = sim.commandCount();
    {
        Client a(conf()), b(conf());
        for (Client* each : {&a, &b}) {
            each->ok(anObject());
            each->ok(getRandom());
            each->send(readPublic(kFirst + 7));
        }
    }
    EXPECT_EQ(events().of("X").size(), sim.commandCount() - mark);
}

TEST_F(Trace, HoldsNoSecret) {
    const std::string auth = "MyAuthValue-7531", data = "MySealedData-8642";
    {
        Client client(conf());
        client.ok(createPrimary(TPM2_RH_NULL, eccStorage(), auth));
        const Created made = created(client.ok(create(kFirst, sealed(), auth, data, auth)));
        client.ok(load(kFirst, made.outPrivate, made.outPublic, auth));
        const Bytes unsealed = client.ok(unseal(kFirst + 1, auth));
        EXPECT_THAT(std::string(unsealed.begin(), unsealed.end()), HasSubstr(data));
    }
    const std::string text = contentsOf(path);
    for (const std::string& secret : {auth, data}) {
        EXPECT_EQ(text.find(secret), text.npos);
        EXPECT_EQ(text.find(hex(bytes(secret))), text.npos);
    }
    EXPECT_EQ(events().of("X").size(), 6u);
    // Nothing but what is named here.
    for (const TraceEvents::Json& event : events().of("X"))
        EXPECT_EQ(event["args"].size(), 1u) << event;
}

TEST_F(Trace, IsForItsOwnerAlone) {
    const mode_t before = ::umask(0);
    const Client client(conf());
    ::umask(before);
    struct stat status {};
    ASSERT_EQ(::stat(path.c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 07777, 0600u);
}

TEST_F(Trace, OfAKilledProcessIsComplete) {
    int told[2];
    ASSERT_EQ(::pipe2(told, O_CLOEXEC), 0);
    const pid_t pid = inAnotherProcess([&] {
        Client client(conf());
        for (;;) {
            client.ok(getRandom());
            if (::write(told[1], "x", 1) != 1) throw std::runtime_error("write");
        }
    });
    ::close(told[1]);
    size_t done = 0;
    char c;
    while (done < 50 && ::read(told[0], &c, 1) == 1) ++done;
    ::kill(pid, SIGKILL);
    EXPECT_TRUE(WIFSIGNALED(outcome(pid)));
    while (::read(told[0], &c, 1) == 1) ++done;
    ::close(told[0]);
    // The next process mends what the format allows, and JSON does not, if it was in between.
    const Client next(conf());
    EXPECT_GE(events().of("X").size(), done);
    EXPECT_LE(events().of("X").size(), done + 1);
}

TEST_F(Trace, IsOneForSeveralProcessesAndThreads) {
    constexpr int kThreads = 3, kCommands = 20, kProcesses = 2;
    const auto work = [&] {
        const Client keepsTheLibraryLoaded(conf());
        std::vector<std::thread> threads;
        for (int i = 0; i < kThreads; i++)
            threads.emplace_back([&] {
                for (int j = 0; j < kCommands; j++) Client(conf()).ok(getRandom());
            });
        for (std::thread& each : threads) each.join();
    };
    std::vector<pid_t> processes;
    for (int i = 0; i < kProcesses; i++) processes.push_back(inAnotherProcess(work));
    for (const pid_t each : processes) EXPECT_EQ(outcome(each), 0);
    EXPECT_EQ(events().of("X").size(), size_t{kProcesses * kThreads * kCommands});
    std::set<std::pair<int, int>> rows;
    for (const TraceEvents::Json& span : events().of("X")) rows.emplace(span["pid"], span["tid"]);
    EXPECT_EQ(rows.size(), size_t{kProcesses * kThreads * kCommands});
}

TEST_F(Trace, IsOneForTwoTpms) {
    const Simulator other;
    Client a(conf()), b(Client::spaceConf(other, "trace=" + path));
    a.ok(getRandom());
    b.ok(getRandom());
    EXPECT_EQ(events().of("X").size(), 2u);
}

TEST_F(Trace, OfAForkedProcessIsItsParents) {
    Client client(conf());
    client.ok(anObject());
    const std::string before = contentsOf(path);
    EXPECT_EQ(outcome(inAnotherProcess([&] {
                  Bytes response;
                  if (client.transmit(getRandom()) != TSS2_TCTI_RC_NO_CONNECTION)
                      throw std::runtime_error("it works");
                  // Nor does it hold the file, or the lock on it.
                  for (const auto& each : std::filesystem::directory_iterator("/proc/self/fd")) {
                      std::error_code gone;
                      if (std::filesystem::read_symlink(each, gone) == path)
                          throw std::runtime_error("it is open");
                  }
                  client.close();
              })),
              0);
    EXPECT_EQ(contentsOf(path), before);
    client.ok(readPublic(kFirst));
    EXPECT_EQ(events().of("X").size(), 2u);
}

TEST_F(Trace, IsNotWrittenToWhatIsNone) {
    std::ofstream(path) << "a letter\n";
    EXPECT_EQ(hex(Client::tryOpen(conf())), hex(TSS2_TCTI_RC_BAD_VALUE));
    EXPECT_EQ(contentsOf(path), "a letter\n");
    const std::string target = path;
    path = folder + "/link";
    std::filesystem::create_symlink(folder + "/new", path);
    EXPECT_EQ(hex(Client::tryOpen(conf())), hex(TSS2_TCTI_RC_BAD_VALUE));
    EXPECT_FALSE(std::filesystem::exists(folder + "/new"));
}

#if SPACES_SWAPPING
TEST_F(Trace, ShowsWhatSwappingMoves) {
    Client a(conf("swap=on,")), b(conf("swap=on,"));
    for (int i = 0; i < 2; i++)
        for (Client* each : {&a, &b}) each->ok(anObject());
    EXPECT_THAT(events().slots(),
                ElementsAre(Pair(1, 0), Pair(2, 0), Pair(3, 0), Pair(2, 0), Pair(3, 0)));
    EXPECT_THAT(events().spans(2),
                ElementsAre("CreatePrimary client", "CreatePrimary client", "ContextSave move",
                            "FlushContext move", "CreatePrimary client"));
    for (int i = 0; i < 2; i++)
        for (Client* each : {&a, &b}) each->ok(readPublic(kFirst + static_cast<TPM2_HANDLE>(i)));
    for (const auto& [objects, sessions] : events().slots()) {
        EXPECT_LE(objects, 3);
        EXPECT_EQ(sessions, 0);
    }
    a.close();
    b.close();
    EXPECT_EQ(events().slots().back(), std::pair(0, 0));
    EXPECT_EQ(residue(sim), "");
}
#endif

}  // namespace
}  // namespace spaces::test

int main(int argc, char** argv) {
    testing::InitGoogleTest(&argc, argv);
    return RUN_ALL_TESTS();
}
