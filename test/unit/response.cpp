// SPDX-License-Identifier: BSD-2-Clause
// Unit test of wire/response.
// Always holds: expected codes are written as numbers, as the specification's tables give them.
#include "wire/response.h"

#include <gtest/gtest.h>

#include "unit/packets.h"

namespace spaces::test {
namespace {

using wire::Response;

TEST(Response, IsWellFormedOrNot) {
    EXPECT_TRUE(Response::wellFormed(response().all()));
    EXPECT_TRUE(Response::wellFormed(response().tag(TPM2_ST_SESSIONS).u32(0).all()));
    EXPECT_TRUE(Response::wellFormed(response(0x1E).tag(TPM2_ST_RSP_COMMAND).all()));
    EXPECT_TRUE(Response::wellFormed(response().raw(Bytes(4086)).all()));

    EXPECT_FALSE(Response::wellFormed({}));
    EXPECT_FALSE(Response::wellFormed(response().cut(9).all())) << "no header";
    EXPECT_FALSE(Response::wellFormed(response().raw(Bytes(4087)).all())) << "too large";
    EXPECT_FALSE(Response::wellFormed(response().size(11).all())) << "size too large";
    EXPECT_FALSE(Response::wellFormed(response().u8(1).size(10).all())) << "size too small";
    EXPECT_FALSE(Response::wellFormed(response().tag(0x1234).all())) << "no such tag";
    EXPECT_FALSE(Response::wellFormed(response().tag(0x8003).all()));
    EXPECT_FALSE(Response::wellFormed(response().tag(0).all()));
}

TEST(Response, ReadsAndReplaces) {
    Bytes octets = response().handle(0x80000001).u8(7);
    Response read(octets);
    EXPECT_EQ(read.size(), 15u);
    EXPECT_EQ(read.tag(), TPM2_ST_NO_SESSIONS);
    EXPECT_TRUE(read.succeeded());
    ASSERT_TRUE(read.hasHandle());
    EXPECT_EQ(read.handle(), 0x80000001u);
    read.setHandle(0x80000009);
    EXPECT_EQ(Packet(octets), response().handle(0x80000009).u8(7));
    EXPECT_EQ(read.parameters().size(), 5u);
    EXPECT_EQ(read.parameters().data(), octets.data() + 10);
}

TEST(Response, HasAHandleOnlyWhenAllOfItIsThere) {
    Bytes octets = response(0x910).raw({1, 2, 3});
    EXPECT_FALSE(Response(octets).hasHandle());
    EXPECT_FALSE(Response(octets).succeeded());
    EXPECT_EQ(Response(octets).code(), 0x910u);
    octets.push_back(4);
    EXPECT_TRUE(Response(octets).hasHandle());
}

TEST(Response, OfACodeIsAHeaderAlone) {
    std::array<uint8_t, wire::kMaxResponseSize> buffer;
    buffer.fill(0xEE);
    ASSERT_EQ(wire::putCode(buffer, 0x1CB), 10u);
    EXPECT_EQ(Packet(Bytes(buffer.begin(), buffer.begin() + 10)), response(0x1CB));
    EXPECT_EQ(buffer[10], 0xEE);
}

TEST(FormatOne, CarriesAPosition) {
    EXPECT_EQ(wire::forHandle(TPM2_RC_VALUE, 0), 0x184u);
    EXPECT_EQ(wire::forHandle(TPM2_RC_INSUFFICIENT, 2), 0x39Au);
    EXPECT_EQ(wire::forParameter(TPM2_RC_HANDLE, 0), 0x1CBu);
    EXPECT_EQ(wire::forParameter(TPM2_RC_VALUE, 2), 0x3C4u);
    EXPECT_EQ(wire::forSession(TPM2_RC_VALUE, 0), 0x984u);
    EXPECT_EQ(wire::forSession(TPM2_RC_SIZE, 1), 0xA95u);
    EXPECT_EQ(wire::forSession(TPM2_RC_RESERVED_BITS, 2), 0xBA1u);
}

TEST(FormatOne, TellsWhatItIsAbout) {
    for (const TPM2_RC code : {0x184u, 0x29Au, 0x39Au, 0x18Bu, 0x285u, 0x784u})
        EXPECT_TRUE(wire::isHandleError(code)) << std::hex << code;
    // Parameters, sessions, no position, format zero, another layer.
    for (const TPM2_RC code : {0x1C4u, 0x1CBu, 0x984u, 0xA95u, 0x084u, 0x09Au, 0x910u, 0x918u,
                               0x902u, 0x100u, 0x143u, 0x000u, 0xB0184u})
        EXPECT_FALSE(wire::isHandleError(code)) << std::hex << code;
    EXPECT_EQ(wire::handleErrorPosition(0x184), 0u);
    EXPECT_EQ(wire::handleErrorPosition(0x39A), 2u);
    EXPECT_EQ(wire::formatOneBase(0x39A), TPM2_RC_INSUFFICIENT);
    EXPECT_EQ(wire::formatOneBase(0x284), TPM2_RC_VALUE);
}

TEST(Warnings, AreReferencesOrNot) {
    EXPECT_FALSE(wire::isReferenceHandle(0x90F));
    EXPECT_TRUE(wire::isReferenceHandle(0x910));
    EXPECT_TRUE(wire::isReferenceHandle(0x916));
    EXPECT_FALSE(wire::isReferenceHandle(0x917));
    EXPECT_FALSE(wire::isReferenceHandle(0x918));
    EXPECT_FALSE(wire::isReferenceSession(0x917));
    EXPECT_TRUE(wire::isReferenceSession(0x918));
    EXPECT_TRUE(wire::isReferenceSession(0x91E));
    EXPECT_FALSE(wire::isReferenceSession(0x91F));
    EXPECT_FALSE(wire::isReferenceSession(0x910));
}

}  // namespace
}  // namespace spaces::test
