// SPDX-License-Identifier: BSD-2-Clause
// A client of the library with swapping on; see swapping_space.h.
#include "bench/swapping_space.h"

#include <algorithm>
#include <stdexcept>
#include <string>

#include "tss2/tss2_tcti_spaces.h"
#include "wire/bytes.h"
#include "wire/command.h"

namespace spaces::bench {
namespace {

using test::Packet;

Packet command(TPM2_CC code) { return {TPM2_ST_NO_SESSIONS, code}; }

Packet commandToMake(Kind kind, const Owned* parent) {
    switch (kind) {
        case Kind::Session:
            return command(TPM2_CC_StartAuthSession)
                .handle(TPM2_RH_NULL)
                .handle(TPM2_RH_NULL)
                .tpm2b(test::Bytes(16))
                .tpm2b()
                .u8(TPM2_SE_POLICY)
                .u16(TPM2_ALG_NULL)
                .u16(TPM2_ALG_SHA256);
        case Kind::Sequence:
            return command(TPM2_CC_HashSequenceStart).tpm2b().u16(TPM2_ALG_SHA256);
        case Kind::Object:
            break;
    }
    if (parent == nullptr)
        return command(TPM2_CC_LoadExternal).tpm2b().tpm2b(test::Bytes(60)).u32(TPM2_RH_NULL);
    return command(TPM2_CC_Load)
        .handle(parent->handle)
        .auth({test::password()})
        .tpm2b(test::Bytes(100))
        .tpm2b(test::Bytes(60));
}

Packet commandToUse(const Owned& owned, const Owned* second) {
    if (second != nullptr)
        return command(TPM2_CC_Certify)
            .handle(owned.handle)
            .handle(second->handle)
            .auth({test::password(), test::password()})
            .tpm2b()
            .u16(TPM2_ALG_NULL);
    if (owned.kind == Kind::Session) return command(TPM2_CC_PolicyRestart).handle(owned.handle);
    Packet packet = command(owned.kind == Kind::Sequence ? TPM2_CC_SequenceUpdate : TPM2_CC_HMAC);
    packet.handle(owned.handle).auth({test::password()}).tpm2b(test::Bytes(20));
    if (owned.kind == Kind::Object) packet.u16(TPM2_ALG_NULL);
    return packet;
}

void check(const char* what, TSS2_RC rc) {
    if (rc != TSS2_RC_SUCCESS)
        throw std::runtime_error(std::string(what) + " answered " + std::to_string(rc));
}

unsigned spacesOf(const Trace& trace) {
    unsigned highest = 0;
    for (const Item& item : trace.items) highest = std::max(highest, item.space);
    return highest + 1;
}

void play(const Trace& trace, std::vector<std::unique_ptr<SwappingSpace>>& spaces) {
    std::vector<Owned> owned(trace.items.size());
    for (const Step& step : trace.steps) {
        SwappingSpace& space = *spaces[trace.items[step.item].space];
        const Owned* second = step.second == kNone ? nullptr : &owned[step.second];
        switch (step.act) {
            case Act::Create:
                owned[step.item] = space.make(trace.items[step.item].kind, second);
                break;
            case Act::Use:
                space.use(owned[step.item], second);
                break;
            case Act::Flush:
                space.flush(owned[step.item]);
                break;
        }
    }
}

}  // namespace

SwappingSpace::SwappingSpace(ModelTpm& tpm) : tpm_(tpm), response_(TPM2_MAX_RESPONSE_SIZE) {
    size_t size = 0;
    check("Init", Tss2_Tcti_Spaces_Init(nullptr, &size, nullptr));
    memory_ = std::make_unique<uint8_t[]>(size);
    check("Init", Tss2_Tcti_Spaces_Init(reinterpret_cast<TSS2_TCTI_CONTEXT*>(memory_.get()), &size,
                                        "swap=on,model"));
}

SwappingSpace::~SwappingSpace() {
    Tss2_Tcti_Finalize(reinterpret_cast<TSS2_TCTI_CONTEXT*>(memory_.get()));
}

Owned SwappingSpace::make(Kind kind, const Owned* parent) {
    const uint32_t serial = tpm_.nextSerial();
    const uint8_t* response = send(commandToMake(kind, parent).all());
    return {kind, wire::get32(response + wire::kHeaderSize), serial, 0};
}

void SwappingSpace::use(Owned& owned, const Owned* second) {
    const test::Bytes command = commandToUse(owned, second).all();
    const uint8_t* response = send(command);
    if (owned.kind != Kind::Object) ++owned.changes;
    const bool authorized = wire::get16(command.data()) == TPM2_ST_SESSIONS;
    const uint8_t* used = response + wire::kHeaderSize + (authorized ? 6 : 2);
    if (wire::get32(used) != owned.serial) throw std::runtime_error("something else was used");
    if (wire::get32(used + 4) != owned.changes) throw std::runtime_error("changes were lost");
}

void SwappingSpace::flush(const Owned& owned) {
    send(command(TPM2_CC_FlushContext).u32(owned.handle).all());
}

/// The response stays until the next one.
const uint8_t* SwappingSpace::send(const test::Bytes& command) {
    exchange(command);
    check("the command", wire::get32(&response_[6]));
    return response_.data();
}

/// The way that ESAPI sends. Nothing but the library and the TPM works in here: swapping.sh counts
/// by this function's name.
[[gnu::noinline]] void SwappingSpace::exchange(const test::Bytes& command) {
    auto* tcti = reinterpret_cast<TSS2_TCTI_CONTEXT*>(memory_.get());
    size_t size = 0;
    check("transmit", Tss2_Tcti_Transmit(tcti, command.size(), command.data()));
    check("receive", Tss2_Tcti_Receive(tcti, &size, nullptr, TSS2_TCTI_TIMEOUT_BLOCK));
    check("receive", Tss2_Tcti_Receive(tcti, &size, response_.data(), TSS2_TCTI_TIMEOUT_BLOCK));
}

uint64_t replay(const Trace& trace) {
    ModelTpm tpm;
    std::vector<std::unique_ptr<SwappingSpace>> spaces;
    for (unsigned i = 0; i < spacesOf(trace); i++)
        spaces.push_back(std::make_unique<SwappingSpace>(tpm));
    const uint64_t before = tpm.commands();
    play(trace, spaces);
    return tpm.commands() - before;
}

}  // namespace spaces::bench
