/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Slots that are taken by what no space of this process owns, and leftovers=keep or flush.
 * What always holds here: the TPM's commands are counted, none too many; what spaces of this
 * process own is there, whoever else needs its slot.
 */
#include <gmock/gmock.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <stdexcept>

#include "config.h"
#include "our_log.h"
#include "support/client.h"
#include "support/command.h"
#include "support/response.h"

namespace spaces::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

using Codes = std::vector<TPM2_CC>;
using Handles = std::vector<TPM2_HANDLE>;

constexpr TPM2_HANDLE kObjects = TPM2_TRANSIENT_FIRST, kSessions = TPM2_LOADED_SESSION_FIRST;
constexpr TPM2_CC kLook = TPM2_CC_GetCapability, kFlush = TPM2_CC_FlushContext;

Command anObject(const std::string& unique = "") {
    return createPrimary(TPM2_RH_NULL, hmacKey(unique));
}

/** Fills what it is told to, and goes away without a word. */
void leave(Client& client, int objects, int sessions) {
    for (int i = 0; i < objects; i++) client.ok(anObject());
    for (int i = 0; i < sessions; i++)
        client.ok(startAuthSession(i == 0 ? TPM2_SE_HMAC : TPM2_SE_POLICY));
}

/** The parameter: further options of every space. */
class Leftovers : public testing::TestWithParam<const char*> {
  protected:
    Client space(const std::string& policy) {
        return Client::space(sim, std::string(GetParam()) + "leftovers=" + policy);
    }
    static bool swap() { return *GetParam() != '\0'; }

    void leaveByBareClient(int objects, int sessions) {
        Client bare = Client::bare(sim);
        leave(bare, objects, sessions);
    }

    /** In a process that uses a space and is killed. */
    void leaveByKilledProcess(int objects, int sessions) {
        const std::string conf = Client::spaceConf(sim, std::string(GetParam()) + "wait=0");
        const pid_t pid = ::fork();
        if (pid == 0) {
            try {
                Client client(conf);
                leave(client, objects, sessions);
                ::raise(SIGKILL);
            } catch (const std::exception&) {
            }
            ::_exit(1);
        }
        int status = 0;
        if (::waitpid(pid, &status, 0) != pid || !WIFSIGNALED(status))
            throw std::runtime_error("nobody was killed");
    }

    Handles inTpm(TPM2_HANDLE kind) {
        Client bare = Client::bare(sim);
        return handles(bare, kind);
    }

    Simulator sim;
};

TEST_P(Leftovers, AreKeptAndSpokenOf) {
    leaveByKilledProcess(3, 3);
    for (const char* policy : {"leftovers=keep", "wait=0"}) {  // which is the default
        Client client = Client::space(sim, std::string(GetParam()) + policy);
        const OurLog ofObjects;
        size_t mark = sim.commandCount();
        EXPECT_EQ(hex(rc(client.send(anObject()))), hex(TPM2_RC_OBJECT_MEMORY));
        EXPECT_EQ(sim.commandCodes(mark), Codes{TPM2_CC_CreatePrimary});
        const std::string line = ofObjects.line();
        EXPECT_THAT(line, HasSubstr("WARNING:tcti:"));
        EXPECT_THAT(line,
                    HasSubstr("no slot left for an object, and 0 of them are this process's"));
        EXPECT_THAT(line, HasSubstr("leftovers=flush would flush them"));
        const OurLog ofSessions;
        mark = sim.commandCount();
        EXPECT_EQ(hex(rc(client.send(startAuthSession()))), hex(TPM2_RC_SESSION_MEMORY));
        EXPECT_EQ(sim.commandCodes(mark), Codes{TPM2_CC_StartAuthSession});
        EXPECT_THAT(ofSessions.line(), HasSubstr("no slot left for a session, and 0"));
    }
    EXPECT_EQ(inTpm(kObjects).size(), 3u);
    EXPECT_EQ(inTpm(kSessions).size(), 3u);
}

TEST_P(Leftovers, AreFlushedEachWithOneCommand) {
    leaveByKilledProcess(2, 1);
    leaveByBareClient(1, 2);
    Client client = space("flush");
    const OurLog log;
    size_t mark = sim.commandCount();
    client.ok(anObject());
    EXPECT_THAT(sim.commandCodes(mark), ElementsAre(TPM2_CC_CreatePrimary, kLook, kFlush, kFlush,
                                                    kFlush, TPM2_CC_CreatePrimary));
    EXPECT_THAT(log.line(), HasSubstr("Flushed 3 objects that no space over this child owns"));
    EXPECT_EQ(inTpm(kSessions).size(), 3u);  // nobody needs their slots
    const OurLog next;
    mark = sim.commandCount();
    const TPM2_HANDLE session = handle(client.ok(startAuthSession()));
    EXPECT_THAT(sim.commandCodes(mark), ElementsAre(TPM2_CC_StartAuthSession, kLook, kFlush, kFlush,
                                                    kFlush, TPM2_CC_StartAuthSession));
    EXPECT_THAT(next.line(), HasSubstr("Flushed 3 sessions that no space over this child owns"));
    EXPECT_EQ(inTpm(kObjects).size(), 1u);
    EXPECT_EQ(inTpm(kSessions), Handles{session});
    client.close();
    EXPECT_EQ(residue(sim), "");
}

TEST_P(Leftovers, AreFlushedAndWhatSpacesOwnIsNot) {
    Client a = space("flush"), b = space("flush");
    const TPM2_HANDLE saved = handle(a.ok(startAuthSession(TPM2_SE_POLICY)));
    a.ok(policyCommandCode(saved, TPM2_CC_Unseal));
    const Bytes digest = a.ok(policyGetDigest(saved));
    const Bytes blob = context(a.ok(contextSave(saved)));
    const Bytes ofA = primaryName(a.ok(anObject("a")));
    const TPM2_HANDLE sessionOfB = handle(b.ok(startAuthSession(TPM2_SE_POLICY)));
    leaveByBareClient(1, 1);
    const Bytes ofB = primaryName(b.ok(anObject("b")));
    const TPM2_HANDLE sessionOfA = handle(a.ok(startAuthSession()));
    ASSERT_EQ(inTpm(kObjects).size(), 3u);
    ASSERT_EQ(inTpm(kSessions).size(), 3u);
    const size_t mark = sim.commandCount();
    a.ok(anObject("another of a"));
    b.ok(startAuthSession());
    const Codes codes = sim.commandCodes(mark);
    // One that swaps makes room with what is its own.
    EXPECT_EQ(std::count(codes.begin(), codes.end(), kLook), swap() ? 0 : 2);
    if (!swap()) {
        EXPECT_EQ(std::count(codes.begin(), codes.end(), kFlush), 2);
    }
    EXPECT_EQ(hex(publicName(a.ok(readPublic(kObjects)))), hex(ofA));
    EXPECT_EQ(hex(publicName(b.ok(readPublic(kObjects)))), hex(ofB));
    b.ok(policyGetDigest(sessionOfB));
    a.ok(flushContext(kObjects + 1));
    a.ok(anObject("a third").noAuth().session(sessionOfA));
    b.ok(flushContext(sessionOfB));
    b.ok(contextLoad(blob));
    EXPECT_EQ(hex(b.ok(policyGetDigest(saved))), hex(digest));
}

TEST_P(Leftovers, AreNotWhatFillsTheTpm) {
    if (swap()) {
        Client client = space("flush");
        const OurLog log;
        const size_t mark = sim.commandCount();
        for (int i = 0; i < 5; i++) client.ok(anObject());
        for (int i = 0; i < 5; i++) client.ok(startAuthSession());
        const Codes codes = sim.commandCodes(mark);
        EXPECT_EQ(std::count(codes.begin(), codes.end(), kLook), 0);
        EXPECT_THAT(log.lines(), ElementsAre());
        return;
    }
    for (const std::string policy : {"flush", "keep"}) {
        Client a = space(policy), b = space(policy);
        leave(a, 2, 1);
        leave(b, 1, 2);
        const OurLog log;
        for (Client* each : {&a, &b}) {
            size_t mark = sim.commandCount();
            EXPECT_EQ(hex(rc(each->send(anObject()))), hex(TPM2_RC_OBJECT_MEMORY));
            Codes expected{TPM2_CC_CreatePrimary};
            if (policy == "flush") expected.push_back(kLook);
            EXPECT_EQ(sim.commandCodes(mark), expected);
            mark = sim.commandCount();
            EXPECT_EQ(hex(rc(each->send(startAuthSession()))), hex(TPM2_RC_SESSION_MEMORY));
            expected[0] = TPM2_CC_StartAuthSession;
            EXPECT_EQ(sim.commandCodes(mark), expected);
        }
        EXPECT_THAT(log.lines(), ElementsAre());
        EXPECT_EQ(inTpm(kObjects).size(), 3u);
        EXPECT_EQ(inTpm(kSessions).size(), 3u);
    }
}

auto everyMode() {
#if SPACES_SWAPPING
    return testing::Values("", "swap=on,");
#else
    return testing::Values("");
#endif
}

INSTANTIATE_TEST_SUITE_P(With, Leftovers, everyMode(), [](const auto& info) {
    return std::string(info.index == 0 ? "Isolation" : "Swapping");
});

}  // namespace
}  // namespace spaces::test

int main(int argc, char** argv) { return spaces::test::runTestsWithLog(argc, argv); }
