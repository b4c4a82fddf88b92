/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Bad input.  Every command of the specification, cut short at every length, and random variations
 * of them, get the same answer from a space as from a private TPM: see twins.h.
 *
 * Random variations follow from a seed.  For a longer run, or to see a failure again:
 *
 *     SPACES_SEED=1 SPACES_ROUNDS=100000 test/integration/malformed.int --gtest_filter=*Varied
 */
#include <gtest/gtest.h>

#include <cstdlib>
#include <iostream>
#include <optional>
#include <random>

#include "twins.h"

namespace spaces::test {
namespace {

using Random = std::mt19937_64;
using Second = Layout::Second;

size_t below(Random& random, size_t limit) { return random() % limit; }
bool chance(Random& random, size_t oneIn) { return below(random, oneIn) == 0; }

template <class T>
const T& oneOf(Random& random, const std::vector<T>& choice) {
    return choice[below(random, choice.size())];
}

/** A number from the environment. */
uint64_t setting(const char* name, uint64_t otherwise) {
    const char* value = std::getenv(name);
    return value == nullptr || *value == '\0' ? otherwise : std::stoull(value);
}

// ---- Variations

TPM2_HANDLE anyHandle(Random& random) {
    static const std::vector<TPM2_HANDLE> objects = {
        0x80000000, 0x80000001, 0x80000002, 0x80000003, 0x80000004, 0x8000FFFF,
        0x80FFFFFE, 0x80FFFFFF, 0x81000001, 0x81000002, 0x81800000, 0x82000000};
    static const std::vector<TPM2_HANDLE> sessions = {0, 1,  2,  3,  4,        5,
                                                      6, 63, 64, 65, 0xFFFFFE, 0xFFFFFF};
    static const std::vector<TPM2_HANDLE> others = {TPM2_RH_OWNER,
                                                    TPM2_RH_NULL,
                                                    TPM2_RH_ENDORSEMENT,
                                                    TPM2_RH_PLATFORM,
                                                    TPM2_RH_LOCKOUT,
                                                    TPM2_RS_PW,
                                                    TPM2_RH_PLATFORM_NV,
                                                    TPM2_RH_UNASSIGNED,
                                                    0x40000010,
                                                    0x40000110,
                                                    0x40000140,
                                                    0x40010000,
                                                    0x01000001,
                                                    0x01000002,
                                                    0x01C00002,
                                                    0,
                                                    16,
                                                    23,
                                                    24,
                                                    0x90000000,
                                                    0xFFFFFFFF};
    switch (below(random, 8)) {
        case 0:
        case 1:
        case 2:
            return oneOf(random, objects);
        case 3:
        case 4:
            return TPM2_HMAC_SESSION_FIRST + oneOf(random, sessions);
        case 5:
            return TPM2_POLICY_SESSION_FIRST + oneOf(random, sessions);
        case 6:
            return oneOf(random, others);
        default:
            return static_cast<TPM2_HANDLE>(random());
    }
}

/** Mostly a session handle. */
TPM2_HANDLE anySession(Random& random) {
    static const std::vector<TPM2_HANDLE> sessions = {
        TPM2_RS_PW, kHmacSession, kPolicySession, kSavedSession, Twins::kNeighboursSession,
        0x02000005, 0x03000000,   0x02000002,     0x02000003};
    return chance(random, 4) ? anyHandle(random) : oneOf(random, sessions);
}

Command::Authorization anyAuthorization(Random& random) {
    static const std::vector<uint8_t> attributes = {0x00, 0x00, 0x01, 0x01, 0x81, 0x83, 0x85,
                                                    0x21, 0x41, 0x61, 0x80, 0x18, 0xFF};
    static const std::vector<size_t> lengths = {0, 0, 0, 0, 0, 0, 0, 0, 16, 20, 32, 64, 65};
    Command::Authorization entry{anySession(random), {}, oneOf(random, attributes), {}};
    entry.nonce.resize(oneOf(random, lengths));
    entry.hmac.resize(oneOf(random, lengths));
    return entry;
}

/** The same command with other handles, or with other authorizations. */
void varyHandles(Command& command, Random& random) {
    for (size_t at = 0; at < command.handles().size(); at++)
        if (chance(random, 2)) command.setHandle(at, anyHandle(random));
    if (command.code() != TPM2_CC_FlushContext) return;
    command.parameters().clear();
    command.u32(anyHandle(random));  // the one handle that is a parameter
}

void varyAuthorizations(Command& command, Random& random, bool sizeToo) {
    auto entries = command.authorizations();
    for (auto& entry : entries)
        if (chance(random, 2)) entry = anyAuthorization(random);
    if (chance(random, 3)) entries.push_back(anyAuthorization(random));
    if (chance(random, 8)) entries.push_back(anyAuthorization(random));
    if (!entries.empty() && chance(random, 6)) entries.pop_back();
    command.noAuth();
    for (const auto& entry : entries)
        command.session(entry.handle, entry.nonce, entry.attributes, entry.hmac);
    if (sizeToo && chance(random, 6)) {
        static const std::vector<uint32_t> sizes = {0, 8, 9, 10, 18, 27, 200, 0xFFFFFFFF};
        command.authSize(oneOf(random, sizes));
    }
}

void varyHeader(Command& command, Random& random) {
    static const std::vector<uint16_t> tags = {
        TPM2_ST_NO_SESSIONS, TPM2_ST_SESSIONS, TPM2_ST_RSP_COMMAND, 0, 0x1234, 0x8000, 0x8021};
    if (chance(random, 2)) {
        command.tag(oneOf(random, tags));
    } else {
        const auto code = static_cast<TPM2_CC>(0x118 + below(random, 0x98));
        command.code(chance(random, 8) ? code | 0x20000000 : code);
    }
}

/** Other bytes anywhere but in the tag and the size. */
void varyBytes(Bytes& command, Random& random) {
    constexpr size_t header = 10;
    const size_t at = header + below(random, command.size() - header + 1);
    const auto here = command.begin() + static_cast<std::ptrdiff_t>(at);
    switch (below(random, 5)) {
        case 0:
            command.erase(here, command.end());
            break;
        case 1: {
            const Bytes more(1 + below(random, 8), static_cast<uint8_t>(random()));
            command.insert(here, more.begin(), more.end());
            break;
        }
        case 2:
            if (here != command.end()) command.erase(here);
            break;
        case 3:
            if (here != command.end()) *here = static_cast<uint8_t>(random());
            break;
        default:
            // A size, a selector, an attribute: numbers at the edge.
            static const std::vector<uint8_t> edges = {0x00, 0x01, 0x7F, 0x80, 0xFF};
            for (auto byte = here; byte != command.end() && byte < here + 2; ++byte)
                *byte = oneOf(random, edges);
            break;
    }
}

/** `secret`: the command holds bytes that only one TPM accepts and that are random to any other.
 *  They must not be read as anything else, or the answer would be random too. */
Bytes varied(Command command, Random random, bool secret) {
    if (chance(random, 2)) varyHandles(command, random);
    if (chance(random, 2)) varyAuthorizations(command, random, !secret);
    if (!secret && chance(random, 12)) varyHeader(command, random);
    Bytes bytes = command;
    if (secret && chance(random, 3)) bytes.resize(10 + below(random, bytes.size() - 10));
    while (!secret && chance(random, 3)) varyBytes(bytes, random);
    Bytes size;
    append(size, bytes.size(), 4);
    std::copy(size.begin(), size.end(), bytes.begin() + 2);
    return bytes;
}

// ---- The tests

/** True for the codes that say that a command is not well-formed. */
bool saysMalformed(TPM2_RC code) {
    if ((code & TPM2_RC_FMT1) == 0) return code == TPM2_RC_COMMAND_SIZE || code == TPM2_RC_BAD_TAG;
    const TPM2_RC base = code & (TPM2_RC_FMT1 | 0x3F);
    return base == TPM2_RC_INSUFFICIENT || code == TPM2_RC_SIZE || base == TPM2_RC_RESERVED_BITS;
}

/** How many of all commands succeed on TPMs that are furnished like this. */
size_t sendEveryCommand(const Layout& layout) {
    Twins twins(layout);
    size_t succeeded = 0;
    for (size_t i = 0; i < twins.forSpace().size(); i++) {
        twins.furnish();
        const Command command = twins.forSpace()[i];
        EXPECT_TRUE(twins.compare(command, twins.forAlone()[i]));
        EXPECT_FALSE(saysMalformed(twins.aloneAnswered()))
            << hex(command) << " " << hex(twins.aloneAnswered());
        if (twins.aloneAnswered() == TPM2_RC_SUCCESS) succeeded++;
        twins.settle(command, true);
    }
    return succeeded;
}

TEST(Malformed, WellFormed) {
    const size_t half = everyCommand({}).size() / 2;
    EXPECT_GT(sendEveryCommand({.second = Second::key, .neighbourFirst = true}), half);
    EXPECT_GT(sendEveryCommand({.second = Second::sequence, .neighbourFirst = false}), half / 2);
}

TEST(Malformed, Truncated) {
    Twins twins({.second = Second::key, .policySession = true, .neighbourFirst = false});
    const size_t count = twins.forSpace().size();
    for (size_t i = 0; i < count; i++) {
        const size_t size = twins.forSpace()[i].build().size();
        for (size_t length = 10; length < size; length++) {
            Command toSpace = twins.forSpace()[i], toAlone = twins.forAlone()[i];
            ASSERT_TRUE(twins.compare(toSpace.truncate(length), toAlone.truncate(length)));
            twins.settle(toSpace, true);
        }
    }
    EXPECT_TRUE(twins.stillAlike());
}

// The largest command that a TPM takes, and larger ones; 0x1234 is no tag.
TEST(Malformed, TooLarge) {
    Twins twins({.second = Second::key, .policySession = true, .neighbourFirst = true});
    for (size_t size : {4095, 4096, 4097, 5000}) {
        for (Command command : {readPublic(kParent), readPublic(0x80000002), flushContext(kKey),
                                flushContext(0x80000002)}) {
            command.truncate(size);
            EXPECT_TRUE(twins.compare(command, command)) << size;
            command.tag(0x1234);
            EXPECT_TRUE(twins.compare(command, command)) << size;
        }
    }
    EXPECT_TRUE(twins.stillAlike());
}

TEST(Malformed, Varied) {
    const uint64_t seed = setting("SPACES_SEED", 2017);
    const uint64_t rounds = setting("SPACES_ROUNDS", 4000);
    constexpr uint64_t roundsInOneTpm = 500;
    std::cout << "SPACES_SEED=" << seed << " SPACES_ROUNDS=" << rounds << "\n";
    RecordProperty("seed", std::to_string(seed));

    std::optional<Twins> twins;
    for (uint64_t round = 0; round < rounds; round++) {
        SCOPED_TRACE("SPACES_SEED=" + std::to_string(seed) +
                     " SPACES_ROUNDS=" + std::to_string(round + 1));
        std::seed_seq mixed{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32),
                            static_cast<uint32_t>(round)};
        Random random(mixed);
        if (round % roundsInOneTpm == 0) {
            const Layout layout{
                .second = oneOf<Second>(random, {Second::nothing, Second::key, Second::sequence}),
                .policySession = chance(random, 2),
                .neighbourFirst = chance(random, 2)};
            if (twins) {
                ASSERT_TRUE(twins->stillAlike());
                twins->rebuild(layout);
            } else {
                twins.emplace(layout);
            }
        }
        const size_t which = below(random, twins->forSpace().size());
        const bool thoroughly = chance(random, 2);
        const Command &forSpace = twins->forSpace()[which], &forAlone = twins->forAlone()[which];
        const bool secret = forSpace.build() != forAlone.build();
        const Bytes toSpace = varied(forSpace, random, secret);
        const Bytes toAlone = varied(forAlone, random, secret);
        ASSERT_TRUE(twins->compare(toSpace, toAlone));
        twins->settle(toSpace, thoroughly);
        if (HasFailure()) FAIL() << "after " << hex(toSpace);
    }
    for (const auto& [reason, times] : twins->differences())
        std::cout << times << " times: " << reason << "\n";
}

}  // namespace
}  // namespace spaces::test
