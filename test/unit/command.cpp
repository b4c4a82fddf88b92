// SPDX-License-Identifier: BSD-2-Clause
// Unit test of wire/bytes and wire/command.
// Always holds: a command under test ends where its memory ends, so that a read behind it ends
// the program.
#include "wire/command.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <random>

#include "unit/packets.h"
#include "wire/response.h"

namespace spaces::test {
namespace {

/// Octets in front of a page that cannot be read.
class Guarded {
  public:
    explicit Guarded(const Bytes& content) : size_(content.size()) {
        page_ = static_cast<size_t>(sysconf(_SC_PAGESIZE));
        const int flags = MAP_PRIVATE | MAP_ANONYMOUS;
        void* memory = mmap(nullptr, 3 * page_, PROT_READ | PROT_WRITE, flags, -1, 0);
        if (memory == MAP_FAILED) throw std::bad_alloc();
        base_ = static_cast<uint8_t*>(memory);
        if (mprotect(base_ + 2 * page_, page_, PROT_NONE) != 0) throw std::bad_alloc();
        std::copy(content.begin(), content.end(), at());
    }
    ~Guarded() { munmap(base_, 3 * page_); }
    Guarded(const Guarded&) = delete;
    Guarded& operator=(const Guarded&) = delete;

    uint8_t* at() { return base_ + 2 * page_ - size_; }
    wire::Command command() { return wire::Command({at(), size_}); }
    Packet packet() { return Packet(Bytes(at(), at() + size_)); }

  private:
    uint8_t* base_ = nullptr;
    size_t page_ = 0;
    size_t size_;
};

constexpr TPM2_HANDLE kSession = TPM2_HMAC_SESSION_FIRST + 5;

TEST(Bytes, AreInTpmOrder) {
    uint8_t at[5] = {};
    wire::put16(at + 1, 0x8001);
    EXPECT_EQ(at[1], 0x80);
    EXPECT_EQ(at[2], 0x01);
    EXPECT_EQ(wire::get16(at + 1), 0x8001);
    wire::put32(at + 1, 0x81FFFE80);
    EXPECT_EQ(Bytes(at, at + 5), (Bytes{0, 0x81, 0xFF, 0xFE, 0x80}));
    EXPECT_EQ(wire::get32(at + 1), 0x81FFFE80u);
}

TEST(Command, ReadsItsHeader) {
    Guarded memory(Packet(TPM2_ST_SESSIONS, TPM2_CC_Quote).size(0x01020304));
    const wire::Command command = memory.command();
    EXPECT_EQ(command.size(), 10u);
    EXPECT_EQ(command.tag(), TPM2_ST_SESSIONS);
    EXPECT_EQ(command.headerSize(), 0x01020304u);
    EXPECT_EQ(command.code(), TPM2_CC_Quote);
    EXPECT_EQ(command.bytes().data(), memory.at());
}

TEST(Command, KnowsItsTag) {
    const auto with = [](TPM2_ST tag) { return Guarded(command(TPM2_CC_Quote).tag(tag)); };
    Guarded sessions = with(TPM2_ST_SESSIONS), none = with(TPM2_ST_NO_SESSIONS),
            response = with(TPM2_ST_RSP_COMMAND), wild = with(0x1234);
    EXPECT_TRUE(sessions.command().hasCommandTag());
    EXPECT_TRUE(sessions.command().hasSessions());
    EXPECT_TRUE(none.command().hasCommandTag());
    EXPECT_FALSE(none.command().hasSessions());
    EXPECT_FALSE(response.command().hasCommandTag());
    EXPECT_FALSE(wild.command().hasCommandTag());
}

TEST(Command, CountsHandlesThatAreWhole) {
    const Packet whole = certify(0x80000001, 0x80000002);
    const size_t expected[] = {0, 0, 0, 0, 1, 1, 1, 1, 2};
    for (size_t extra = 0; extra < std::size(expected); ++extra) {
        Guarded memory(Packet(whole).cut(10 + extra));
        EXPECT_EQ(memory.command().handlesPresent(2), expected[extra]) << extra;
        EXPECT_EQ(memory.command().handlesPresent(0), 0u);
    }
    Guarded memory(whole);
    EXPECT_EQ(memory.command().handlesPresent(2), 2u);  // no more than asked for
}

TEST(Command, ReadsAndReplacesHandles) {
    Guarded memory(Packet(certify(0x80000001, 0x80000002)).cut(18));
    wire::Command command = memory.command();
    EXPECT_EQ(command.handle(0), 0x80000001u);
    EXPECT_EQ(command.handle(1), 0x80000002u);
    command.setHandle(1, 0x81000005);
    EXPECT_EQ(memory.packet(), Packet(certify(0x80000001, 0x81000005)).cut(18));
}

TEST(Command, ReadsAuthorizations) {
    const std::vector<Auth> entries = {
        {kSession, 0, Bytes(16, 1), Bytes(32, 2)},
        password("secret"),
        {TPM2_POLICY_SESSION_FIRST, TPMA_SESSION_AUDIT | TPMA_SESSION_CONTINUESESSION, {}, {}},
    };
    Guarded memory(certify(1, 2).cut(18).auth(entries).u32(0xDDDDDDDD));
    wire::AuthorizationArea area = memory.command().authorizations(2);
    ASSERT_EQ(area.count, 3u);
    for (size_t i = 0; i < 3; ++i) {
        EXPECT_EQ(area.entries[i].handle, entries[i].session);
        EXPECT_EQ(wire::get32(area.entries[i].at), entries[i].session);
        EXPECT_EQ(area.entries[i].defect, TPM2_RC_SUCCESS);
    }
    EXPECT_FALSE(area.entries[0].continueSession);
    EXPECT_TRUE(area.entries[1].continueSession);
    EXPECT_TRUE(area.entries[2].continueSession);
}

TEST(Command, ReplacesASessionWhereItIs) {
    Guarded memory(unseal(0x80000000, {password(), {kSession}}).u8(9));
    wire::AuthorizationArea area = memory.command().authorizations(1);
    ASSERT_EQ(area.count, 2u);
    area.entries[1].setHandle(0x02FFFFFE);
    EXPECT_EQ(memory.packet(), unseal(0x80000000, {password(), {0x02FFFFFE}}).u8(9));
}

TEST(Command, ReadsNoMoreThanThreeAuthorizations) {
    const std::vector<Auth> four(4, password());
    Guarded memory(unseal(0x80000000, four));
    EXPECT_EQ(memory.command().authorizations(1).count, 3u);
}

/// A size that the TPM refuses as a whole: nothing is read.
TEST(Command, HasNoAuthorizationsWhenTheirSizeIsRefused) {
    const Packet good = unseal(0x80000000, {{kSession}});
    const auto count = [](const Packet& packet, size_t handles) {
        return Guarded(packet).command().authorizations(handles).count;
    };
    ASSERT_EQ(count(good, 1), 1u);
    EXPECT_EQ(count(Packet(good).tag(TPM2_ST_NO_SESSIONS), 1), 0u);
    EXPECT_EQ(count(Packet(good).putHandle(14, 8), 1), 0u) << "smaller than the smallest";
    EXPECT_EQ(count(Packet(good).putHandle(14, 10), 1), 0u) << "one more than there is";
    EXPECT_EQ(count(Packet(good).putHandle(14, 0xFFFFFFFF), 1), 0u);
    EXPECT_EQ(count(Packet(good).cut(17), 1), 0u) << "the size itself is cut";
    EXPECT_EQ(count(Packet(good).cut(14), 1), 0u);
    EXPECT_EQ(count(Packet(good).cut(12), 1), 0u) << "a handle is cut";
    EXPECT_EQ(count(Packet(good).cut(10), 3), 0u);
}

struct Malformed {
    const char* what;
    Bytes entry;  // after the session handle, and then it ends or five octets follow
    TPM2_RC defect;
};

class MalformedAuthorization : public testing::TestWithParam<Malformed> {};

TEST_P(MalformedAuthorization, HasTheCodeOfItsFirstMalformedField) {
    Bytes entry;
    append(entry, kSession, 4);
    append(entry, GetParam().entry);
    // A good one before it, so that the size of the area is acceptable.
    Packet packet = command(TPM2_CC_Unseal).handle(0x80000000).tag(TPM2_ST_SESSIONS);
    packet.u32(static_cast<uint32_t>(9 + entry.size()));
    packet.u32(TPM2_RS_PW).u16(0).u8(1).u16(0).raw(entry);
    Guarded memory(packet);
    const wire::AuthorizationArea area = memory.command().authorizations(1);
    ASSERT_EQ(area.count, 2u);
    EXPECT_EQ(area.entries[0].defect, TPM2_RC_SUCCESS);
    EXPECT_EQ(area.entries[1].handle, kSession);
    EXPECT_EQ(area.entries[1].defect, GetParam().defect);
}

Bytes octets(std::initializer_list<int> start, size_t more = 0) {
    Bytes result(start.begin(), start.end());
    result.resize(result.size() + more, 0xAA);
    return result;
}

INSTANTIATE_TEST_SUITE_P(
    Forms, MalformedAuthorization,
    testing::Values(Malformed{"NoNonce", {}, TPM2_RC_INSUFFICIENT},
                    Malformed{"HalfANonceSize", octets({0}), TPM2_RC_INSUFFICIENT},
                    Malformed{"NonceTooLarge", octets({0, 65}, 70), TPM2_RC_SIZE},
                    Malformed{"NonceTooLargeAndCut", octets({0xFF, 0xFF}), TPM2_RC_SIZE},
                    Malformed{"NonceCut", octets({0, 16}, 15), TPM2_RC_INSUFFICIENT},
                    Malformed{"NoAttributes", octets({0, 2, 7, 7}), TPM2_RC_INSUFFICIENT},
                    Malformed{"ReservedBit3", octets({0, 0, 0x09, 0, 0}), TPM2_RC_RESERVED_BITS},
                    Malformed{"ReservedBit4", octets({0, 0, 0x11, 0, 0}), TPM2_RC_RESERVED_BITS},
                    Malformed{"ReservedBitAndNoAuth", octets({0, 0, 0x18}), TPM2_RC_RESERVED_BITS},
                    Malformed{"NoAuth", octets({0, 0, 1}), TPM2_RC_INSUFFICIENT},
                    Malformed{"HalfAnAuthSize", octets({0, 0, 1, 0}), TPM2_RC_INSUFFICIENT},
                    Malformed{"AuthTooLarge", octets({0, 0, 1, 0, 65}, 65), TPM2_RC_SIZE},
                    Malformed{"AuthCut", octets({0, 0, 1, 0, 3}, 2), TPM2_RC_INSUFFICIENT}),
    [](const auto& info) { return info.param.what; });

TEST(Command, ReadsTheLargestNonceAndAuth) {
    Guarded memory(unseal(0x80000000, {{kSession, 0xE7, Bytes(64), Bytes(64)}}));
    const wire::AuthorizationArea area = memory.command().authorizations(1);
    ASSERT_EQ(area.count, 1u);
    EXPECT_EQ(area.entries[0].defect, TPM2_RC_SUCCESS);
    EXPECT_TRUE(area.entries[0].continueSession);
}

TEST(Command, ReadsNothingBehindAMalformedAuthorization) {
    Packet packet = unseal(0x80000000, {{kSession, 0x18}, {kSession}});
    EXPECT_EQ(Guarded(packet).command().authorizations(1).count, 1u);
}

TEST(Command, FindsItsParameters) {
    const auto found = [](const Packet& packet, size_t handles) {
        Guarded memory(packet);
        const wire::MutableBytes span = memory.command().parameters(handles);
        return Bytes(span.begin(), span.end());
    };
    const Bytes parameters = {1, 2, 3};
    const Packet plain = command(TPM2_CC_ReadPublic).handle(0x80000000).raw(parameters);
    EXPECT_EQ(found(plain, 1), parameters);
    EXPECT_EQ(found(Packet(plain).cut(14), 1), Bytes());
    EXPECT_EQ(found(Packet(plain).cut(12), 1), Bytes()) << "cut in the handle";
    EXPECT_EQ(found(Packet(plain).cut(14), 3), Bytes());

    const Packet authorized = unseal(0x80000000, {{kSession}}).raw(parameters);
    EXPECT_EQ(found(authorized, 1), parameters);
    EXPECT_EQ(found(Packet(authorized).cut(27), 1), Bytes());
    EXPECT_EQ(found(Packet(authorized).putHandle(14, 13), 1), Bytes()) << "size beyond the end";
    EXPECT_EQ(found(Packet(authorized).putHandle(14, 0xFFFFFFFF), 1), Bytes());
    EXPECT_EQ(found(Packet(authorized).putHandle(14, 12), 1), Bytes()) << "all authorisations";
    EXPECT_EQ(found(Packet(authorized).cut(16), 1), Bytes()) << "cut in the size";
}

TEST(Command, ParametersCanBeWritten) {
    Guarded memory(flushContext(0x80000000));
    wire::put32(memory.command().parameters(0).data(), 0x80000002);
    EXPECT_EQ(memory.packet(), flushContext(0x80000002));
}

bool within(wire::Bytes whole, wire::Bytes part) {
    return part.empty() || (part.data() >= whole.data() &&
                            part.data() + part.size() <= whole.data() + whole.size());
}

/// Whatever the octets say, nothing reaches outside; the page behind the command is the judge.
TEST(Command, StaysInsideWhateverTheOctetsSay) {
    std::mt19937 random(20170301);
    const auto below = [&random](uint32_t limit) { return random() % limit; };
    for (int round = 0; round < 20000; ++round) {
        Bytes octets(10 + below(80));
        // Small numbers make sizes that are nearly right.
        for (uint8_t& octet : octets) octet = static_cast<uint8_t>(below(4) ? below(12) : random());
        wire::put16(octets.data(), TPM2_ST_NO_SESSIONS + static_cast<uint16_t>(below(3)));
        Guarded memory(octets);
        wire::Command command = memory.command();
        for (size_t handles = 0; handles <= 3; ++handles) {
            const size_t present = command.handlesPresent(handles);
            ASSERT_LE(10 + 4 * present, octets.size());
            for (size_t i = 0; i < present; ++i) command.setHandle(i, command.handle(i));
            for (wire::Authorization& entry : command.authorizations(handles)) {
                ASSERT_TRUE(within(command.bytes(), {entry.at, 4}));
                entry.setHandle(entry.handle);
            }
            ASSERT_TRUE(within(command.bytes(), command.parameters(handles)));
        }
        ASSERT_EQ(memory.packet(), Packet(octets));
    }
}

TEST(Header, IsPut) {
    Bytes octets(12, 0xEE);
    wire::putHeader(octets.data(), TPM2_ST_SESSIONS, 0x1000, 0x20000001);
    EXPECT_EQ(octets, (Bytes{0x80, 2, 0, 0, 0x10, 0, 0x20, 0, 0, 1, 0xEE, 0xEE}));
}

}  // namespace
}  // namespace spaces::test
