// SPDX-License-Identifier: BSD-2-Clause
// Unit test of space/creation.
// Always holds: the space under test has objects of two hierarchies, so that a mix-up shows.
#include "space/creation.h"

#include <gtest/gtest.h>

#include "unit/packets.h"
#include "wire/command_table.h"

namespace spaces::test {
namespace {

constexpr TPM2_HANDLE kOfOwner = 0x80000000, kOfPlatform = 0x80000001;

TPM2_HANDLE hierarchyOf(Packet packet) {
    space::Holding holding;
    holding.add({0x80000105, TPM2_RH_OWNER});
    holding.add({0x80000106, TPM2_RH_PLATFORM});
    Bytes octets = packet;
    const wire::Command command(octets);
    return space::hierarchyOfNew(command, wire::findCommand(command.code())->handles, holding);
}

Packet loadExternal(size_t sizeOfPrivate, TPM2_HANDLE hierarchy) {
    return command(TPM2_CC_LoadExternal)
        .tpm2b(Bytes(sizeOfPrivate))
        .tpm2b(Bytes(90))
        .u32(hierarchy);
}

TEST(Creation, OfAPrimaryIsInItsHierarchy) {
    for (const TPM2_HANDLE hierarchy :
         {TPM2_RH_OWNER, TPM2_RH_ENDORSEMENT, TPM2_RH_PLATFORM, TPM2_RH_NULL})
        EXPECT_EQ(hierarchyOf(createPrimary(hierarchy)), hierarchy);
    EXPECT_EQ(hierarchyOf(createPrimary(0x40020003)), TPM2_RH_ENDORSEMENT) << "limited by SVN";
    EXPECT_EQ(hierarchyOf(createPrimary(TPM2_RH_OWNER).code(TPM2_CC_CreateLoaded)), TPM2_RH_OWNER);
}

TEST(Creation, OfAChildIsInItsParentsHierarchy) {
    EXPECT_EQ(hierarchyOf(load(kOfPlatform)), TPM2_RH_PLATFORM);
    EXPECT_EQ(hierarchyOf(load(kOfOwner)), TPM2_RH_OWNER);
    EXPECT_EQ(hierarchyOf(load(kOfPlatform).code(TPM2_CC_CreateLoaded)), TPM2_RH_PLATFORM);
    EXPECT_EQ(hierarchyOf(load(0x81000001)), 0u) << "a persistent parent does not tell";
    EXPECT_EQ(hierarchyOf(load(0x80000002)), 0u) << "no such parent";
    EXPECT_EQ(hierarchyOf(load(kOfOwner).cut(13)), 0u) << "cut in the handle";
}

TEST(Creation, OfAnExternalObjectIsWhereItSays) {
    EXPECT_EQ(hierarchyOf(loadExternal(0, TPM2_RH_OWNER)), TPM2_RH_OWNER);
    EXPECT_EQ(hierarchyOf(loadExternal(60, TPM2_RH_NULL)), TPM2_RH_NULL);
    EXPECT_EQ(hierarchyOf(loadExternal(60, 0x81000000)), 0u);
    const Packet decrypting = command(TPM2_CC_LoadExternal)
                                  .auth({{TPM2_HMAC_SESSION_FIRST, TPMA_SESSION_DECRYPT}})
                                  .tpm2b(Bytes(60, 0x55))
                                  .tpm2b(Bytes(90))
                                  .u32(TPM2_RH_PLATFORM);
    EXPECT_EQ(hierarchyOf(decrypting), TPM2_RH_PLATFORM) << "sizes stay in clear";
}

TEST(Creation, OfAnExternalObjectThatIsCutTellsNothing) {
    const Packet whole = loadExternal(4, TPM2_RH_OWNER);
    for (size_t length = 10; length < whole.length(); ++length)
        EXPECT_EQ(hierarchyOf(Packet(whole).cut(length)), 0u) << length;
}

TEST(Creation, OfALoadedContextIsWhereItWas) {
    EXPECT_EQ(hierarchyOf(contextLoad(0x80000000, TPM2_RH_ENDORSEMENT)), TPM2_RH_ENDORSEMENT);
    EXPECT_EQ(hierarchyOf(contextLoad(0x80000000, 0x40010009)), TPM2_RH_OWNER);
    EXPECT_EQ(hierarchyOf(contextLoad(0x80000000, TPM2_RH_OWNER).cut(25)), 0u);
}

TEST(Creation, OfASequenceIsInTheNullHierarchy) {
    EXPECT_EQ(hierarchyOf(command(TPM2_CC_HashSequenceStart).tpm2b().u16(11)), TPM2_RH_NULL);
    EXPECT_EQ(hierarchyOf(load(kOfOwner).code(TPM2_CC_HMAC_Start)), TPM2_RH_NULL);
}

TEST(Creation, ByAnyOtherCommandIsNone) {
    EXPECT_EQ(hierarchyOf(load(kOfOwner).code(TPM2_CC_Create)), 0u);
    EXPECT_EQ(hierarchyOf(startAuthSession(kOfOwner)), 0u);
}

}  // namespace
}  // namespace spaces::test
