/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The same work over the kernel's devices and over spaces on them, for counting the TPM commands
 * that it takes. It runs in the guest and does not count: the host has the log of the TPM.
 *
 * What always holds here: what is to be counted stands between two TPM2_Hash commands of their own,
 * whose data says what it is. These come through the device that the work does not use, with
 * nothing of theirs in the TPM, so that each is one command; and when they are sent, all that the
 * work before them has caused is over.
 */
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

#include "device.h"
#include "support/response.h"

namespace spaces::test {
namespace {

struct Column {
    const char* name;
    const char* device;
    const char* options;  // nullptr: without a space
};

constexpr Column kColumns[] = {
    {"/dev/tpm0", kTpm, nullptr},
    {"/dev/tpmrm0", kManaged, nullptr},
    {"spaces on tpm0", kTpm, "swap=on"},
    {"spaces on tpmrm0", kManaged, "swap=on"},
    {"... objects=2, sessions=2", kManaged, "swap=on,objects=2,sessions=2"},
    {"... objects=3, sessions=3", kManaged, "swap=on,objects=3,sessions=3"},
};

/** What is used in turn: as many objects, sessions and hash sequences. */
struct Work {
    const char* name;
    size_t objects, sessions, sequences;
    bool used = true;  ///< false: they are there, and the commands use none of them
};

constexpr Work kWorks[] = {
    {"1 object", 1, 0, 0},
    {"2 objects in turn", 2, 0, 0},
    {"3 objects in turn", 3, 0, 0},
    {"4 objects in turn", 4, 0, 0},
    {"8 objects in turn", 8, 0, 0},
    {"16 objects in turn", 16, 0, 0},
    {"2 objects, commands that use none", 2, 0, 0, false},
    {"1 session", 0, 1, 0},
    {"3 sessions in turn", 0, 3, 0},
    {"8 sessions in turn", 0, 8, 0},
    {"16 sessions in turn", 0, 16, 0},
    {"2 objects and 2 sessions in turn", 2, 2, 0},
    {"2 hash sequences in turn", 0, 0, 2},
    {"4 hash sequences in turn", 0, 0, 4},
};

/** Says something in the TPM's own log. */
class Marker {
  public:
    explicit Marker(const char* beside) : device_(beside == kTpm ? kManaged : kTpm) {}
    void say(const std::string& what) {
        device_.ok(Command(TPM2_CC_Hash).tpm2b(what).u16(TPM2_ALG_SHA256).u32(TPM2_RH_NULL));
    }

  private:
    Client device_;
};

/** The commands of one piece of work, one for each thing that it uses. */
std::vector<Bytes> prepare(Client& client, const Work& work) {
    std::vector<TPM2_HANDLE> keys, sessions;
    std::vector<Bytes> uses;
    for (size_t i = 0; i < work.objects; i++)
        keys.push_back(handle(client.ok(loadExternalHmac("key " + std::to_string(i)))));
    for (size_t i = 0; i < work.sessions; i++)
        sessions.push_back(handle(client.ok(startAuthSession())));
    for (size_t i = 0; i < work.sequences; i++)
        uses.push_back(sequenceUpdate(handle(client.ok(hashSequenceStart())), "data"));
    if (!work.used) return {pcrRead(0)};
    for (size_t i = 0; i < keys.size(); i++) {
        Command use = hmac(keys[i], "data");
        if (i < sessions.size()) use.noAuth().session(sessions[i]);
        uses.push_back(use);
    }
    if (keys.empty())
        for (TPM2_HANDLE session : sessions)
            uses.push_back(
                pcrRead(0).session(session, {}, TPMA_SESSION_CONTINUESESSION | TPMA_SESSION_AUDIT));
    return uses;
}

/** Goes on until things go their usual way, and then for as long as the count is to be of. */
void run(Client& client, const Work& work, const std::string& title, Marker& marker) {
    const std::vector<Bytes> uses = prepare(client, work);
    // Whole rounds, also where the one that leaves is another one each time.
    const size_t round = uses.size() * std::max<size_t>(uses.size() - 1, 1);
    const size_t count = round * ((40 + round - 1) / round);
    for (size_t i = 0; i < 2 * round; i++) client.ok(uses[i % uses.size()]);
    marker.say("begin|" + title + "|" + std::to_string(count));
    for (size_t i = 0; i < count; i++) client.ok(uses[i % uses.size()]);
    marker.say("end");
}

void measure(const Work& work, const Column& column) {
    const std::string title = std::string(work.name) + "|" + column.name;
    Marker marker(column.device);
    Client client(column.options == nullptr ? column.device
                                            : Client::spaceConf(column.device, column.options));
    try {
        run(client, work, title, marker);
    } catch (const std::exception& error) {
        std::printf("%s: %s\n", title.c_str(), error.what());
        marker.say("fails|" + title);
    }
}

}  // namespace
}  // namespace spaces::test

int main() {
    using namespace spaces::test;
    try {
        for (const Work& work : kWorks)
            for (const Column& column : kColumns) {
                measure(work, column);
                flushResidue();
            }
    } catch (const std::exception& error) {
        std::printf("counts: %s\n", error.what());
        return EXIT_FAILURE;
    }
    return EXIT_SUCCESS;
}
