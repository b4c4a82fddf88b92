// SPDX-License-Identifier: BSD-2-Clause
// Unit test of space/space: command codes that the table does not have.
// Always holds: the TPM is asked with a command that may end an exclusive audit session only after
// a probe, which cannot, has shown that the code exists.
#include "unit/space_test.h"

namespace spaces::test {
namespace {

constexpr TPM2_CC kVendor = 0x20000123;

class Code : public SpaceTest {
  protected:
    Code() {
        object(*b, kObject0);
        object(*a, kObject1);
    }

    static Packet question() { return getCapability(TPM2_CAP_COMMANDS, kVendor, 1); }

    static Packet attributes(TPM2_CC code, uint32_t handles, uint32_t more = 0) {
        return response()
            .u8(1)
            .u32(TPM2_CAP_COMMANDS)
            .u32(1)
            .u32((code & 0xFFFF) | (code & TPMA_CC_V) | handles << 25 | more);
    }

    void learn(uint32_t handles, uint32_t more = 0) {
        child.expect(probe(kVendor), acceptable());
        child.expect(question(), attributes(kVendor, handles, more));
    }
};

TEST_F(Code, ThatDoesNotExistCostsAProbe) {
    for (const TPM2_CC code : {0x20000123u, 0x123u, 0x999u, 0x80000131u}) {
        child.expect(probe(code), response(0x143));
        EXPECT_EQ(a->send(command(code).handle(kObject0)), response(0x143));
    }
    child.expect(probe(kVendor), response(0x143));
    EXPECT_EQ(a->send(command(kVendor).auth({password()})), response(0x143));
}

TEST_F(Code, ThatExistsIsLearnedOnce) {
    learn(1);
    child.expect(command(kVendor).handle(kObject1).u8(5), response().u8(6));
    EXPECT_EQ(a->send(command(kVendor).handle(kObject0).u8(5)), response().u8(6));
    // From now on all spaces know it.
    EXPECT_EQ(exchange(*b, command(kVendor).handle(kObject0), command(kVendor).handle(kObject0)),
              response());
    EXPECT_EQ(
        exchange(*a, command(kVendor).handle(kObject1), probe(kVendor, {kObject0}), acceptable()),
        response(0x910));
}

TEST_F(Code, WhoseHandlesTheTpmMissesExists) {
    child.expect(probe(kVendor), response(0x19A));
    child.expect(question(), attributes(kVendor, 2));
    child.expect(command(kVendor).handle(kObject1).handle(kPersistent), response());
    EXPECT_EQ(a->send(command(kVendor).handle(kObject0).handle(kPersistent)), response());
}

TEST_F(Code, ThatMakesAnObject) {
    learn(0, TPMA_CC_RHANDLE);
    child.expect(command(kVendor), response().handle(kObject2));
    EXPECT_EQ(a->send(command(kVendor)), response().handle(kObject1));
}

TEST_F(Code, ThatFlushesItsHandle) {
    learn(1, TPMA_CC_FLUSHED);
    child.expect(command(kVendor).handle(kObject1), response());
    EXPECT_EQ(a->send(command(kVendor).handle(kObject0)), response());
    EXPECT_FALSE(owns(*a, kObject0, kObject1));
}

TEST_F(Code, ThatTheTpmDoesNotListDoesNotExist) {
    child.expect(probe(kVendor), acceptable());
    child.expect(question(), attributes(kVendor + 1, 1));
    EXPECT_EQ(a->send(command(kVendor)), response(0x143));
    // The same number without the vendor bit is another command.
    child.expect(probe(kVendor), acceptable());
    child.expect(question(), attributes(kVendor & 0xFFFF, 1));
    EXPECT_EQ(a->send(command(kVendor)), response(0x143));
    child.expect(probe(kVendor), acceptable());
    child.expect(question(), response().u8(0).u32(TPM2_CAP_COMMANDS).u32(0));
    EXPECT_EQ(a->send(command(kVendor)), response(0x143));
}

TEST_F(Code, IsAskedForAgainAfterAFailure) {
    child.expect(probe(kVendor), acceptable());
    child.expect(question(), response(0x922));
    EXPECT_EQ(a->send(command(kVendor)), response(0x922));
    learn(0);
    child.expect(command(kVendor), response());
    EXPECT_EQ(a->send(command(kVendor)), response());
}

}  // namespace
}  // namespace spaces::test
