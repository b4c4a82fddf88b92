// SPDX-License-Identifier: BSD-2-Clause
// Unit test of space/capability.
// Always holds: the record has another space's objects and sessions too, and none of them may
// show.
#include "space/capability.h"

#include <gtest/gtest.h>

#include "unit/packets.h"

namespace spaces::test {
namespace {

constexpr TPM2_HANDLE kObjects = 0x80000000, kLoaded = 0x02000000, kSaved = 0x03000000;
constexpr TPM2_HANDLE kHmac = 0x02000000, kPolicy = 0x03000000;

/// Of a TPM, only the questions are asked.
struct AskedTpm final : tpm::Tpm {
    explicit AskedTpm(bool room) : room(room) {}
    std::unique_ptr<tpm::Channel> open(tpm::User&) override { return nullptr; }
    bool isResourceManager() const override { return false; }
    bool makesRoom() const override { return room; }
    unsigned epoch() const override { return 0; }
    bool room;
};

class Capability : public testing::Test {
  protected:
    Capability() {
        for (uint32_t i = 0; i < 4; ++i) {
            object(own, 0x80000000 + 2 * i);
            object(foreign, 0x80000001 + 2 * i);
        }
        record.removeObject(own, kObjects + 2);
        for (const TPM2_HANDLE handle : {kPolicy + 1, kHmac + 2, kHmac + 5, kPolicy + 6})
            session(own, handle);
        for (const TPM2_HANDLE handle : {kHmac + 0, kPolicy + 3, kHmac + 4})
            session(foreign, handle);
        for (const TPM2_HANDLE handle : {kHmac + 4, kHmac + 5, kPolicy + 6})
            record.markSaved(handle);
    }

    void object(space::Holding& owner, TPM2_HANDLE physical) {
        record.reserveObject(owner);
        record.adoptObject(owner, physical, TPM2_RH_NULL);
    }
    void session(space::Holding& owner, TPM2_HANDLE handle) {
        record.reserveSession();
        record.adoptSession(owner, handle);
    }

    /// What the client gets for the query when the TPM answers this.
    Packet rewritten(const wire::CapabilityQuery& query, const Packet& answer,
                     bool makesRoom = false) {
        std::array<uint8_t, wire::kMaxResponseSize> buffer;
        buffer.fill(0xEE);
        std::copy(answer.all().begin(), answer.all().end(), buffer.begin());
        const size_t size = space::rewriteCapability(query, buffer, answer.length(), own, record,
                                                     AskedTpm(makesRoom));
        return Packet(Bytes(buffer.begin(), buffer.begin() + static_cast<ptrdiff_t>(size)));
    }
    Packet handles(uint32_t property, uint32_t count, const Packet& answer = handleList({})) {
        return rewritten({TPM2_CAP_HANDLES, property, count}, answer);
    }

    space::Ownership record;
    space::Holding own, foreign;
};

TEST_F(Capability, QueryIsRead) {
    Bytes parameters;
    for (const uint32_t value : {6u, 0x203u, 5u}) append(parameters, value, 4);
    const wire::CapabilityQuery query = wire::readCapabilityQuery(parameters);
    EXPECT_EQ(query.capability, 6u);
    EXPECT_EQ(query.property, 0x203u);
    EXPECT_EQ(query.count, 5u);
    parameters.pop_back();
    const wire::CapabilityQuery cut = wire::readCapabilityQuery(parameters);
    EXPECT_EQ(cut.capability + cut.property + cut.count, 0u);
}

TEST_F(Capability, ObjectsAreTheSpacesOwn) {
    EXPECT_EQ(handles(kObjects, 99, handleList({0x80000005, 0x80000006}, true)),
              handleList({kObjects, kObjects + 1, kObjects + 3}));
    EXPECT_EQ(handles(kObjects + 1, 99), handleList({kObjects + 1, kObjects + 3}));
    EXPECT_EQ(handles(kObjects + 4, 99), handleList({}));
    EXPECT_EQ(handles(0x80FFFFFF, 99, handleList({0x80FFFFFF})), handleList({}));
}

TEST_F(Capability, ObjectsComeInPages) {
    EXPECT_EQ(handles(kObjects, 3), handleList({kObjects, kObjects + 1, kObjects + 3}));
    EXPECT_EQ(handles(kObjects, 2), handleList({kObjects, kObjects + 1}, true));
    EXPECT_EQ(handles(kObjects + 2, 1), handleList({kObjects + 3}));
    EXPECT_EQ(handles(kObjects, 0), handleList({}, true));
    EXPECT_EQ(handles(kObjects + 4, 0), handleList({}, false));
}

TEST_F(Capability, PagesAreNoLargerThanATpms) {
    for (uint32_t i = 10; i < 10 + 300; ++i) object(own, 0x80000100 + i);
    const Packet page = handles(kObjects, 0xFFFFFFFF);
    EXPECT_EQ(page.length(), 19 + 4 * 254u);
    EXPECT_EQ(page.all()[10], 1) << "moreData";
    EXPECT_EQ(handles(kObjects + 302, 255), handleList({kObjects + 302}));
}

TEST_F(Capability, LoadedSessionsHaveTheirTypeAndGoByIndex) {
    EXPECT_EQ(handles(kLoaded, 99, handleList({kHmac})), handleList({kPolicy + 1, kHmac + 2}));
    EXPECT_EQ(handles(kLoaded, 1), handleList({kPolicy + 1}, true));
    EXPECT_EQ(handles(kLoaded + 2, 1), handleList({kHmac + 2}));
    EXPECT_EQ(handles(kLoaded + 3, 9), handleList({}));
    EXPECT_EQ(handles(kLoaded, 0), handleList({}, true));
}

TEST_F(Capability, SavedSessionsAreAllShownAsHmacSessions) {
    const Packet all = handleList({kHmac + 4, kHmac + 5, kHmac + 6});
    EXPECT_EQ(handles(kSaved, 99, all), handleList({kHmac + 5, kHmac + 6}));
    EXPECT_EQ(handles(kSaved, 1, handleList({kHmac + 4}, true)), handleList({kHmac + 5}, true));
    EXPECT_EQ(handles(kSaved + 6, 1, handleList({kHmac + 6})), handleList({kHmac + 6}));
    EXPECT_EQ(handles(kSaved, 0, handleList({}, true)), handleList({}, true));
}

/// The TPM lists saved sessions of all, so one that it passes over is gone.
TEST_F(Capability, ASavedSessionThatTheTpmDoesNotListIsForgotten) {
    EXPECT_EQ(handles(kSaved, 99, handleList({kHmac + 4, kHmac + 6})), handleList({kHmac + 6}));
    EXPECT_EQ(record.findSession(own, kHmac + 5), nullptr);
    EXPECT_NE(record.findSession(foreign, kHmac + 4), nullptr);
    EXPECT_EQ(handles(kSaved, 99, handleList({})), handleList({}));
    EXPECT_EQ(record.findSession(own, kPolicy + 6), nullptr);
    EXPECT_NE(record.findSession(foreign, kHmac + 4), nullptr) << "its own space will ask";
    EXPECT_NE(record.findSession(own, kPolicy + 1), nullptr) << "a loaded one is not in this list";
}

TEST_F(Capability, APageOfSavedSessionsTellsOfItsOwnRangeOnly) {
    handles(kSaved, 1, handleList({kHmac + 4}, true));  // up to 4
    handles(kSaved, 0, handleList({}, true));           // of nothing
    handles(kSaved + 7, 9, handleList({}));             // from 7
    EXPECT_NE(record.findSession(own, kHmac + 5), nullptr);
    EXPECT_NE(record.findSession(own, kPolicy + 6), nullptr);
    handles(kSaved + 6, 9, handleList({}));  // from 6
    EXPECT_NE(record.findSession(own, kHmac + 5), nullptr);
    EXPECT_EQ(record.findSession(own, kPolicy + 6), nullptr);
    handles(kSaved, 1, handleList({kHmac + 7}, true));  // up to 7
    EXPECT_EQ(record.findSession(own, kHmac + 5), nullptr);
}

TEST_F(Capability, OtherHandlesAreShared) {
    const Packet answer = handleList({0x81000001, 0x81000002}, true);
    for (const TPM2_HANDLE type : {0x00000000u, 0x01000000u, 0x40000000u, 0x81000000u})
        EXPECT_EQ(handles(type, 2, answer), answer) << std::hex << type;
}

TEST_F(Capability, PropertiesThatCountSessionsAreTheSpacesOwn) {
    const Packet answer = propertyList({{TPM2_PT_PERMANENT, 0x407},
                                        {TPM2_PT_HR_LOADED, 9},
                                        {TPM2_PT_HR_LOADED_AVAIL, 8},
                                        {TPM2_PT_HR_ACTIVE, 7},
                                        {TPM2_PT_HR_ACTIVE_AVAIL, 6},
                                        {TPM2_PT_HR_TRANSIENT_AVAIL, 5}},
                                       true);
    const Packet expected = propertyList({{TPM2_PT_PERMANENT, 0x407},
                                          {TPM2_PT_HR_LOADED, 2},
                                          {TPM2_PT_HR_LOADED_AVAIL, 8},
                                          {TPM2_PT_HR_ACTIVE, 4},
                                          {TPM2_PT_HR_ACTIVE_AVAIL, 6},
                                          {TPM2_PT_HR_TRANSIENT_AVAIL, 5}},
                                         true);
    EXPECT_EQ(rewritten({TPM2_CAP_TPM_PROPERTIES, TPM2_PT_PERMANENT, 9}, answer), expected);
}

TEST_F(Capability, WhatIsAvailableIsAsInATpmOfItsOwnWhereRoomIsMade) {
    const wire::CapabilityQuery query = {TPM2_CAP_TPM_PROPERTIES, TPM2_PT_HR_LOADED_AVAIL, 9};
    const Packet answer =
        propertyList({{TPM2_PT_HR_LOADED_AVAIL, 0}, {TPM2_PT_HR_TRANSIENT_AVAIL, 0}});
    EXPECT_EQ(rewritten(query, answer, true),
              propertyList({{TPM2_PT_HR_LOADED_AVAIL, 1}, {TPM2_PT_HR_TRANSIENT_AVAIL, 1}}))
        << "2 of 3 sessions; 3 of 3 objects, and still one more";
    rewritten(query, propertyList({{TPM2_PT_HR_LOADED_MIN, 8}, {TPM2_PT_HR_TRANSIENT_MIN, 9}}));
    EXPECT_EQ(rewritten(query, answer, true),
              propertyList({{TPM2_PT_HR_LOADED_AVAIL, 6}, {TPM2_PT_HR_TRANSIENT_AVAIL, 6}}));
    EXPECT_EQ(rewritten(query, answer), answer);
}

TEST_F(Capability, SlotsAreLearnedFromProperties) {
    const Packet answer =
        propertyList({{TPM2_PT_HR_TRANSIENT_MIN, 7}, {TPM2_PT_ACTIVE_SESSIONS_MAX, 128}});
    EXPECT_EQ(rewritten({TPM2_CAP_TPM_PROPERTIES, TPM2_PT_HR_TRANSIENT_MIN, 9}, answer), answer);
    EXPECT_EQ(record.transientSlots, 7u);
    EXPECT_EQ(record.sessionSlots, 128u);
}

TEST_F(Capability, OtherCapabilitiesAreShared) {
    const Packet answer = propertyList({{TPM2_PT_HR_LOADED, 9}});
    for (const TPM2_CAP capability : {TPM2_CAP_ALGS, TPM2_CAP_COMMANDS, TPM2_CAP_PCRS})
        EXPECT_EQ(rewritten({capability, kObjects, 9}, answer), answer);
}

/// A list that ends in the middle of an entry, or before it begins: whatever the TPM means by it.
TEST_F(Capability, AnAnswerThatIsCutIsLeftAlone) {
    const Packet whole = propertyList({{TPM2_PT_PERMANENT, 1}, {TPM2_PT_HR_LOADED, 9}});
    for (size_t length = 10; length < whole.length(); ++length) {
        const Packet cut = Packet(whole).cut(length);
        EXPECT_EQ(rewritten({TPM2_CAP_TPM_PROPERTIES, TPM2_PT_PERMANENT, 9}, cut), cut);
    }
    EXPECT_EQ(handles(kObjects, 9, handleList({}).cut(18)), handleList({}).cut(18));
}

}  // namespace
}  // namespace spaces::test
