/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The library comes and goes: loaded, used and unloaded many times, it leaves nothing behind.
 * What always holds here: memory is counted by the C library (or by the address sanitizer, whose
 * memory it is otherwise) after everything of a round is closed, and once more many rounds later;
 * what a round leaves behind would be there many times.
 */
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <malloc.h>
#include <sys/wait.h>
#include <tss2/tss2_tcti.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "support/client.h"
#include "support/command.h"
#include "support/response.h"
#include "support/simulator.h"

extern "C" [[gnu::weak]] size_t __sanitizer_get_current_allocated_bytes();

namespace spaces::test {
namespace {

size_t allocated() {
    if (__sanitizer_get_current_allocated_bytes != nullptr)
        return __sanitizer_get_current_allocated_bytes();
    return mallinfo2().uordblks;
}

size_t descriptors() {
    const std::filesystem::directory_iterator all("/proc/self/fd");
    return static_cast<size_t>(std::distance(begin(all), end(all)));
}

/** The library, loaded by hand: dlclose takes it away when nobody else has it. */
class Library {
  public:
    Library() : handle_(::dlopen(Client::libraryPath().c_str(), RTLD_NOW | RTLD_LOCAL)) {
        if (handle_ == nullptr) throw std::runtime_error(::dlerror());
    }
    ~Library() { ::dlclose(handle_); }
    Library(const Library&) = delete;
    Library& operator=(const Library&) = delete;

    static bool isLoaded() {
        void* handle = ::dlopen(Client::libraryPath().c_str(), RTLD_NOW | RTLD_NOLOAD);
        if (handle != nullptr) ::dlclose(handle);
        std::ifstream maps("/proc/self/maps");
        const std::string text((std::istreambuf_iterator<char>(maps)), {});
        return handle != nullptr || text.find("libtss2-tcti-spaces") != std::string::npos;
    }

    TSS2_TCTI_INIT_FUNC init() const {
        const auto info =
            reinterpret_cast<TSS2_TCTI_INFO_FUNC>(::dlsym(handle_, TSS2_TCTI_INFO_SYMBOL));
        return info == nullptr ? nullptr : info()->init;
    }

  private:
    void* handle_;
};

/** A context of the library, opened without the loader. */
class Context {
  public:
    Context(const Library& library, const std::string& conf) {
        size_t size = 0;
        const TSS2_TCTI_INIT_FUNC init = library.init();
        if (init == nullptr || init(nullptr, &size, nullptr) != TSS2_RC_SUCCESS)
            throw std::runtime_error("no size");
        memory_.resize(size);
        if (init(get(), &size, conf.c_str()) != TSS2_RC_SUCCESS)
            throw std::runtime_error("the context does not open");
    }
    ~Context() { Tss2_Tcti_Finalize(get()); }
    Context(const Context&) = delete;
    Context& operator=(const Context&) = delete;

    Bytes send(const Bytes& command) {
        TSS2_TCTI_CONTEXT* context = get();
        Bytes response(TPM2_MAX_RESPONSE_SIZE);
        size_t size = response.size();
        if (Tss2_Tcti_Transmit(context, command.size(), command.data()) != TSS2_RC_SUCCESS ||
            Tss2_Tcti_Receive(context, &size, response.data(), TSS2_TCTI_TIMEOUT_BLOCK) !=
                TSS2_RC_SUCCESS)
            throw std::runtime_error("a command failed");
        response.resize(size);
        return response;
    }

  private:
    TSS2_TCTI_CONTEXT* get() { return reinterpret_cast<TSS2_TCTI_CONTEXT*>(memory_.data()); }

    std::vector<uint8_t> memory_;
};

class Unloading : public testing::Test {
  protected:
    /** Load, use, unload. With something in the TPM, of which that has room for three. */
    void round(bool makesThings = true) const {
        const Library library;
        Context context(library, conf);
        if (rc(context.send(getRandom())) != TPM2_RC_SUCCESS)
            throw std::runtime_error("no random octets");
        if (!makesThings) return;
        if (rc(context.send(createPrimary(TPM2_RH_NULL, hmacKey()))) != TPM2_RC_SUCCESS)
            throw std::runtime_error("no object");
        if (rc(context.send(startAuthSession())) != TPM2_RC_SUCCESS)
            throw std::runtime_error("no session");
    }

    Simulator sim{Record::nothing};
    // What follows the library's name in the conf string for the loader.
    const std::string conf =
        Client::spaceConf(sim).substr(Client::libraryPath().size() + std::string(":").size());
};

TEST_F(Unloading, TakesTheLibraryAway) {
    ASSERT_FALSE(Library::isLoaded());
    for (int i = 0; i < 50; i++) {
        {
            const Library library;
            EXPECT_TRUE(Library::isLoaded());
            const Context context(library, conf);
        }
        ASSERT_FALSE(Library::isLoaded());
    }
    EXPECT_EQ(residue(sim), "");
}

// Nobody calls what is not there any more.
TEST_F(Unloading, AForkAfterwardsIsAsBefore) {
    for (int i = 0; i < 20; i++) {
        round();
        ASSERT_FALSE(Library::isLoaded());
        const pid_t pid = ::fork();
        if (pid == 0) ::_exit(0);
        int status = -1;
        ASSERT_EQ(::waitpid(pid, &status, 0), pid);
        ASSERT_EQ(status, 0);
    }
}

TEST_F(Unloading, LeavesNothingBehind) {
    constexpr size_t kRounds = 500, kTolerance = 1024;  // less than three octets a round
    // Whatever is made once; and to count rearranges the allocator's caches.
    size_t memory = 0, open = 0;
    for (int i = 0; i < 2; i++) {
        for (int j = 0; j < 100; j++) round();
        memory = allocated();
        open = descriptors();
    }
    for (size_t i = 0; i < kRounds; i++) round();
    EXPECT_LT(allocated(), memory + kTolerance);
    EXPECT_EQ(descriptors(), open);
    EXPECT_EQ(residue(sim), "");
}

/** Rounds in several threads at once. What the threads themselves need goes with them. */
TEST_F(Unloading, InFourThreads) {
    const char* rounds = std::getenv("SPACES_ROUNDS");
    const int each = (rounds != nullptr ? std::atoi(rounds) : 1000) / 4;
    const auto work = [&](int count) {
        std::vector<std::thread> threads;
        for (int number = 0; number < 4; number++)
            threads.emplace_back([this, count, number] {
                try {
                    for (int i = 0; i < count; i++) round(number < 3);
                } catch (const std::exception& problem) {
                    ADD_FAILURE() << problem.what();
                }
            });
        for (std::thread& thread : threads) thread.join();
    };
    work(100);
    // In this order: to count descriptors leaves something in the allocator's caches.
    const size_t open = descriptors(), memory = allocated();
    work(each);
    EXPECT_LT(allocated(), memory + 4096);  // what GoogleTest keeps of the threads is in it
    EXPECT_EQ(descriptors(), open);
    EXPECT_FALSE(Library::isLoaded());
    EXPECT_EQ(residue(sim), "");
}

}  // namespace
}  // namespace spaces::test

int main(int argc, char** argv) {
    ::mallopt(M_ARENA_MAX, 1);  // mallinfo2 tells of one only
    testing::InitGoogleTest(&argc, argv);
    return RUN_ALL_TESTS();
}
