// SPDX-License-Identifier: BSD-2-Clause
// Unit test of wire/command_table.
// Always holds: the list here is written out command by command, as GetCapability(TPM_CAP_COMMANDS)
// of the reference TPM gives it, and not in the order or the form of the table under test.
#include "wire/command_table.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <sstream>
#include <string>

namespace spaces::wire {
namespace {

/// CODE:HANDLES in hexadecimal; r: the response has a handle, f: a handle is flushed.
constexpr const char* kReferenceTpm =
    "11f:2 120:2 121:1 122:2 124:1 125:1 126:1 127:1 128:1 129:1 12a:1 12b:1 12c:1 12d:1 12e:1 "
    "130:1 131:1r 132:1 133:2 134:2 135:2 136:2 137:2 138:2 139:1 13a:1 13b:1 13c:1 13d:1 13e:1f "
    "13f:1 140:1 142:0 143:0 144:0 145:0 146:0 147:2 148:2 149:3 14a:2 14b:2 14c:2 14d:3 14e:2 "
    "14f:2 150:2 151:2 152:2 153:1 154:1 155:1 156:1 157:1r 158:1 159:1 15b:1r 15c:1 15d:1 15e:1 "
    "160:2 161:0r 162:1 163:1 164:1 165:0 167:0r 168:1 169:1 16a:1 16b:1 16c:1 16d:1 16e:1 16f:1 "
    "170:1 171:1 172:1 173:1 174:1 176:2r 177:1 178:0 17a:0 17b:0 17c:0 17d:0 17e:0 17f:1 180:1 "
    "181:0 182:1 183:1 184:3 185:2f 186:0r 187:1 188:1 189:1 18a:0 18b:1 18c:1 18d:1 18e:0 18f:1 "
    "190:1 191:1r 192:3 193:1 197:2";

/// Commands of the specification, version 1.83, that the reference TPM of 2021 does not have.
constexpr const char* kOthers =
    "12f:2 141:0 179:0 194:1 195:3 196:1 198:1 199:1 19a:1 19b:1 19c:1 19d:1 19e:1 19f:1 1a0:1 "
    "1a1:1";

std::map<TPM2_CC, CommandAttributes> read(const std::string& list) {
    std::map<TPM2_CC, CommandAttributes> result;
    std::istringstream words(list);
    for (std::string word; words >> word;) {
        CommandAttributes attributes;
        attributes.handles = static_cast<uint8_t>(word[4] - '0');
        attributes.responseHandle = word.ends_with('r');
        // What is flushed is the sequence, which stands last: behind the PCR if there is one.
        if (word.ends_with('f'))
            attributes.flushedHandle = static_cast<uint8_t>(attributes.handles - 1);
        result[static_cast<TPM2_CC>(std::strtoul(word.c_str(), nullptr, 16))] = attributes;
    }
    return result;
}

std::string text(const CommandAttributes& a) {
    return std::to_string(a.handles) + " handles, response handle " +
           std::to_string(a.responseHandle) + ", flushes " + std::to_string(a.flushedHandle);
}

TEST(CommandTable, IsTheSpecificationsOneAndNothingElse) {
    auto expected = read(kReferenceTpm);
    ASSERT_EQ(expected.size(), 110u);
    expected.merge(read(kOthers));
    ASSERT_EQ(expected.size(), 126u);
    for (TPM2_CC code = 0; code < 0x1000; ++code) {
        const auto found = findCommand(code);
        ASSERT_EQ(found.has_value(), expected.contains(code)) << std::hex << code;
        if (!found) continue;
        EXPECT_EQ(text(*found), text(expected.at(code))) << std::hex << code;
    }
}

TEST(CommandTable, KnowsNoOtherCodes) {
    for (const TPM2_CC code : {0x00000000u, 0x20000000u, 0x2000011Fu, 0x20000131u, 0x80000131u,
                               0x00010131u, 0xFFFFFFFFu, 0x0000011Eu, 0x000001A2u})
        EXPECT_FALSE(findCommand(code).has_value()) << std::hex << code;
}

TEST(CommandTable, NamesACommandAsTheSpecificationDoes) {
    EXPECT_STREQ(nameOf(TPM2_CC_NV_UndefineSpaceSpecial), "NV_UndefineSpaceSpecial");
    EXPECT_STREQ(nameOf(TPM2_CC_CreatePrimary), "CreatePrimary");
    EXPECT_STREQ(nameOf(TPM2_CC_Vendor_TCG_Test), "unknown command");
    EXPECT_STREQ(nameOf(0x11E), "unknown command");
    EXPECT_STREQ(nameOf(0), "unknown command");
}

TEST(CommandAttributes, ComeFromATpmsOwn) {
    const auto make = [](TPMA_CC handles, TPMA_CC more) {
        return attributesFrom(handles << 25 | more | TPMA_CC_V | 0x1234);
    };
    EXPECT_TRUE(make(0, 0) == CommandAttributes{});
    EXPECT_TRUE(make(2, 0) == CommandAttributes{2});
    EXPECT_TRUE(make(3, TPMA_CC_RHANDLE) == (CommandAttributes{3, true}));
    EXPECT_TRUE(make(1, TPMA_CC_FLUSHED) == (CommandAttributes{1, false, 0}));
    EXPECT_TRUE(make(1, TPMA_CC_NV | TPMA_CC_EXTENSIVE) == CommandAttributes{1});
    EXPECT_TRUE(make(7, 0) == CommandAttributes{7}) << "as many as there can be";
    EXPECT_TRUE(make(2, TPMA_CC_FLUSHED) == CommandAttributes{2}) << "which one is not told";
}

}  // namespace
}  // namespace spaces::wire
