/* SPDX-License-Identifier: BSD-2-Clause
 *
 * fork, and programs that are started: an inherited context is good for nothing but being freed,
 * the parent goes on as if nothing had happened, and nobody inherits a descriptor by accident.
 * What always holds here: what is checked in a forked process comes back as text through a pipe; a
 * forked process that hangs is ended by its alarm, and fails the test.
 */
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <tss2/tss2_tctildr.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "over_children.h"
#include "shared_and_private.h"

// What C++ code has from the heap, the library's as well as ours; tpm2-tss, which is C, has none.
static std::atomic<long> allocations = 0;

// Not inlined: the compiler takes malloc and free that it sees for a pair of their own.
[[gnu::noinline]] void* operator new(size_t size) {
    void* memory = std::malloc(size == 0 ? 1 : size);
    if (memory == nullptr) throw std::bad_alloc();
    ++allocations;
    return memory;
}
[[gnu::noinline]] void operator delete(void* memory) noexcept {
    if (memory == nullptr) return;
    --allocations;
    std::free(memory);
}
void operator delete(void* memory, size_t) noexcept { operator delete(memory); }

namespace spaces::test {
namespace {

constexpr unsigned kSecondsBeforeItHangs = 60;

/** The descriptors of this process and what they are, one on a line. */
std::string descriptors() {
    std::string all;
    for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
        std::error_code gone;  // the folder itself, when it is looked at through its own entry
        const auto target = std::filesystem::read_symlink(entry.path(), gone);
        if (target.string().find("/proc/") == 0 && target.string().ends_with("/fd")) continue;
        all += entry.path().filename().string() + " " + target.string() + "\n";
    }
    return all;
}

/** A forked process: does its task, says what was wrong, and lives until the object goes. */
class Forked {
  public:
    template <class Task>
    explicit Forked(const Task& task) {
        int said[2], stay[2];
        if (::pipe2(said, O_CLOEXEC) != 0 || ::pipe2(stay, O_CLOEXEC) != 0)
            throw std::runtime_error("pipe2");
        pid_ = ::fork();
        if (pid_ == 0) {
            ::close(said[0]);
            ::close(stay[1]);
            run(task, said[1], stay[0]);
        }
        ::close(said[1]);
        ::close(stay[0]);
        said_ = said[0];
        stay_ = stay[1];
        if (pid_ < 0) throw std::runtime_error("fork");
    }
    ~Forked() { end(); }
    Forked(const Forked&) = delete;
    Forked& operator=(const Forked&) = delete;

    /** What was wrong, once it is done; "" if nothing was. */
    std::string complaint() {
        std::string text;
        char c;
        for (;;) {
            const ssize_t n = ::read(said_, &c, 1);
            if (n == 1 && c == '\n') return text;
            if (n == 1) text += c;
            if (n == 0) return text + " (it did not come to an end)";
        }
    }

    pid_t pid() const { return pid_; }

    /** Ends it. Returns what waitpid says. */
    int end() {
        if (pid_ <= 0) return -1;
        ::close(stay_);
        ::close(said_);
        int status = -1;
        while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
        }
        pid_ = -1;
        return status;
    }

  private:
    template <class Task>
    [[noreturn]] static void run(const Task& task, int say, int stay) {
        ::signal(SIGALRM, SIG_DFL);
        ::alarm(kSecondsBeforeItHangs);
        std::string text;
        try {
            text = task();
        } catch (const std::exception& problem) {
            text = problem.what();
        }
        for (char& each : text)
            if (each == '\n') each = ';';
        text += '\n';
        if (::write(say, text.data(), text.size()) < 0) ::_exit(1);
        char c;
        if (::read(stay, &c, 1) != 0) ::_exit(1);
        ::_exit(0);
    }

    pid_t pid_ = -1;
    int said_ = -1;
    int stay_ = -1;
};

/** What is wrong with the result of a forked process's task, and with its end. */
template <class Task>
std::string inForked(const Task& task) {
    Forked forked(task);
    std::string complaint = forked.complaint();
    const int status = forked.end();
    return status == 0 ? complaint : complaint + " (ended with " + std::to_string(status) + ")";
}

/** Every call but finalize; each must say that the context is the parent's. */
std::string callAll(TSS2_TCTI_CONTEXT* context) {
    const Bytes command = getRandom();
    Bytes response(TPM2_MAX_RESPONSE_SIZE);
    size_t size = response.size(), handles = 1;
    TSS2_TCTI_POLL_HANDLE handle{};
    TPM2_HANDLE sticky = kFirst;
    const TSS2_RC answers[] = {
        Tss2_Tcti_Transmit(context, command.size(), command.data()),
        Tss2_Tcti_Receive(context, &size, response.data(), TSS2_TCTI_TIMEOUT_BLOCK),
        Tss2_Tcti_Receive(context, &size, nullptr, TSS2_TCTI_TIMEOUT_NONE),
        Tss2_Tcti_Cancel(context),
        Tss2_Tcti_SetLocality(context, 1),
        Tss2_Tcti_GetPollHandles(context, &handle, &handles),
        Tss2_Tcti_MakeSticky(context, &sticky, 1)};
    std::string wrong;
    for (const TSS2_RC each : answers)
        if (each != TSS2_TCTI_RC_NO_CONNECTION) wrong += hex(each) + " ";
    return wrong.empty() ? "" : "expected NO_CONNECTION, got " + wrong;
}

/** The same, then finalizes them: no descriptor comes or goes. */
std::string callAndFinalize(std::vector<TSS2_TCTI_CONTEXT*> contexts) {
    const std::string before = descriptors();
    std::string wrong;
    for (TSS2_TCTI_CONTEXT* each : contexts) wrong += callAll(each);
    for (TSS2_TCTI_CONTEXT* each : contexts) Tss2_Tcti_Finalize(each);
    const std::string after = descriptors();
    if (after != before) wrong += "descriptors before: " + before + " after: " + after;
    return wrong;
}

/** A space of the forked process's own: makes an object, finds it, and closes. */
std::string useOwn(const std::string& conf, const std::string& unique = "own") {
    Client own(conf);
    const Bytes made = own.ok(createPrimary(TPM2_RH_NULL, hmacKey(unique)));
    if (handle(made) != kFirst) return "the first object is " + hex(handle(made));
    if (publicName(own.ok(readPublic(kFirst))) != primaryName(made)) return "another object";
    return "";
}

TSS2_RC pollHandle(Client& client) {
    TSS2_TCTI_POLL_HANDLE handle{};
    size_t count = 1;
    return Tss2_Tcti_GetPollHandles(client.context(), &handle, &count);
}

Bytes received(Client& client) {
    Bytes response;
    EXPECT_EQ(hex(client.receive(response)), hex(TSS2_RC_SUCCESS));
    return response;
}

class Forks : public OverChildren {};

TEST_P(Forks, AnInheritedContextIsTheParentsInEveryState) {
    Client idle(conf), running(conf), inLine(conf), answered(conf);
    const bool tells = pollHandle(idle) == TSS2_RC_SUCCESS;
    EXPECT_EQ(tells, kind != "swtpm");
    const Bytes name = primaryName(idle.ok(createPrimary(TPM2_RH_NULL, hmacKey("idle"))));
    const size_t mark = sim.commandCount();
    ASSERT_EQ(answered.transmit(getRandom(11)), TSS2_RC_SUCCESS);
    ASSERT_EQ(running.transmit(getRandom(12)), TSS2_RC_SUCCESS);
    ASSERT_EQ(inLine.transmit(getRandom(13)), TSS2_RC_SUCCESS);
    size_t size = 0;
    ASSERT_EQ(answered.receiveSize(size), TSS2_RC_SUCCESS);
    EXPECT_EQ(inForked([&] {
                  return callAndFinalize(
                      {idle.context(), running.context(), inLine.context(), answered.context()});
              }),
              "");
    EXPECT_EQ(parameters(received(inLine)).tpm2b().size(), 13u);
    EXPECT_EQ(parameters(received(running)).tpm2b().size(), 12u);
    EXPECT_EQ(parameters(received(answered)).tpm2b().size(), 11u);
    EXPECT_EQ(sim.commandCodes(mark), std::vector<TPM2_CC>(3, TPM2_CC_GetRandom));
    EXPECT_EQ(hex(publicName(idle.ok(readPublic(kFirst)))), hex(name));
}

// With the TPM stopped nothing but these calls themselves could come to an end. Over swtpm the fork
// itself waits for the thread: then its TPM only takes its time.
TEST_P(Forks, WhileAnotherThreadIsInTheChild) {
    const bool stops = kind != "swtpm";
    Client waiting(conf), inLine(conf), idle(conf);
    if (stops) {
        ASSERT_EQ(::kill(sim.pid(), SIGSTOP), 0);
    }
    std::atomic<pid_t> inside = 0;
    std::thread thread([&] {
        EXPECT_EQ(waiting.transmit(createPrimary(TPM2_RH_NULL, rsaStorage())), TSS2_RC_SUCCESS);
        inside = ::gettid();
        EXPECT_EQ(hex(handle(received(waiting))), hex(kFirst));
    });
    const auto sleeps = [&] {
        std::ifstream stat("/proc/self/task/" + std::to_string(inside) + "/stat");
        std::string text((std::istreambuf_iterator<char>(stat)), {});
        return text.find(") S ") != std::string::npos;
    };
    while (inside == 0 || !sleeps()) std::this_thread::yield();
    ASSERT_EQ(inLine.transmit(getRandom(22)), TSS2_RC_SUCCESS);
    EXPECT_EQ(inForked([&] {
                  return callAndFinalize({inLine.context(), waiting.context(), idle.context()});
              }),
              "");
    if (stops) {
        ASSERT_EQ(::kill(sim.pid(), SIGCONT), 0);
    }
    thread.join();
    EXPECT_EQ(parameters(received(inLine)).tpm2b().size(), 22u);
    EXPECT_EQ(parameters(idle.ok(getRandom(23))).tpm2b().size(), 23u);
}

// The forked process lives on, as a daemon does, and so do the copies of descriptors that it has.
TEST_P(Forks, TheParentGoesOnWhileTheForkedProcessLives) {
    Client a(conf), b(conf);
    a.ok(createPrimary(TPM2_RH_NULL, hmacKey("a")));
    ASSERT_EQ(b.transmit(getRandom(31)), TSS2_RC_SUCCESS);
    Forked forked([&] { return callAll(a.context()); });
    EXPECT_EQ(forked.complaint(), "");
    EXPECT_EQ(parameters(received(b)).tpm2b().size(), 31u);
    a.ok(readPublic(kFirst));
    EXPECT_EQ(forked.end(), 0);
    a.close();
    b.close();
    EXPECT_EQ(residue(sim), "");
}

TEST_P(Forks, FinalizeFreesTheLibrarysMemory) {
    Client(conf).ok(getRandom());  // whatever is made once
    const long before = allocations;
    Client a(conf), b(conf), c(conf);
    pollHandle(a);
    for (const char* unique : {"1", "2", "3"}) {
        a.ok(createPrimary(TPM2_RH_NULL, hmacKey(unique)));
        if (swapping()) b.ok(createPrimary(TPM2_RH_NULL, hmacKey(unique)));
    }
    a.ok(startAuthSession());
    ASSERT_EQ(b.transmit(getRandom()), TSS2_RC_SUCCESS);
    ASSERT_EQ(c.transmit(getRandom()), TSS2_RC_SUCCESS);
    EXPECT_GT(allocations, before);
    EXPECT_EQ(inForked([&, before] {
                  const long inherited = allocations;
                  for (Client* each : {&a, &b, &c}) Tss2_Tcti_Finalize(each->context());
                  const long left = allocations - before;
                  if (inherited <= before) return std::string("there was nothing to free");
                  return left == 0 ? std::string() : std::to_string(left) + " blocks are left";
              }),
              "");
    EXPECT_EQ(rc(received(b)), TPM2_RC_SUCCESS);
    EXPECT_EQ(rc(received(c)), TPM2_RC_SUCCESS);
}

INSTANTIATE_TEST_SUITE_P(Over, Forks, everyChild(), childName);

class ForksOverADevice : public OverChildren {};

// A kernel lets one process at a time open a TPM's device: who has a copy of the descriptor keeps
// it from everybody, for as long as it lives.
TEST_P(ForksOverADevice, TheForkedProcessDoesNotKeepIt) {
    const std::string name = " " + std::filesystem::canonical(where).string() + "\n";
    const auto isOpen = [&name] { return descriptors().find(name) != std::string::npos; };
    Client a(conf), b(conf);
    a.ok(createPrimary(TPM2_RH_NULL, hmacKey("a")));
    ASSERT_EQ(b.transmit(getRandom(41)), TSS2_RC_SUCCESS);
    ASSERT_TRUE(isOpen());
    Forked forked([&] { return isOpen() ? "it is open: " + descriptors() : callAll(a.context()); });
    EXPECT_EQ(forked.complaint(), "");
    EXPECT_EQ(parameters(received(b)).tpm2b().size(), 41u);
    a.ok(readPublic(kFirst));
    a.close();
    b.close();
    EXPECT_FALSE(isOpen());
    EXPECT_EQ(useOwn(conf), "");
    EXPECT_EQ(forked.end(), 0);
    EXPECT_EQ(residue(sim), "");
}

INSTANTIATE_TEST_SUITE_P(Over, ForksOverADevice, testing::Values("device"), childName);

// ---- Programs that are started

/** Reads to the end, then waits for the process. */
std::string outputOf(pid_t pid, int from) {
    std::string text;
    char c;
    while (::read(from, &c, 1) == 1) text += c;
    ::close(from);
    int status = -1;
    ::waitpid(pid, &status, 0);
    return status == 0 ? text : "ended with " + std::to_string(status);
}

/** What descriptors a program has that is started in this way. */
std::string inheritedBySpawn() {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) return "pipe2";
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    const char* arguments[] = {"list", "--descriptors", nullptr};
    pid_t pid = -1;
    const int failed = ::posix_spawn(&pid, "/proc/self/exe", &actions, nullptr,
                                     const_cast<char**>(arguments), environ);
    ::posix_spawn_file_actions_destroy(&actions);
    ::close(ends[1]);
    return failed != 0 ? "posix_spawn" : outputOf(pid, ends[0]);
}

template <pid_t (*start)()>
std::string inheritedBy() {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) return "pipe2";
    const pid_t pid = start();
    if (pid == 0) {
        ::dup2(ends[1], STDOUT_FILENO);
        ::execl("/proc/self/exe", "list", "--descriptors", nullptr);
        ::_exit(127);
    }
    ::close(ends[1]);
    return outputOf(pid, ends[0]);
}

/** Those started in every way; the pipes are not of interest. */
std::vector<std::string> inherited() {
    std::vector<std::string> all = {inheritedBySpawn(), inheritedBy<::vfork>(),
                                    inheritedBy<::fork>()};
    for (std::string& each : all)
        for (size_t at; (at = each.find("pipe:[")) != std::string::npos;)
            each.erase(at, each.find(']', at) + 1 - at);
    return all;
}

/** Takes the first socket out of such a list, if there is one. */
void removeOneSocket(std::string& list) {
    const size_t socket = list.find("socket:[");
    if (socket == std::string::npos) return;
    const size_t start = list.rfind('\n', socket) + 1;  // 0 when there is none
    list.erase(start, list.find('\n', socket) + 1 - start);
}

TEST_P(Forks, AStartedProgramInheritsNoDescriptor) {
    const std::vector<std::string> before = inherited();
    Client a(conf), b(conf);
    pollHandle(a);
    a.ok(createPrimary(TPM2_RH_NULL, hmacKey("a")));
    std::vector<std::string> idle = inherited();
    ASSERT_EQ(b.transmit(getRandom()), TSS2_RC_SUCCESS);
    std::vector<std::string> busy = inherited();
    // These TCTIs have a socket each of which they tell nobody: swtpm's its connection while a
    // command is running, mssim's the one to the platform interface.
    if (kind == "mssim")
        for (std::string& each : idle) removeOneSocket(each);
    if (kind != "device")
        for (std::string& each : busy) removeOneSocket(each);
    EXPECT_EQ(idle, before);
    EXPECT_EQ(busy, before);
    EXPECT_EQ(rc(received(b)), TPM2_RC_SUCCESS);
}

// ---- Contexts of the forked process's own: over swtpm, which each process reaches by itself

class OwnContexts : public testing::Test {
  protected:
    Simulator sim;
    const std::string conf = Client::spaceConf(sim);
};

TEST_F(OwnContexts, AfterAnIdleParent) {
    Client a(conf);
    const Bytes name = primaryName(a.ok(createPrimary()));
    EXPECT_EQ(
        inForked([&] { return useOwn(conf) + callAndFinalize({a.context()}) + useOwn(conf); }), "");
    EXPECT_EQ(hex(publicName(a.ok(readPublic(kFirst)))), hex(name));
    a.close();
    EXPECT_EQ(residue(sim), "");
}

TEST_F(OwnContexts, WhileACommandOfTheParentIsRunning) {
    Client a(conf);
    ASSERT_EQ(a.transmit(createPrimary()), TSS2_RC_SUCCESS);
    Forked forked([&] { return useOwn(conf); });
    EXPECT_EQ(hex(handle(received(a))), hex(kFirst));
    EXPECT_EQ(forked.complaint(), "");
    EXPECT_EQ(forked.end(), 0);
    a.close();
    EXPECT_EQ(residue(sim), "");
}

// As daemon() does it: the process in the middle has a context as well, and ends first.
TEST_F(OwnContexts, ForkedTwice) {
    Client a(conf);
    a.ok(createPrimary());
    EXPECT_EQ(inForked([&] {
                  TSS2_TCTI_CONTEXT* inherited = a.context();
                  Client middle(conf);
                  middle.ok(startAuthSession());
                  std::string wrong = inForked([&] {
                      return callAndFinalize({middle.context(), inherited}) + useOwn(conf);
                  });
                  middle.ok(getRandom());
                  middle.close();
                  return wrong + callAndFinalize({inherited});
              }),
              "");
    a.ok(readPublic(kFirst));
    a.close();
    EXPECT_EQ(residue(sim), "");
}

/** Commands about its own object, until told to stop. */
void keepBusy(Client& client, int number, const std::atomic<bool>& stop) {
    try {
        const Bytes name = primaryName(
            client.ok(createPrimary(TPM2_RH_NULL, hmacKey(std::to_string(number % 3)))));
        while (!stop) {
            EXPECT_EQ(hex(publicName(client.ok(readPublic(kFirst)))), hex(name));
            client.ok(getRandom());
        }
    } catch (const std::exception& problem) {
        ADD_FAILURE() << "thread " << number << ": " << problem.what();
    }
}

// $SPACES_FORKS says how often.
TEST_F(OwnContexts, FromAProcessWithEightBusyThreads) {
    std::vector<Client> clients;
    // A slot stays free for the forked process.
    const std::string swaps = Client::libraryPath() + ":swap=on,objects=2," + sim.conf();
    for (int i = 0; i < 8; i++) clients.push_back(Client(swaps));
    std::atomic<bool> stop = false;
    std::vector<std::thread> threads;
    for (int i = 0; i < 8; i++) threads.emplace_back([&, i] { keepBusy(clients[i], i, stop); });
    const char* times = std::getenv("SPACES_FORKS");
    for (int i = times != nullptr ? std::atoi(times) : 25; i > 0 && !HasFailure(); i--) {
        EXPECT_EQ(inForked([&] {
                      std::string wrong = useOwn(conf);
                      std::vector<TSS2_TCTI_CONTEXT*> contexts;
                      for (Client& each : clients) contexts.push_back(each.context());
                      return wrong + callAndFinalize(contexts);
                  }),
                  "");
    }
    stop = true;
    for (std::thread& each : threads) each.join();
    clients.clear();
    EXPECT_EQ(residue(sim), "");
}

}  // namespace

int runTestsOrList(int argc, char** argv) {
    if (argc == 2 && std::string(argv[1]) == "--descriptors") {
        std::cout << descriptors();
        return 0;
    }
    testing::InitGoogleTest(&argc, argv);
    return RUN_ALL_TESTS();
}

}  // namespace spaces::test

int main(int argc, char** argv) { return spaces::test::runTestsOrList(argc, argv); }
