// SPDX-License-Identifier: BSD-2-Clause
// TPM commands and responses for tests over fakes, written field by field in wire order.
// Always holds: a packet's header gives its true size, unless size() said otherwise; a failed
// comparison prints hexadecimal.
//
//     command(TPM2_CC_Unseal).handle(0x80000000).auth({password()})
//     response().handle(0x80000001).tpm2b({1, 2, 3})
//     response(TPM2_RC_VALUE)
#pragma once

#include <tss2/tss2_tpm2_types.h>

#include <algorithm>
#include <cstdio>
#include <ostream>
#include <string>
#include <vector>

#include "support/bytes.h"

namespace spaces::test {
// Some of these are called as those of support/command.h, which a program may have as well.
inline namespace packets {

/// One entry of an authorisation area.
struct Auth {
    TPM2_HANDLE session;
    uint8_t attributes = TPMA_SESSION_CONTINUESESSION;
    Bytes nonce = {};
    Bytes hmac = {};
};

inline Auth password(const std::string& auth = "") {
    return {TPM2_RS_PW, TPMA_SESSION_CONTINUESESSION, {}, bytes(auth)};
}

class Packet {
  public:
    Packet(Bytes all) : bytes_(std::move(all)) {}
    Packet(TPM2_ST tag, uint32_t code) {
        append(bytes_, tag, 2);
        append(bytes_, 10, 4);
        append(bytes_, code, 4);
    }

    Packet& u8(uint8_t value) { return add(value, 1); }
    Packet& u16(uint16_t value) { return add(value, 2); }
    Packet& u32(uint32_t value) { return add(value, 4); }
    Packet& u64(uint64_t value) { return add(value, 8); }
    Packet& handle(TPM2_HANDLE value) { return u32(value); }
    Packet& raw(const Bytes& more) {
        append(bytes_, more);
        return size(bytes_.size());
    }
    Packet& tpm2b(const Bytes& buffer = {}) {
        appendTpm2b(bytes_, buffer);
        return size(bytes_.size());
    }

    /// The authorisation area, which makes the tag TPM_ST_SESSIONS.
    Packet& auth(const std::vector<Auth>& entries) {
        Bytes area;
        for (const Auth& entry : entries) {
            append(area, entry.session, 4);
            appendTpm2b(area, entry.nonce);
            append(area, entry.attributes, 1);
            appendTpm2b(area, entry.hmac);
        }
        return u32(static_cast<uint32_t>(area.size())).raw(area).tag(TPM2_ST_SESSIONS);
    }

    Packet& tag(TPM2_ST value) { return put(0, value, 2); }
    Packet& code(uint32_t value) { return put(6, value, 4); }
    /// A size that need not be true.
    Packet& size(size_t value) { return put(2, value, 4); }
    /// Writes over four octets that are there.
    Packet& putHandle(size_t offset, TPM2_HANDLE value) { return put(offset, value, 4); }
    Packet& cut(size_t length) {
        bytes_.resize(length);
        return size(length);
    }

    size_t length() const { return bytes_.size(); }
    const Bytes& all() const { return bytes_; }
    operator const Bytes&() const { return bytes_; }

    bool operator==(const Packet&) const = default;
    friend std::ostream& operator<<(std::ostream& out, const Packet& packet) {
        char octet[3];
        for (size_t i = 0; i < packet.length(); ++i) {
            snprintf(octet, sizeof(octet), "%02x", packet.bytes_[i]);
            out << (i == 2 || i == 6 || i == 10 ? " " : "") << octet;
        }
        return out;
    }

  private:
    Packet& add(uint64_t value, int width) {
        append(bytes_, value, width);
        return size(bytes_.size());
    }
    Packet& put(size_t at, uint64_t value, int width) {
        Bytes field;
        append(field, value, width);
        std::copy(field.begin(), field.end(), bytes_.begin() + static_cast<ptrdiff_t>(at));
        return *this;
    }

    Bytes bytes_;
};

inline Packet command(TPM2_CC code) { return {TPM2_ST_NO_SESSIONS, code}; }
inline Packet response(TPM2_RC code = TPM2_RC_SUCCESS) { return {TPM2_ST_NO_SESSIONS, code}; }

// ---- Commands that tests need again and again. What no layer reads is left out.

inline Packet getRandom() { return command(TPM2_CC_GetRandom).u16(8); }
inline Packet readPublic(TPM2_HANDLE object) { return command(TPM2_CC_ReadPublic).handle(object); }
inline Packet flushContext(TPM2_HANDLE what) { return command(TPM2_CC_FlushContext).handle(what); }
inline Packet contextSave(TPM2_HANDLE what) { return command(TPM2_CC_ContextSave).handle(what); }
inline Packet contextLoad(TPM2_HANDLE saved, TPM2_HANDLE hierarchy) {
    return command(TPM2_CC_ContextLoad).u64(7).u32(saved).u32(hierarchy).tpm2b(Bytes(40));
}
inline Packet createPrimary(TPM2_HANDLE hierarchy = TPM2_RH_OWNER, const Auth& by = password()) {
    return command(TPM2_CC_CreatePrimary).handle(hierarchy).auth({by}).tpm2b().tpm2b();
}
inline Packet load(TPM2_HANDLE parent) {
    return command(TPM2_CC_Load).handle(parent).auth({password()}).tpm2b().tpm2b();
}
inline Packet startAuthSession(TPM2_HANDLE key = TPM2_RH_NULL, TPM2_HANDLE bind = TPM2_RH_NULL) {
    return command(TPM2_CC_StartAuthSession).handle(key).handle(bind).tpm2b(Bytes(16));
}
inline Packet unseal(TPM2_HANDLE object, const std::vector<Auth>& by = {password()}) {
    return command(TPM2_CC_Unseal).handle(object).auth(by);
}
inline Packet certify(TPM2_HANDLE object, TPM2_HANDLE key) {
    return command(TPM2_CC_Certify).handle(object).handle(key).auth({password(), password()});
}
inline Packet getCapability(TPM2_CAP capability, uint32_t property, uint32_t count) {
    return command(TPM2_CC_GetCapability).u32(capability).u32(property).u32(count);
}
inline Packet startup(TPM2_SU type) { return command(TPM2_CC_Startup).u16(type); }
inline Packet shutdown(TPM2_SU type) { return command(TPM2_CC_Shutdown).u16(type); }
inline Packet clear() { return command(TPM2_CC_Clear).handle(TPM2_RH_LOCKOUT).auth({password()}); }
inline Packet hierarchyControl(TPM2_HANDLE hierarchy, bool on) {
    return command(TPM2_CC_HierarchyControl)
        .handle(TPM2_RH_PLATFORM)
        .auth({password()})
        .u32(hierarchy)
        .u8(on ? TPM2_YES : TPM2_NO);
}

/// The handle probe of a command: its header, tagged as if authorisations followed, and handles.
inline Packet probe(TPM2_CC code, const std::vector<TPM2_HANDLE>& handles = {}) {
    Packet packet(TPM2_ST_SESSIONS, code);
    for (const TPM2_HANDLE handle : handles) packet.handle(handle);
    return packet;
}

/// What a TPM answers to a probe whose handles it accepts.
inline Packet acceptable() { return response(TPM2_RC_INSUFFICIENT); }

/// The answer to GetCapability(TPM_CAP_HANDLES).
inline Packet handleList(const std::vector<TPM2_HANDLE>& handles, bool more = false) {
    Packet packet = response();
    packet.u8(more).u32(TPM2_CAP_HANDLES).u32(static_cast<uint32_t>(handles.size()));
    for (const TPM2_HANDLE handle : handles) packet.handle(handle);
    return packet;
}

/// The answer to GetCapability(TPM_CAP_TPM_PROPERTIES).
struct Property {
    uint32_t name;
    uint32_t value;
};
inline Packet propertyList(const std::vector<Property>& list, bool more = false) {
    Packet packet = response();
    packet.u8(more).u32(TPM2_CAP_TPM_PROPERTIES).u32(static_cast<uint32_t>(list.size()));
    for (const Property& property : list) packet.u32(property.name).u32(property.value);
    return packet;
}

}  // namespace packets
}  // namespace spaces::test
