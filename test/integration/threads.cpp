/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Sixteen threads on one TPM with room for two objects and two sessions: contexts come and go all
 * the time, wait in every way there is, are canceled, and are finalized in the middle of a command.
 * What always holds here: every answer is checked; it runs for SPACES_THREADS_SECONDS over each
 * child (default 1), and no less than a number of lives in each thread, however slow the machine;
 * the TPM is empty afterwards; a failure prints the seed, which SPACES_THREADS_SEED takes.
 */
#include <gtest/gtest.h>
#include <poll.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "over_children.h"
#include "support/command.h"
#include "support/response.h"
#include "support/session.h"

namespace spaces::test {
namespace {

constexpr unsigned kThreads = 16;
constexpr unsigned kLeastLives = 2;
constexpr TPM2_HANDLE kFirst = TPM2_TRANSIENT_FIRST;

uint64_t fromEnvironment(const char* name, uint64_t otherwise) {
    const char* value = std::getenv(name);
    return value == nullptr || *value == '\0' ? otherwise : std::stoull(value);
}

void require(bool condition, const std::string& otherwise) {
    if (!condition) throw std::runtime_error(otherwise);
}

/** One context from opening to closing, with a few objects and sessions. */
class Life {
  public:
    Life(const std::string& conf, std::mt19937& random) : random_(random), client_(conf) {
        for (unsigned count = 1 + number(2); keys_.size() < count;) makeKey();
        for (unsigned count = 1 + number(2); sessions_.size() < count;)
            sessions_.push_back(Session::start(client_));
    }

    void run() {
        for (unsigned left = 4 + number(8); left > 0; left--) {
            switch (number(4)) {
                case 0:
                    readBack();
                    break;
                case 1:
                    authorize();
                    break;
                case 2:
                    cancel();
                    break;
                default:
                    list();
            }
        }
        if (number(3) == 0) transmit(readPublic(kFirst));  // its response is never fetched
    }

  private:
    struct Key {
        Bytes name;
        Bytes mac;  // of what authorize() has it sign
    };

    unsigned number(unsigned below) { return static_cast<unsigned>(random_() % below); }
    TPM2_HANDLE handleOf(size_t key) const { return kFirst + static_cast<TPM2_HANDLE>(key); }

    void makeKey() {
        const std::string unique = std::to_string(random_());
        const Bytes made = client_.ok(createPrimary(TPM2_RH_NULL, hmacKey(unique)));
        require(handle(made) == handleOf(keys_.size()), "the wrong handle " + hex(handle(made)));
        keys_.push_back({primaryName(made), {}});
    }

    void transmit(const Bytes& command) {
        const TSS2_RC rc = client_.transmit(command);
        require(rc == TSS2_RC_SUCCESS, "transmit answered " + hex(rc));
    }

    /** Waits in one of the ways there are. */
    Bytes receive() {
        constexpr int32_t kTimeouts[] = {TSS2_TCTI_TIMEOUT_BLOCK, TSS2_TCTI_TIMEOUT_NONE, 1, 10000};
        const int32_t timeout = kTimeouts[number(4)];
        const bool polls = number(2) == 0;
        Bytes response;
        TSS2_RC rc;
        do {
            if (polls) awaitPollHandle();
            size_t size = 0;
            rc = number(2) == 0 ? client_.receiveSize(size, timeout) : TSS2_RC_SUCCESS;
            if (rc == TSS2_RC_SUCCESS) rc = client_.receive(response, timeout);
            if (rc == TSS2_TCTI_RC_TRY_AGAIN) std::this_thread::yield();
        } while (rc == TSS2_TCTI_RC_TRY_AGAIN);
        require(rc == TSS2_RC_SUCCESS, "receive answered " + hex(rc));
        return response;
    }

    void awaitPollHandle() {
        TSS2_TCTI_POLL_HANDLE handle{};
        size_t count = 1;
        if (Tss2_Tcti_GetPollHandles(client_.context(), &handle, &count) != TSS2_RC_SUCCESS) return;
        require(::poll(&handle, 1, 60000) == 1, "the poll handle never became readable");
    }

    void readBack() {
        const size_t key = number(static_cast<unsigned>(keys_.size()));
        transmit(readPublic(handleOf(key)));
        const Bytes response = receive();
        require(rc(response) == TPM2_RC_SUCCESS, "ReadPublic answered " + hex(rc(response)));
        require(publicName(response) == keys_[key].name, "another object's name");
    }

    /** The session checks the HMAC of the response. */
    void authorize() {
        const size_t at = number(static_cast<unsigned>(keys_.size()));
        Session& session = sessions_[number(static_cast<unsigned>(sessions_.size()))];
        Key& key = keys_[at];
        const Bytes response =
            session.authorize(client_, hmac(handleOf(at), "data"), "", {key.name});
        require(rc(response) == TPM2_RC_SUCCESS, "HMAC answered " + hex(rc(response)));
        const Bytes mac = parameters(response).tpm2b();
        if (key.mac.empty()) key.mac = mac;
        require(mac == key.mac, "another key's HMAC");
    }

    void cancel() {
        transmit(readPublic(kFirst));
        const TSS2_RC asked = client_.cancel();
        require(asked == TSS2_RC_SUCCESS || asked == TSS2_TCTI_RC_NOT_IMPLEMENTED,
                "cancel answered " + hex(asked));
        const Bytes response = receive();
        if (rc(response) == TPM2_RC_CANCELED && asked == TSS2_RC_SUCCESS) return;
        require(rc(response) == TPM2_RC_SUCCESS, "after cancel: " + hex(rc(response)));
        require(publicName(response) == keys_[0].name, "another object's name after cancel");
    }

    void list() {
        std::vector<TPM2_HANDLE> expected;
        for (size_t i = 0; i < keys_.size(); i++) expected.push_back(handleOf(i));
        require(handles(client_, kFirst) == expected, "another space's objects in the list");
        require(handles(client_, TPM2_LOADED_SESSION_FIRST).size() == sessions_.size(),
                "another space's sessions in the list");
    }

    std::mt19937& random_;
    Client client_;
    std::vector<Key> keys_;
    std::vector<Session> sessions_;
};

class Threads : public OverChildren {
  protected:
    bool timeIsUp() const { return std::chrono::steady_clock::now() >= end_; }

    void live(unsigned number) {
        std::mt19937 random(static_cast<std::mt19937::result_type>(seed_ + number));
        unsigned lives = 0;
        try {
            for (; !failed_ && (lives < kLeastLives || !timeIsUp()); lives++)
                Life(swapping_, random).run();
        } catch (const std::exception& problem) {
            failed_ = true;
            ADD_FAILURE() << "seed " << seed_ << ", thread " << number << ", life " << lives << ": "
                          << problem.what();
        }
        lives_ += lives;
    }

    const uint64_t seed_ = fromEnvironment("SPACES_THREADS_SEED", std::random_device()());
    const std::chrono::steady_clock::time_point end_ =
        std::chrono::steady_clock::now() +
        std::chrono::seconds(fromEnvironment("SPACES_THREADS_SECONDS", 1));
    const std::string swapping_ = Client::libraryPath() + ":swap=on,objects=2,sessions=2," + child;
    std::atomic<bool> failed_ = false;
    std::atomic<unsigned> lives_ = 0;
};

TEST_P(Threads, EachHasATpmOfItsOwn) {
    std::vector<std::thread> threads;
    for (unsigned i = 0; i < kThreads; i++) threads.emplace_back([this, i] { live(i); });
    for (std::thread& each : threads) each.join();

    std::printf("%u contexts\n", lives_.load());
    EXPECT_EQ(residue(sim), "");
}

INSTANTIATE_TEST_SUITE_P(Over, Threads, everyChild(), childName);

}  // namespace
}  // namespace spaces::test
