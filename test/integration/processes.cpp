/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Spaces in several processes that share a TPM, and several spaces in one process.
 * What always holds here: another process is this very program, started as a client that sends what
 * it is told; and whatever state a space is in when it closes, nothing of it stays in the TPM.
 */
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <iostream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "shared_and_private.h"
#include "support/crypto.h"

namespace spaces::test {
namespace {

Bytes fromHex(const std::string& text) {
    Bytes data;
    for (size_t at = 0; at + 1 < text.size(); at += 2)
        data.push_back(static_cast<uint8_t>(std::stoul(text.substr(at, 2), nullptr, 16)));
    return data;
}

/** The other process: opens a context, then answers each command on a line with its response. */
int serve(const std::string& conf) try {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    Client client(conf);
    std::cout << "ready" << std::endl;
    for (std::string line; std::getline(std::cin, line);)
        std::cout << hex(client.send(fromHex(line))) << std::endl;
    client.close();
    return 0;
} catch (const std::exception& problem) {
    std::cerr << problem.what() << std::endl;
    return 1;
}

/** A client in a process of its own. */
class Remote {
  public:
    explicit Remote(const std::string& conf);
    ~Remote() { kill(); }
    Remote(const Remote&) = delete;
    Remote& operator=(const Remote&) = delete;

    Bytes send(const Bytes& command) {
        std::fprintf(to_, "%s\n", hex(command).c_str());
        std::fflush(to_);
        return fromHex(line());
    }
    Bytes ok(const Bytes& command) {
        const Bytes response = send(command);
        if (response.empty() || rc(response) != TPM2_RC_SUCCESS)
            throw std::runtime_error("another process was answered " + hex(response));
        return response;
    }
    Handles list(TPM2_HANDLE first) {
        return handleList(ok(getCapability(TPM2_CAP_HANDLES, first, TPM2_MAX_CAP_HANDLES))).handles;
    }

    /** The process closes its context and ends; true if it had nothing to complain about. */
    bool close() { return end(0) == 0; }
    void kill() { end(SIGKILL); }

  private:
    std::string line();
    int end(int signal);

    pid_t pid_ = -1;
    FILE* to_ = nullptr;
    FILE* from_ = nullptr;
};

Remote::Remote(const std::string& conf) {
    int in[2], out[2];
    if (::pipe2(in, O_CLOEXEC) != 0 || ::pipe2(out, O_CLOEXEC) != 0)
        throw std::runtime_error("pipe2");
    pid_ = ::fork();
    if (pid_ == 0) {
        ::dup2(in[0], STDIN_FILENO);
        ::dup2(out[1], STDOUT_FILENO);
        ::execl("/proc/self/exe", "client", "--client", conf.c_str(), nullptr);
        ::_exit(127);
    }
    ::close(in[0]);
    ::close(out[1]);
    to_ = ::fdopen(in[1], "w");
    from_ = ::fdopen(out[0], "r");
    if (pid_ < 0 || line() != "ready") throw std::runtime_error("no client process for " + conf);
}

std::string Remote::line() {
    std::string text;
    for (int c = std::fgetc(from_); c != EOF && c != '\n'; c = std::fgetc(from_))
        text += static_cast<char>(c);
    return text;
}

/** Returns what waitpid says; the end of its input alone makes the process close its context. */
int Remote::end(int signal) {
    if (pid_ <= 0) return -1;
    if (signal != 0) ::kill(pid_, signal);
    std::fclose(to_);
    std::fclose(from_);
    int status = -1;
    while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    pid_ = -1;
    return status;
}

// ---- Processes

class Processes : public testing::Test {
  protected:
    Simulator sim;
    const std::string conf = Client::spaceConf(sim);
};

TEST_F(Processes, ClientSavedSessionsGoFromProcessToProcess) {
    Remote first(conf);
    const TPM2_HANDLE policy = handle(first.ok(startAuthSession(TPM2_SE_POLICY)));
    first.ok(policyCommandCode(policy, TPM2_CC_Unseal));
    const Bytes digest = first.ok(policyGetDigest(policy));
    Bytes saved = context(first.ok(contextSave(policy)));
    EXPECT_TRUE(first.close());
    EXPECT_EQ(residue(sim), "saved session 0x2000000");

    for (int i = 0; i < 3; i++) {
        Remote next(conf);
        EXPECT_EQ(next.list(kSaved), Handles{});
        EXPECT_EQ(hex(rc(next.send(policyGetDigest(policy)))), hex(0x910u));
        EXPECT_EQ(hex(handle(next.ok(contextLoad(saved)))), hex(policy));
        EXPECT_EQ(hex(rc(next.send(contextLoad(saved)))), hex(0x1CBu));
        EXPECT_EQ(hex(next.ok(policyGetDigest(policy))), hex(digest));
        saved = context(next.ok(contextSave(policy)));
        EXPECT_TRUE(next.close());
    }
    Remote last(conf);
    last.ok(contextLoad(saved));
    EXPECT_TRUE(last.close());  // loaded, it is the space's, and goes with it
    EXPECT_EQ(residue(sim), "");
}

TEST_F(Processes, SavedObjectsAreLoadedElsewhere) {
    Remote first(conf);
    const Bytes name = primaryName(first.ok(createPrimary()));
    const Bytes saved = context(first.ok(contextSave(kFirst)));
    EXPECT_TRUE(first.close());
    EXPECT_EQ(residue(sim), "");

    Remote second(conf);
    EXPECT_EQ(hex(rc(second.send(readPublic(kFirst)))), hex(0x910u));
    EXPECT_EQ(hex(handle(second.ok(contextLoad(saved)))), hex(kFirst));
    EXPECT_EQ(hex(handle(second.ok(contextLoad(saved)))), hex(kSecond));
    EXPECT_EQ(hex(publicName(second.ok(readPublic(kSecond)))), hex(name));
    const Created made = created(second.ok(create(kFirst)));
    EXPECT_TRUE(second.close());
    EXPECT_EQ(residue(sim), "");

    Remote third(conf);
    third.ok(createPrimary());  // the same template, so the same key
    EXPECT_EQ(hex(handle(third.ok(load(kFirst, made.outPrivate, made.outPublic)))), hex(kSecond));
    EXPECT_TRUE(third.close());
    EXPECT_EQ(residue(sim), "");
}

// Nobody flushes for a process that was killed.  The next space does not see what it left, but the
// slots are taken.  A space that swaps can move its own things only: its session, here.
TEST_F(Processes, KilledProcessLeavesThings) {
    Remote killed(Client::libraryPath() + ":" + sim.conf());  // its things are where it put them
    for (const char* unique : {"1", "2", "3"})
        killed.ok(createPrimary(TPM2_RH_OWNER, eccStorage(unique)));
    killed.ok(startAuthSession());
    killed.ok(startAuthSession(TPM2_SE_POLICY));
    killed.kill();

    Remote next(conf);
    for (TPM2_HANDLE kind : {kFirst, kLoaded, kSaved}) EXPECT_EQ(next.list(kind), Handles{});
    EXPECT_EQ(hex(rc(next.send(createPrimary()))), hex(0x902u));
    EXPECT_EQ(hex(rc(next.send(readPublic(kFirst)))), hex(0x910u));
    EXPECT_EQ(hex(rc(next.send(flushContext(kFirst)))), hex(0x1CBu));
    EXPECT_EQ(hex(rc(next.send(policyGetDigest(0x03000001)))), hex(0x910u));
    EXPECT_EQ(hex(handle(next.ok(startAuthSession()))), hex(0x02000002u));
    EXPECT_EQ(hex(rc(next.send(startAuthSession()))), hex(unlessSwapping(0x903)));
    EXPECT_TRUE(next.close());
    EXPECT_EQ(residue(sim),
              "transient 0x80000000, transient 0x80000001, transient 0x80000002, "
              "loaded session 0x2000000, loaded session 0x3000001");

    Client tidy = Client::bare(sim);
    for (TPM2_HANDLE each : {kFirst, kSecond, kThird, kLoaded, kLoaded + 1})
        tidy.ok(flushContext(each));
    EXPECT_EQ(hex(handle(Remote(conf).ok(createPrimary()))), hex(kFirst));
}

TEST_F(Processes, TakeTurns) {
    Remote one(conf), two(conf);
    const Bytes ofOne = primaryName(one.ok(createPrimary(TPM2_RH_OWNER, eccStorage("one"))));
    const Bytes ofTwo = primaryName(two.ok(createPrimary(TPM2_RH_OWNER, eccStorage("two"))));
    const TPM2_HANDLE policyOfTwo = handle(two.ok(startAuthSession(TPM2_SE_POLICY)));
    for (int i = 0; i < 20; i++) {
        EXPECT_EQ(hex(publicName(one.ok(readPublic(kFirst)))), hex(ofOne));
        EXPECT_EQ(hex(publicName(two.ok(readPublic(kFirst)))), hex(ofTwo));
        two.ok(policyCommandCode(policyOfTwo, TPM2_CC_Unseal));
        two.ok(policyRestart(policyOfTwo));
        EXPECT_EQ(hex(rc(one.send(policyGetDigest(policyOfTwo)))), hex(0x910u));
        EXPECT_EQ(hex(rc(one.send(readPublic(kSecond)))), hex(0x910u));
        EXPECT_EQ(hex(handle(one.ok(hashSequenceStart()))), hex(kSecond));
        one.ok(sequenceComplete(kSecond));
    }
    EXPECT_EQ(one.list(kFirst), Handles{kFirst});
    EXPECT_TRUE(one.close());
    EXPECT_EQ(hex(publicName(two.ok(readPublic(kFirst)))), hex(ofTwo));
    two.ok(policyGetDigest(policyOfTwo));
    EXPECT_TRUE(two.close());
    EXPECT_EQ(residue(sim), "");
}

// What one process flushed by another one's Clear finds in its old slot is not its own.
TEST_F(Processes, ClearElsewhere) {
    Remote one(conf), two(conf);
    for (const char* unique : {"1", "2"}) one.ok(createPrimary(TPM2_RH_OWNER, eccStorage(unique)));
    two.ok(clear());
    EXPECT_EQ(hex(rc(one.send(readPublic(kSecond)))), hex(0x910u));
    // What a cap keeps out of the TPM is found gone when it is named.
    if (!capped()) {
        EXPECT_EQ(one.list(kFirst), Handles{});
    }
    two.ok(createPrimary());
    EXPECT_EQ(hex(rc(one.send(readPublic(kFirst)))), hex(0x910u));
    EXPECT_EQ(one.list(kFirst), Handles{});
    EXPECT_TRUE(one.close());
    two.ok(readPublic(kFirst));
    EXPECT_TRUE(two.close());
}

// ---- One process, one thread

class Concurrency : public testing::Test {
  protected:
    Simulator sim;
};

/** Receives with the timeout again and again, as an event loop does. */
Bytes patiently(Client& client, int32_t timeout) {
    Bytes response;
    TSS2_RC result;
    do {
        size_t size;
        result = client.receiveSize(size, timeout);
        if (result == TSS2_RC_SUCCESS) result = client.receive(response, timeout);
    } while (result == TSS2_TCTI_RC_TRY_AGAIN);
    EXPECT_EQ(hex(result), hex(TSS2_RC_SUCCESS));
    return response;
}

TEST_F(Concurrency, InterleavedInOneThreadInEveryOrder) {
    Client clients[] = {Client::space(sim), Client::space(sim), Client::space(sim)};
    for (int32_t timeout : {TSS2_TCTI_TIMEOUT_BLOCK, TSS2_TCTI_TIMEOUT_NONE, 10000}) {
        size_t order[] = {0, 1, 2};
        do {
            for (uint16_t i = 0; i < 3; i++)
                ASSERT_EQ(clients[i].transmit(getRandom(static_cast<uint16_t>(16 + i))),
                          TSS2_RC_SUCCESS);
            for (size_t i : order) {
                const Bytes response = patiently(clients[i], timeout);
                EXPECT_EQ(parameters(response).tpm2b().size(), 16u + i);
            }
        } while (std::next_permutation(std::begin(order), std::end(order)));
    }
}

TEST_F(Concurrency, InterleavedCommandsRunInTheOrderOfTransmit) {
    Client a = Client::space(sim), b = Client::space(sim);
    const size_t mark = sim.commandCount();
    ASSERT_EQ(a.transmit(createPrimary(TPM2_RH_OWNER, eccStorage("a"))), TSS2_RC_SUCCESS);
    ASSERT_EQ(b.transmit(startAuthSession()), TSS2_RC_SUCCESS);
    EXPECT_EQ(hex(handle(patiently(b, TSS2_TCTI_TIMEOUT_BLOCK))), hex(kLoaded));
    ASSERT_EQ(b.transmit(getRandom()), TSS2_RC_SUCCESS);
    EXPECT_EQ(hex(handle(patiently(a, TSS2_TCTI_TIMEOUT_BLOCK))), hex(kFirst));
    EXPECT_EQ(hex(rc(patiently(b, TSS2_TCTI_TIMEOUT_BLOCK))), hex(0u));
    EXPECT_EQ(
        sim.commandCodes(mark),
        (std::vector<TPM2_CC>{TPM2_CC_CreatePrimary, TPM2_CC_StartAuthSession, TPM2_CC_GetRandom}));
}

// ---- One process, several threads

/** Two hundred commands about what is the client's alone; each with the one right answer. */
void work(Client& client, int number) {
    const std::string text = "thread " + std::to_string(number);
    const Bytes digest = sha256(bytes(text));
    const bool hasObject = number < 3;  // as many as the TPM has slots
    Bytes name;
    if (hasObject) name = primaryName(client.ok(createPrimary(TPM2_RH_OWNER, eccStorage(text))));
    const Command hash = Command(TPM2_CC_Hash).tpm2b(text).u16(TPM2_ALG_SHA256).u32(TPM2_RH_NULL);
    for (int i = 0; i < 200; i += 4) {
        EXPECT_EQ(
            parameters(client.ok(getRandom(static_cast<uint16_t>(8 + number)))).tpm2b().size(),
            8u + static_cast<size_t>(number));
        EXPECT_EQ(hex(parameters(client.ok(hash)).tpm2b()), hex(digest));
        if (hasObject) {
            EXPECT_EQ(hex(publicName(client.ok(readPublic(kFirst)))), hex(name));
        } else {
            EXPECT_EQ(hex(rc(client.send(readPublic(kFirst)))), hex(0x910u));
        }
        EXPECT_EQ(handles(client, kFirst), hasObject ? Handles{kFirst} : Handles{});
    }
}

/** Runs the task in `count` threads at once. */
template <class Task>
void inThreads(int count, Task task) {
    std::vector<std::thread> threads;
    for (int number = 0; number < count; number++)
        threads.emplace_back([number, &task] {
            try {
                task(number);
            } catch (const std::exception& problem) {
                ADD_FAILURE() << "thread " << number << ": " << problem.what();
            }
        });
    for (std::thread& each : threads) each.join();
}

TEST_F(Concurrency, FourThreads) {
    inThreads(4, [this](int number) {
        Client client = Client::space(sim);
        work(client, number);
    });
    EXPECT_EQ(residue(sim), "");
}

// A context may move from thread to thread as long as one at a time uses it.
TEST_F(Concurrency, OneThreadTransmitsAndAnotherReceives) {
    Client a = Client::space(sim), b = Client::space(sim);
    for (int i = 0; i < 20; i++) {
        ASSERT_EQ(a.transmit(getRandom(9)), TSS2_RC_SUCCESS);
        ASSERT_EQ(b.transmit(getRandom(10)), TSS2_RC_SUCCESS);
        inThreads(2, [&](int number) {
            const Bytes response = patiently(number == 0 ? a : b, TSS2_TCTI_TIMEOUT_BLOCK);
            EXPECT_EQ(parameters(response).tpm2b().size(), 9u + static_cast<size_t>(number));
        });
    }
}

TEST_F(Concurrency, ThreadsOpenAndClose) {
    inThreads(3, [this](int number) {
        for (int i = 0; i < 20; i++) {
            Client client = Client::space(sim);
            const Bytes made =
                client.ok(createPrimary(TPM2_RH_NULL, hmacKey(std::to_string(number))));
            EXPECT_EQ(hex(handle(made)), hex(kFirst));
            EXPECT_EQ(hex(publicName(client.ok(readPublic(kFirst)))), hex(primaryName(made)));
            client.ok(startAuthSession());
        }
    });
    EXPECT_EQ(residue(sim), "");
}

// ---- Finalize, in every state

TEST_F(Concurrency, FinalizeWhileRunning) {
    for (const Command& command : {createPrimary(), startAuthSession(), hashSequenceStart()}) {
        Client a = Client::space(sim);
        ASSERT_EQ(a.transmit(command), TSS2_RC_SUCCESS);
        a.close();
        EXPECT_EQ(residue(sim), "");
    }
}

TEST_F(Concurrency, FinalizeInLine) {
    Client a = Client::space(sim), b = Client::space(sim);
    const Bytes command = startAuthSession(TPM2_SE_POLICY);
    ASSERT_EQ(a.transmit(createPrimary()), TSS2_RC_SUCCESS);
    ASSERT_EQ(b.transmit(command), TSS2_RC_SUCCESS);
    b.close();
    EXPECT_EQ(hex(handle(patiently(a, TSS2_TCTI_TIMEOUT_BLOCK))), hex(kFirst));
    for (const Bytes& seen : sim.commands()) EXPECT_NE(hex(seen), hex(command));
    a.close();
    EXPECT_EQ(residue(sim), "");
}

TEST_F(Concurrency, FinalizeWithTheResponseWaiting) {
    Client a = Client::space(sim), b = Client::space(sim);
    ASSERT_EQ(a.transmit(createPrimary()), TSS2_RC_SUCCESS);
    ASSERT_EQ(b.transmit(startAuthSession()), TSS2_RC_SUCCESS);
    EXPECT_EQ(hex(handle(patiently(b, TSS2_TCTI_TIMEOUT_BLOCK))), hex(kLoaded));
    a.close();
    b.close();
    EXPECT_EQ(residue(sim), "");
}

TEST_F(Concurrency, FinalizeAfterASizeQuery) {
    Client a = Client::space(sim);
    ASSERT_EQ(a.transmit(createPrimary()), TSS2_RC_SUCCESS);
    size_t size = 0;
    ASSERT_EQ(a.receiveSize(size), TSS2_RC_SUCCESS);
    EXPECT_GT(size, 10u);
    a.close();
    EXPECT_EQ(residue(sim), "");
}

TEST_F(Concurrency, FinalizeAfterCancelInLine) {
    Client a = Client::space(sim), b = Client::space(sim);
    ASSERT_EQ(a.transmit(createPrimary()), TSS2_RC_SUCCESS);
    ASSERT_EQ(b.transmit(createPrimary()), TSS2_RC_SUCCESS);
    ASSERT_EQ(b.cancel(), TSS2_RC_SUCCESS);
    b.close();
    a.close();
    EXPECT_EQ(residue(sim), "");
}

TEST_F(Concurrency, FinalizeOfTheRunningOneServesTheLine) {
    Client a = Client::space(sim), b = Client::space(sim), c = Client::space(sim);
    ASSERT_EQ(a.transmit(createPrimary()), TSS2_RC_SUCCESS);
    ASSERT_EQ(b.transmit(createPrimary(TPM2_RH_NULL)), TSS2_RC_SUCCESS);
    ASSERT_EQ(c.transmit(startAuthSession()), TSS2_RC_SUCCESS);
    a.close();
    EXPECT_EQ(hex(handle(patiently(c, TSS2_TCTI_TIMEOUT_NONE))), hex(kLoaded));
    EXPECT_EQ(hex(handle(patiently(b, TSS2_TCTI_TIMEOUT_NONE))), hex(kFirst));
    EXPECT_EQ(handles(b, kFirst), Handles{kFirst});
    c.close();
    b.close();
    EXPECT_EQ(residue(sim), "");
}

}  // namespace

int runTestsOrServe(int argc, char** argv) {
    if (argc == 3 && std::string(argv[1]) == "--client") return serve(argv[2]);
    testing::InitGoogleTest(&argc, argv);
    return RUN_ALL_TESTS();
}

}  // namespace spaces::test

int main(int argc, char** argv) { return spaces::test::runTestsOrServe(argc, argv); }
