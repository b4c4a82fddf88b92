/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Isolation, as the specification of a private TPM: two spaces, A and B, on one TPM, and a client
 * that is alone with a TPM of its own.  Whatever A has, B is answered what the client alone is
 * answered: the same response, byte for byte, wherever random values play no part.  The expected
 * codes are written out all the same, so a test also says what a TPM does.  After every test both
 * spaces close, and the TPM must be empty.
 */
#include <gtest/gtest.h>
#include <tss2/tss2_tcti.h>

#include <algorithm>
#include <functional>

#include "support/client.h"
#include "support/command.h"
#include "support/crypto.h"
#include "support/response.h"
#include "support/session.h"
#include "support/simulator.h"

namespace spaces::test {
namespace {

constexpr TPM2_HANDLE kFirst = 0x80000000, kSecond = 0x80000001, kThird = 0x80000002;
constexpr TPM2_HANDLE kPersistent = 0x81000001, kUndefined = 0x81000002;
constexpr TPM2_HANDLE kHmac = 0x02000000, kPolicy = 0x03000000, kSaved = 0x03000000;
constexpr TPM2_HANDLE kIndex = 0x01000001, kPcr = 16;

using Handles = std::vector<TPM2_HANDLE>;
using Codes = std::vector<TPM2_RC>;

/** An error response, as hex(): a TPM sends nothing but the code. */
std::string error(TPM2_RC code) {
    Bytes response;
    append(response, TPM2_ST_NO_SESSIONS, 2);
    append(response, 10, 4);
    append(response, code, 4);
    return hex(response);
}

/** The handles of a list, and "..." if it says that there are more. */
std::string listed(const Bytes& response) {
    const HandleList list = handleList(response);
    std::string text;
    for (TPM2_HANDLE each : list.handles) text += (text.empty() ? "" : " ") + hex(each);
    return text + (list.moreData ? "..." : "");
}

/** The same command, authorised by a session without an HMAC: the auth value is empty. */
Command with(Command command, TPM2_HANDLE session,
             uint8_t attributes = TPMA_SESSION_CONTINUESESSION) {
    return command.noAuth().session(session, {}, attributes);
}

/** The last command with this code. */
Bytes lastOf(const std::vector<Bytes>& commands, TPM2_CC code) {
    for (size_t i = commands.size(); i-- > 0;)
        if (rc(commands[i]) == code) return commands[i];  // it is where a response code is
    throw std::out_of_range("the TPM got no such command");
}

class Isolation : public testing::Test {
  protected:
    void TearDown() override {
        a.close();
        b.close();
        EXPECT_EQ(residue(sim), "");
    }

    /** What B is answered; or, if the client alone is answered something else, both. */
    std::string answer(const Bytes& command) { return answer(command, command); }
    std::string answer(const Bytes& ofB, const Bytes& ofAlone) {
        return agreed(outcome(b.send(ofB)), outcome(alone.send(ofAlone)));
    }

    /** The handle list that B sees, compared in the same way. */
    std::string list(TPM2_HANDLE first, uint32_t count = 100) {
        const Command command = getCapability(TPM2_CAP_HANDLES, first, count);
        const Bytes ofB = b.ok(command), ofAlone = alone.ok(command);
        return ofB == ofAlone ? listed(ofB) : agreed(hex(ofB), hex(ofAlone));
    }

    /** Both B and the client alone do it, with success. */
    void bothOk(const Command& command) {
        b.ok(command);
        alone.ok(command);
    }

    /** Both B and the client alone start a session.  The numbers of sessions are shared by nature,
     *  so the client alone passes over those that A has taken. */
    TPM2_HANDLE bothStart(TPM2_SE type = TPM2_SE_HMAC) {
        const TPM2_HANDLE session = handle(b.ok(startAuthSession(type)));
        Handles passed;
        TPM2_HANDLE same;
        while ((same = handle(alone.ok(startAuthSession(type)))) != session) passed.push_back(same);
        for (TPM2_HANDLE each : passed) alone.ok(flushContext(each));
        return session;
    }

    Simulator sim, own;
    Client a = Client::space(sim), b = Client::space(sim), alone = Client::bare(own);

  private:
    static std::string outcome(const Bytes& response) {
        return rc(response) == TPM2_RC_SUCCESS ? "success" : hex(response);
    }
    static std::string agreed(const std::string& ofB, const std::string& ofAlone) {
        return ofB == ofAlone ? ofB : "in the space " + ofB + ", alone " + ofAlone;
    }
};

// ---- Whose handle is it?

TEST_F(Isolation, OwnObjectOnly) {
    EXPECT_EQ(handle(a.ok(createPrimary())), kFirst);
    EXPECT_EQ(answer(readPublic(kFirst)), error(0x910));
    EXPECT_EQ(hex(b.send(readPublic(kFirst))), "80010000000a00000910");
    a.ok(createPrimary());
    bothOk(createPrimary());
    // B's own object is at 0x80000002 in the TPM, A's second at 0x80000001: neither number is B's.
    EXPECT_EQ(answer(readPublic(kSecond)), error(0x910));
    EXPECT_EQ(answer(readPublic(kThird)), error(0x910));
    a.ok(readPublic(kFirst));
    a.ok(readPublic(kSecond));
}

TEST_F(Isolation, FirstHandle) {
    const Bytes ofA = a.ok(createPrimary(TPM2_RH_OWNER, eccStorage("A")));
    const Bytes ofB = b.ok(createPrimary(TPM2_RH_OWNER, eccStorage("B")));
    EXPECT_EQ(handle(ofA), kFirst);
    EXPECT_EQ(handle(ofB), kFirst);
    EXPECT_EQ(publicName(a.ok(readPublic(kFirst))), primaryName(ofA));
    EXPECT_EQ(publicName(b.ok(readPublic(kFirst))), primaryName(ofB));
    EXPECT_NE(primaryName(ofA), primaryName(ofB));
}

TEST_F(Isolation, FirstHandleIsTheLowestHole) {
    const auto run = [](Client& client) {
        Handles made;
        const auto make = [&] { made.push_back(handle(client.ok(createPrimary()))); };
        for (int i = 0; i < 3; i++) make();
        client.ok(flushContext(kSecond));
        make();
        client.ok(flushContext(kThird));
        client.ok(flushContext(kFirst));
        make();
        make();
        return made;
    };
    const Handles expected{kFirst, kSecond, kThird, kSecond, kFirst, kThird};
    EXPECT_EQ(run(b), expected);
    EXPECT_EQ(run(alone), expected);
}

TEST_F(Isolation, FirstHandleWhenAnotherTookTheSlot) {
    const auto make = [](Client& client, const char* unique) {
        return client.ok(createPrimary(TPM2_RH_OWNER, eccStorage(unique)));
    };
    make(b, "0");
    const Bytes second = make(b, "1");
    const Bytes ofA = make(a, "A");
    b.ok(flushContext(kFirst));
    const Bytes alsoOfA = make(a, "B");  // where B's first was
    a.ok(flushContext(kFirst));
    const Bytes third = make(b, "2");  // where A's first was
    EXPECT_EQ(handle(third), kFirst);
    EXPECT_EQ(publicName(b.ok(readPublic(kFirst))), primaryName(third));
    EXPECT_EQ(publicName(b.ok(readPublic(kSecond))), primaryName(second));
    EXPECT_EQ(handle(alsoOfA), kSecond);
    EXPECT_EQ(publicName(a.ok(readPublic(kSecond))), primaryName(alsoOfA));
    EXPECT_EQ(rc(a.send(readPublic(kFirst))), 0x910u);
}

// ---- FlushContext

TEST_F(Isolation, FlushForeign) {
    a.ok(createPrimary(TPM2_RH_OWNER, eccSigning()));
    EXPECT_EQ(answer(flushContext(kFirst)), error(0x1CB));
    a.ok(sign(kFirst));
    for (TPM2_SE type : {TPM2_SE_HMAC, TPM2_SE_POLICY}) {
        const TPM2_HANDLE session = handle(a.ok(startAuthSession(type)));
        EXPECT_EQ(answer(flushContext(session)), error(0x1CB));
        // A TPM flushes a session by its index, whichever type the handle says.
        const TPM2_HANDLE other = session ^ kHmac ^ kPolicy;
        EXPECT_EQ(answer(flushContext(other)), error(0x1CB));
        EXPECT_EQ(handles(a, kHmac), Handles{session});
        a.ok(flushContext(session));
    }
}

TEST_F(Isolation, FlushForeignSaved) {
    const TPM2_HANDLE session = handle(a.ok(startAuthSession()));
    const Bytes saved = context(a.ok(contextSave(session)));
    EXPECT_EQ(answer(flushContext(session)), error(0x1CB));
    a.ok(contextLoad(saved));
}

TEST_F(Isolation, FlushTwice) {
    a.ok(createPrimary());
    bothOk(createPrimary());
    bothOk(flushContext(kFirst));
    EXPECT_EQ(answer(flushContext(kFirst)), error(0x1CB));
    a.ok(startAuthSession());
    const TPM2_HANDLE session = bothStart();
    bothOk(flushContext(session));
    EXPECT_EQ(answer(flushContext(session)), error(0x1CB));
    const TPM2_HANDLE saved = bothStart();
    bothOk(contextSave(saved));
    bothOk(flushContext(saved));
    EXPECT_EQ(answer(flushContext(saved)), error(0x1CB));
}

TEST_F(Isolation, FlushForeignWithTheNumberOfAnOwnSession) {
    a.ok(createPrimary());
    EXPECT_EQ(bothStart(), kHmac);
    EXPECT_EQ(answer(flushContext(kFirst)), error(0x1CB));
    EXPECT_EQ(list(kHmac), hex(kHmac));
    a.ok(readPublic(kFirst));
}

TEST_F(Isolation, FlushSize) {
    a.ok(createPrimary());
    a.ok(createPrimary());
    const TPM2_HANDLE ofA = handle(a.ok(startAuthSession()));
    bothOk(createPrimary());
    const TPM2_HANDLE session = bothStart();
    // B's own, what B has not though A has, what nobody has, what no FlushContext flushes.
    for (TPM2_HANDLE named : {kFirst, kSecond, kThird, session, ofA, kPersistent}) {
        SCOPED_TRACE(hex(named));
        EXPECT_EQ(answer(flushContext(named).truncate(10)), error(0x1DA));
        EXPECT_EQ(answer(flushContext(named).truncate(13)), error(0x1DA));
        EXPECT_EQ(answer(flushContext(named).password()), error(0x145));
        EXPECT_EQ(answer(flushContext(named).tag(TPM2_ST_SESSIONS).truncate(10)), error(0x09A));
    }
    for (TPM2_HANDLE named : {kFirst, kSecond, kThird, session, ofA})
        EXPECT_EQ(answer(flushContext(named).u8(0)), error(0x095)) << hex(named);
    EXPECT_EQ(answer(flushContext(kPersistent)), error(0x1C4));
    EXPECT_EQ(answer(flushContext(TPM2_RH_OWNER)), error(0x1C4));
    EXPECT_EQ(list(kFirst), hex(kFirst));
    EXPECT_EQ(list(kHmac), hex(session));
    EXPECT_EQ(handles(a, kFirst), (Handles{kFirst, kSecond}));
    EXPECT_EQ(handles(a, kHmac), Handles{ofA});
}

// ---- Sessions of others

TEST_F(Isolation, SessionIsolationAuthArea) {
    const TPM2_HANDLE ofA = handle(a.ok(startAuthSession()));
    const TPM2_HANDLE policyOfA = handle(a.ok(startAuthSession(TPM2_SE_POLICY)));
    const TPM2_HANDLE session = bothStart();
    for (TPM2_HANDLE foreign : {ofA, policyOfA}) {
        SCOPED_TRACE(hex(foreign));
        EXPECT_EQ(answer(with(createPrimary(), foreign)), error(0x918));
        EXPECT_EQ(answer(with(createPrimary(), foreign, 0)), error(0x918));
        EXPECT_EQ(answer(createPrimary().session(foreign)), error(0x919));
        EXPECT_EQ(answer(createPrimary().session(session).session(foreign)), error(0x91A));
    }
    EXPECT_EQ(list(kFirst), "");
    EXPECT_EQ(list(kHmac), hex(session));
    a.ok(with(createPrimary(), ofA));
    bothOk(with(createPrimary(), session));
}

TEST_F(Isolation, SessionIsolationHandleArea) {
    const TPM2_HANDLE ofA = handle(a.ok(startAuthSession(TPM2_SE_POLICY)));
    a.ok(policyCommandCode(ofA, TPM2_CC_Unseal));
    const Bytes digest = a.ok(policyGetDigest(ofA));
    bothOk(nvDefineSpace(kIndex, 4));
    bothOk(nvWrite(kIndex, "data"));

    EXPECT_EQ(answer(policyCommandCode(ofA, TPM2_CC_Unseal)), error(0x910));
    EXPECT_EQ(answer(policyRestart(ofA)), error(0x910));
    EXPECT_EQ(answer(policyGetDigest(ofA)), error(0x910));
    EXPECT_EQ(answer(policyAuthValue(ofA)), error(0x910));
    EXPECT_EQ(answer(policyPassword(ofA)), error(0x910));
    EXPECT_EQ(answer(policyPcr(ofA, kPcr)), error(0x910));
    EXPECT_EQ(answer(policySecret(TPM2_RH_OWNER, ofA)), error(0x911));
    EXPECT_EQ(answer(policyNv(kIndex, ofA, "data")), error(0x912));

    EXPECT_EQ(a.ok(policyGetDigest(ofA)), digest);
}

TEST_F(Isolation, ContextSaveForeign) {
    a.ok(createPrimary());
    const TPM2_HANDLE hmac = handle(a.ok(startAuthSession()));
    const TPM2_HANDLE policy = handle(a.ok(startAuthSession(TPM2_SE_POLICY)));
    for (TPM2_HANDLE foreign : {kFirst, hmac, policy}) {
        EXPECT_EQ(answer(contextSave(foreign)), error(0x910)) << hex(foreign);
    }
    EXPECT_EQ(handles(a, kHmac), (Handles{hmac, policy}));
    EXPECT_EQ(handles(a, kSaved), Handles{});
}

// ---- A session that ends with a command

TEST_F(Isolation, ContinueSessionZeroSuccess) {
    const TPM2_HANDLE session = bothStart();
    bothOk(with(createPrimary(), session, 0));
    EXPECT_EQ(list(kHmac), "");
    EXPECT_EQ(answer(with(createPrimary(), session)), error(0x918));

    ASSERT_EQ(handle(a.ok(startAuthSession())), session);
    EXPECT_EQ(list(kHmac), "");
    EXPECT_EQ(answer(with(createPrimary(), session)), error(0x918));
    EXPECT_EQ(answer(flushContext(session)), error(0x1CB));
    b.close();
    a.ok(with(createPrimary(), session));
}

/** Runs the same commands for B and for the client alone. */
void expectCodes(Client& b, Client& alone, const std::function<Codes(Client&)>& run,
                 const Codes& expected) {
    EXPECT_EQ(run(b), expected) << "in the space";
    EXPECT_EQ(run(alone), expected) << "alone";
}

TEST_F(Isolation, ContinueSessionZeroWrongHmac) {
    a.ok(createPrimary());
    const auto run = [](Client& client) {
        Session session = Session::start(client);
        const Bytes key = client.ok(createPrimary(TPM2_RH_OWNER, eccStorage(), "secret"));
        const auto use = [&](const char* auth, uint8_t attributes) {
            return rc(session.authorize(client, create(handle(key)), auth, {primaryName(key)},
                                        attributes));
        };
        return Codes{use("wrong", 0), use("secret", TPMA_SESSION_CONTINUESESSION), use("secret", 0),
                     use("secret", 0)};
    };
    expectCodes(b, alone, run, {0x9A2, 0, 0, 0x918});
}

TEST_F(Isolation, ContinueSessionZeroObjectMemory) {
    const auto run = [](Client& client) {
        for (int i = 0; i < 3; i++) client.ok(createPrimary());
        const TPM2_HANDLE session = handle(client.ok(startAuthSession()));
        const Command command = with(createPrimary(), session, 0);
        Codes codes{rc(client.send(command))};
        client.ok(flushContext(kFirst));
        codes.push_back(rc(client.send(command)));
        codes.push_back(rc(client.send(command)));
        return codes;
    };
    EXPECT_EQ(run(b), swapping() ? (Codes{0, 0x918, 0x918}) : (Codes{0x902, 0, 0x918}));
    EXPECT_EQ(run(alone), (Codes{0x902, 0, 0x918}));
}

TEST_F(Isolation, ContinueSessionZeroAuthUnavailable) {
    a.ok(createPrimary());
    const auto run = [](Client& client) {
        const Bytes area = policyOnly(hmacKey(), Bytes(32, 1));
        const TPM2_HANDLE key = handle(client.ok(createPrimary(TPM2_RH_OWNER, area)));
        const TPM2_HANDLE session = handle(client.ok(startAuthSession()));
        return Codes{rc(client.send(with(hmac(key, "data"), session, 0))),
                     rc(client.send(with(createPrimary(), session, 0))),
                     rc(client.send(with(createPrimary(), session, 0)))};
    };
    expectCodes(b, alone, run, {0x12F, 0, 0x918});
}

TEST_F(Isolation, Pw) {
    a.ok(startAuthSession());
    for (uint8_t attributes : {uint8_t{0}, uint8_t{TPMA_SESSION_CONTINUESESSION}}) {
        const Command command = with(createPrimary(), TPM2_RS_PW, attributes);
        const Bytes ofB = b.ok(command), ofAlone = alone.ok(command);
        ASSERT_EQ(ofB.size(), ofAlone.size());
        // No nonce, continueSession set, no HMAC: whatever was asked.
        EXPECT_EQ(hex(Bytes(ofB.end() - 5, ofB.end())), "0000010000");
        EXPECT_EQ(hex(Bytes(ofAlone.end() - 5, ofAlone.end())), "0000010000");
        EXPECT_EQ(list(kHmac), "");
    }
    EXPECT_EQ(answer(createPrimary().password().password().password()), error(0xC95));
    EXPECT_EQ(answer(createPrimary().password()), error(0xA8B));
    EXPECT_EQ(answer(createPrimary().password().password()), error(0xA8B));
    EXPECT_EQ(answer(readPublic(kFirst).password()), error(0x98B));
    EXPECT_EQ(answer(readPublic(kThird).password()), error(0x910));
    EXPECT_EQ(list(kFirst), hex(kFirst) + " " + hex(kSecond));
}

// ---- Closing

TEST_F(Isolation, CloseFlushes) {
    const TPM2_HANDLE ofB = handle(b.ok(startAuthSession()));
    a.ok(createPrimary());
    a.ok(createPrimary(TPM2_RH_NULL));
    a.ok(hashSequenceStart());
    a.ok(startAuthSession());
    a.ok(startAuthSession(TPM2_SE_POLICY));
    if (!capped()) {
        ASSERT_EQ(residue(sim),
                  "transient 0x80000000, transient 0x80000001, transient 0x80000002, "
                  "loaded session 0x2000000, loaded session 0x2000001, loaded session 0x3000002");
    }
    a.close();
    if (!capped()) {
        EXPECT_EQ(residue(sim), "loaded session " + hex(ofB));
    }
    EXPECT_EQ(handles(b, kHmac), Handles{ofB});
    b.ok(with(createPrimary(), ofB));
}

TEST_F(Isolation, CloseKeepsClientSaved) {
    for (TPM2_SE type : {TPM2_SE_HMAC, TPM2_SE_POLICY}) {
        Client c = Client::space(sim);
        const TPM2_HANDLE session = handle(c.ok(startAuthSession(type)));
        const Bytes saved = context(c.ok(contextSave(session)));
        c.close();
        ASSERT_EQ(residue(sim), "saved session 0x2000000");

        ASSERT_EQ(handle(alone.ok(startAuthSession(type))), session);
        const Bytes savedAlone = context(alone.ok(contextSave(session)));
        EXPECT_EQ(handle(alone.ok(contextLoad(savedAlone))), session);
        EXPECT_EQ(handle(b.ok(contextLoad(saved))), session);
        EXPECT_EQ(list(kHmac), hex(session));
        EXPECT_EQ(answer(contextLoad(saved), contextLoad(savedAlone)), error(0x1CB));
        if (type == TPM2_SE_HMAC) {
            bothOk(with(createPrimary(), session));
            bothOk(flushContext(kFirst));
        } else {
            bothOk(policyCommandCode(session, TPM2_CC_Unseal));
        }
        bothOk(flushContext(session));
        EXPECT_EQ(answer(contextLoad(saved), contextLoad(savedAlone)), error(0x1CB));
    }
}

TEST_F(Isolation, CloseKeepsWhatAnotherLoaded) {
    const TPM2_HANDLE session = handle(a.ok(startAuthSession()));
    const Bytes saved = context(a.ok(contextSave(session)));
    b.ok(contextLoad(saved));  // it moves from A to B
    EXPECT_EQ(rc(a.send(flushContext(session))), 0x1CBu);
    a.close();
    b.ok(with(createPrimary(), session));
}

TEST_F(Isolation, FinalizeWithoutReceive) {
    const Command commands[] = {startAuthSession(), startAuthSession(TPM2_SE_POLICY),
                                createPrimary(), hashSequenceStart()};
    for (const Command& command : commands) {
        for (bool sizeQuery : {false, true}) {
            Client client = Client::space(sim);
            ASSERT_EQ(client.transmit(command), TSS2_RC_SUCCESS);
            size_t size = 0;
            if (sizeQuery) {
                ASSERT_EQ(client.receiveSize(size), TSS2_RC_SUCCESS);
                ASSERT_EQ(rc(b.send(getRandom())), 0u);
            }
            client.close();
            EXPECT_EQ(residue(sim), "") << "after " << hex(command.code());
        }
    }
}

// The session belongs to whoever holds its context, and nobody ever will.
TEST_F(Isolation, FinalizeWithoutReceiveOfASave) {
    const TPM2_HANDLE session = handle(a.ok(startAuthSession()));
    ASSERT_EQ(a.transmit(contextSave(session)), TSS2_RC_SUCCESS);
    a.close();
    EXPECT_EQ(residue(sim), "");
}

TEST_F(Isolation, FinalizeWithoutReceiveOfAFlush) {
    const TPM2_HANDLE session = handle(a.ok(startAuthSession()));
    ASSERT_EQ(a.transmit(flushContext(session)), TSS2_RC_SUCCESS);
    size_t size = 0;
    ASSERT_EQ(a.receiveSize(size), TSS2_RC_SUCCESS);
    ASSERT_EQ(handle(b.ok(startAuthSession())), session);
    a.close();
    EXPECT_EQ(handles(b, kHmac), Handles{session});
    b.ok(with(createPrimary(), session));
}

TEST_F(Isolation, SizeQuery) {
    a.ok(createPrimary());
    const auto make = [this](const Command& command) {
        EXPECT_EQ(b.transmit(command), TSS2_RC_SUCCESS);
        size_t size = 0, again = 0, small = 10;
        EXPECT_EQ(b.receiveSize(size), TSS2_RC_SUCCESS);
        EXPECT_EQ(b.receiveSize(again), TSS2_RC_SUCCESS);
        EXPECT_EQ(again, size);
        uint8_t header[10];
        EXPECT_EQ(Tss2_Tcti_Receive(b.context(), &small, header, TSS2_TCTI_TIMEOUT_BLOCK),
                  TSS2_TCTI_RC_INSUFFICIENT_BUFFER);
        Bytes response;
        EXPECT_EQ(b.receive(response), TSS2_RC_SUCCESS);
        EXPECT_EQ(response.size(), size);
        EXPECT_EQ(rc(response), 0u);
        return handle(response);
    };
    EXPECT_EQ(make(createPrimary()), kFirst);
    EXPECT_EQ(handles(b, kFirst), Handles{kFirst});
    EXPECT_EQ(make(createPrimary()), kSecond);
    EXPECT_EQ(handles(b, kFirst), (Handles{kFirst, kSecond}));
    const TPM2_HANDLE session = make(startAuthSession());
    EXPECT_EQ(handles(b, kHmac), Handles{session});
    if (!capped()) {
        EXPECT_EQ(residue(sim),
                  "transient 0x80000000, transient 0x80000001, transient 0x80000002, "
                  "loaded session " +
                      hex(session));
    }
}

// ---- GetCapability(HANDLES)

TEST_F(Isolation, GetCapabilityTransient) {
    a.ok(createPrimary());
    bothOk(createPrimary());
    a.ok(createPrimary());
    EXPECT_EQ(list(kFirst), "0x80000000");
    EXPECT_EQ(list(kFirst, 1), "0x80000000");
    EXPECT_EQ(list(kFirst, 0), "...");
    EXPECT_EQ(list(kFirst, 0xFFFFFFFF), "0x80000000");
    EXPECT_EQ(list(kSecond), "");
    EXPECT_EQ(list(kSecond, 0), "");
    EXPECT_EQ(list(0x80FFFFFF), "");
    EXPECT_EQ(answer(getCapability(TPM2_CAP_HANDLES, 0x04000000, 1)), error(0x2CB));
    EXPECT_EQ(answer(getCapability(TPM2_CAP_HANDLES, 0xFF000000, 1)), error(0x2CB));

    a.ok(flushContext(kFirst));
    bothOk(createPrimary());
    EXPECT_EQ(list(kFirst), "0x80000000 0x80000001");
    EXPECT_EQ(list(kFirst, 1), "0x80000000...");
    EXPECT_EQ(list(kSecond, 1), "0x80000001");
    bothOk(flushContext(kFirst));
    EXPECT_EQ(list(kFirst), "0x80000001");
}

TEST_F(Isolation, GetCapabilityLoadedSessions) {
    EXPECT_EQ(list(kHmac), "");
    a.ok(startAuthSession());
    const TPM2_HANDLE session = bothStart();
    a.ok(startAuthSession(TPM2_SE_POLICY));
    ASSERT_EQ(session, 0x02000001u);
    EXPECT_EQ(list(kHmac), "0x2000001");
    EXPECT_EQ(list(kHmac, 1), "0x2000001");
    EXPECT_EQ(list(kHmac, 0), "...");
    EXPECT_EQ(list(session, 1), "0x2000001");
    EXPECT_EQ(list(session + 1, 1), "");
    EXPECT_EQ(list(session + 1, 0), "");
    EXPECT_EQ(list(kSaved), "");
}

TEST_F(Isolation, GetCapabilitySavedSessions) {
    Handles ofA;
    const auto save = [&] {
        ofA.push_back(handle(a.ok(startAuthSession())));
        a.ok(contextSave(ofA.back()));
    };
    save();
    const TPM2_HANDLE session = bothStart();
    bothOk(contextSave(session));
    save();
    save();
    ASSERT_EQ(session, 0x02000001u);
    EXPECT_EQ(list(kSaved), "0x2000001");
    EXPECT_EQ(list(kSaved, 1), "0x2000001");
    EXPECT_EQ(list(kSaved, 0), "...");
    EXPECT_EQ(list(kSaved + 1, 1), "0x2000001");
    EXPECT_EQ(list(kSaved + 2, 1), "");
    EXPECT_EQ(list(kHmac), "");
    EXPECT_EQ(handles(a, kSaved), ofA);
    for (TPM2_HANDLE each : ofA) a.ok(flushContext(each));
    bothOk(flushContext(session));
    EXPECT_EQ(list(kSaved), "");
}

TEST_F(Isolation, LoadedListOrder) {
    a.ok(startAuthSession());
    const TPM2_HANDLE policy = bothStart(TPM2_SE_POLICY), hmac = bothStart();
    ASSERT_EQ(policy, 0x03000001u);
    ASSERT_EQ(hmac, 0x02000002u);
    // By index, whatever the type; and a saved policy session has an HMAC session's number.
    EXPECT_EQ(list(kHmac), "0x3000001 0x2000002");
    EXPECT_EQ(list(kHmac, 1), "0x3000001...");
    EXPECT_EQ(list(hmac), "0x2000002");
    bothOk(contextSave(policy));
    EXPECT_EQ(list(kHmac), "0x2000002");
    EXPECT_EQ(list(kSaved), "0x2000001");
    bothOk(contextSave(hmac));
    EXPECT_EQ(list(kHmac), "");
    EXPECT_EQ(list(kSaved), "0x2000001 0x2000002");
    EXPECT_EQ(list(kSaved, 1), "0x2000001...");
    bothOk(flushContext(policy));
    bothOk(flushContext(hmac));
}

// ---- Sequences

TEST_F(Isolation, SequenceComplete) {
    a.ok(createPrimary());
    bothOk(hashSequenceStart("auth"));
    bothOk(sequenceUpdate(kFirst, "ab", "auth"));
    EXPECT_EQ(answer(sequenceComplete(kFirst, "c", "wrong")), error(0x9A2));
    EXPECT_EQ(list(kFirst), hex(kFirst));
    const Command complete = sequenceComplete(kFirst, "c", "auth");
    EXPECT_EQ(parameters(b.ok(complete)).tpm2b(), sha256(bytes("abc")));
    EXPECT_EQ(parameters(alone.ok(complete)).tpm2b(), sha256(bytes("abc")));
    EXPECT_EQ(list(kFirst), "");
    EXPECT_EQ(answer(complete), error(0x910));
    EXPECT_EQ(answer(sequenceUpdate(kFirst, "d", "auth")), error(0x910));
    a.ok(readPublic(kFirst));
}

TEST_F(Isolation, EventSequenceComplete) {
    a.ok(createPrimary());
    bothOk(hashSequenceStart("", TPM2_ALG_NULL));
    bothOk(hashSequenceStart());
    EXPECT_EQ(answer(eventSequenceComplete(kPcr, kSecond)), error(0x289));
    EXPECT_EQ(list(kFirst), "0x80000000 0x80000001");
    const Command complete = sequenceComplete(kSecond, "hash");
    EXPECT_EQ(parameters(b.ok(complete)).tpm2b(), sha256(bytes("hash")));
    EXPECT_EQ(parameters(alone.ok(complete)).tpm2b(), sha256(bytes("hash")));
    bothOk(eventSequenceComplete(kPcr, kFirst, "event"));
    EXPECT_EQ(list(kFirst), "");
    EXPECT_EQ(answer(eventSequenceComplete(kPcr, kFirst, "event")), error(0x911));
    EXPECT_EQ(hex(b.ok(pcrRead(kPcr))), hex(alone.ok(pcrRead(kPcr))));
    a.ok(readPublic(kFirst));
}

// ---- Slots are shared by nature: a space without swapping is out of them as soon as the TPM is,
// one with swapping never is.  It is answered what a client alone is that has none of A's objects.

/** Takes all three slots, or as many as there still are. */
void fill(Client& client, int objects = 3) {
    for (int i = 0; i < objects; i++) client.ok(createPrimary());
}

/** What A's objects leave B of the TPM's slots decides what the client alone has to have. */
void fillAs(Client& alone, int ofA, int ofB) { fill(alone, swapping() ? ofB : ofA + ofB); }

/** The answer to a command that needs a slot when the TPM has none. */
std::string full() { return swapping() ? "success" : error(0x902); }

TEST_F(Isolation, ObjectMemory) {
    fill(a);
    fillAs(alone, 3, 0);
    for (const Command& command : {createPrimary(), hashSequenceStart(), loadExternalEcc()}) {
        const size_t mark = sim.commandCount();
        EXPECT_EQ(answer(command), full());
        if (!swapping()) {
            EXPECT_EQ(sim.commandCodes(mark), std::vector<TPM2_CC>{command.code()}) << "sent once";
        }
    }
    EXPECT_EQ(handles(b, kFirst), handles(alone, swapping() ? kFirst : kThird + 1));
    EXPECT_EQ(handles(a, kFirst), (Handles{kFirst, kSecond, kThird}));
}

TEST_F(Isolation, ObjectMemoryForScratchSpace) {
    fill(a, 2);
    fill(b, 1);
    fillAs(alone, 2, 1);
    const size_t mark = sim.commandCount();
    EXPECT_EQ(answer(create(kFirst)), full());  // it returns no handle but needs a slot
    if (!swapping()) {
        EXPECT_EQ(sim.commandCodes(mark), std::vector<TPM2_CC>{TPM2_CC_Create}) << "sent once";
        alone.ok(flushContext(kThird));
    }
    a.ok(flushContext(kFirst));
    EXPECT_EQ(answer(create(kFirst)), "success");
}

TEST_F(Isolation, ObjectMemoryThenTheSameBytes) {
    fill(a);
    // A session key, so the HMAC is one.  The nonces do not roll when a command fails.
    Session session = Session::start(b, {.bind = TPM2_RH_OWNER});
    const size_t mark = sim.commandCount();
    EXPECT_EQ(rc(session.authorize(b, createPrimary(TPM2_RH_NULL))), unlessSwapping(0x902));
    const Bytes command = lastOf(sim.commands(mark), TPM2_CC_CreatePrimary);
    if (!swapping()) {
        EXPECT_EQ(rc(b.send(command)), 0x902u);
        a.ok(flushContext(kFirst));
        EXPECT_EQ(rc(b.send(command)), 0u);
        EXPECT_EQ(sim.commandCount(), mark + 4);
    }
    EXPECT_EQ(handles(b, kFirst), Handles{kFirst});
    EXPECT_EQ(rc(b.send(flushContext(kFirst))), 0u);
    EXPECT_EQ(rc(b.send(command)), 0x9A2u);  // now they have
}

TEST_F(Isolation, PersistentUnderPressure) {
    bothOk(createPrimary());
    bothOk(evictControl(kFirst, kPersistent));
    bothOk(flushContext(kFirst));
    EXPECT_EQ(answer(readPublic(kPersistent)), "success");
    EXPECT_EQ(answer(readPublic(kUndefined)), error(0x18B));

    fill(a);
    fillAs(alone, 3, 0);
    EXPECT_EQ(answer(readPublic(kPersistent)), full());
    EXPECT_EQ(answer(readPublic(kUndefined)), error(swapping() ? 0x18B : 0x902));

    a.ok(flushContext(kFirst));
    if (!swapping()) alone.ok(flushContext(kFirst));
    EXPECT_EQ(answer(readPublic(kPersistent)), "success");
    EXPECT_EQ(answer(readPublic(kUndefined)), error(0x18B));

    // Objects of its own fill a TPM up as well, but one that swaps.
    a.ok(flushContext(kSecond));
    a.ok(flushContext(kThird));
    fill(b);
    fillAs(alone, 1, 0);
    EXPECT_EQ(answer(readPublic(kPersistent)), full());
    EXPECT_EQ(answer(readPublic(kUndefined)), error(swapping() ? 0x18B : 0x902));
}

}  // namespace
}  // namespace spaces::test
