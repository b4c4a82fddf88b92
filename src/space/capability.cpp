// SPDX-License-Identifier: BSD-2-Clause
// Handle lists and counting properties; see capability.h.
#include "space/capability.h"

#include <algorithm>

#include "wire/handle.h"

namespace spaces::space {
namespace {

constexpr size_t kEntriesAt = wire::kCapabilityEntriesAt;
constexpr uint32_t kMaxHandlesListed = 254;  // (MAX_CAP_BUFFER 1024 - 8) / 4

/// A page of a list of handles, written where the TPM's own was.
class Page {
  public:
    Page(wire::ResponseBuffer buffer, uint32_t limit)
        : buffer_(buffer), limit_(std::min(limit, kMaxHandlesListed)) {}

    void add(TPM2_HANDLE handle) {
        if (count_ == limit_) {
            more_ = true;
            return;
        }
        wire::put32(&buffer_[kEntriesAt + count_++ * wire::kHandleSize], handle);
    }

    bool full() const { return more_; }

    size_t finish() {
        buffer_[wire::kHeaderSize] = more_ ? 1 : 0;
        wire::put32(&buffer_[kEntriesAt - 4], count_);
        const size_t size = kEntriesAt + count_ * wire::kHandleSize;
        wire::putHeader(buffer_.data(), TPM2_ST_NO_SESSIONS, size, TPM2_RC_SUCCESS);
        return size;
    }

  private:
    wire::ResponseBuffer buffer_;
    uint32_t limit_;
    uint32_t count_ = 0;
    bool more_ = false;
};

void listObjects(Page& page, TPM2_HANDLE from, const Holding& holding) {
    for (TPM2_HANDLE at = holding.next(from); at != 0 && !page.full(); at = holding.next(at + 1))
        page.add(at);
}

/// Loaded sessions are listed with their own type, saved ones all as HMAC sessions, each kind by
/// index alone: as the reference TPM does.
void listSessions(Page& page, TPM2_HANDLE from, bool saved, const Holding& holding,
                  const Ownership& ownership) {
    for (const Session& session : ownership.sessions()) {
        const uint32_t index = wire::indexOf(session.handle);
        if (session.owner != &holding || session.saved != saved || index < wire::indexOf(from))
            continue;
        page.add(saved ? TPM2_HMAC_SESSION_FIRST + index : session.handle);
    }
}

/// A saved session that the TPM's own list passes over has gone without our knowing; or a layer
/// below has it loaded to renew its context.
void forgetUnlisted(TPM2_HANDLE from, const wire::CapabilityList& list, const Holding& holding,
                    Ownership& ownership, const tpm::Tpm& tpm) {
    const size_t listed = list.count();
    const auto indexAt = [&](size_t i) { return wire::indexOf(list.entry(i)); };
    const uint32_t end = list.more() ? (listed == 0 ? 0 : indexAt(listed - 1)) : wire::kIndexMask;
    for (size_t i = ownership.sessions().size(); i-- > 0;) {
        const Session& session = ownership.sessions()[i];
        const uint32_t index = wire::indexOf(session.handle);
        if (session.owner != &holding || !session.saved) continue;
        if (index < wire::indexOf(from) || index >= end) continue;
        bool there = tpm.isStranded(session.handle);
        for (size_t at = 0; at < listed && !there; ++at) there = indexAt(at) == index;
        if (!there) ownership.removeSession(session.handle);
    }
}

size_t rewriteHandles(const wire::CapabilityQuery& query, wire::ResponseBuffer buffer, size_t size,
                      const Holding& holding, Ownership& ownership, const tpm::Tpm& tpm) {
    if (wire::typeOf(query.property) == TPM2_ACTIVE_SESSION_FIRST)
        forgetUnlisted(query.property, wire::CapabilityList(buffer.first(size)), holding, ownership,
                       tpm);
    Page page(buffer, query.count);
    switch (wire::typeOf(query.property)) {
        case TPM2_TRANSIENT_FIRST:
            listObjects(page, query.property, holding);
            return page.finish();
        case TPM2_LOADED_SESSION_FIRST:
            listSessions(page, query.property, false, holding, ownership);
            return page.finish();
        case TPM2_ACTIVE_SESSION_FIRST:
            listSessions(page, query.property, true, holding, ownership);
            return page.finish();
        default:
            return size;
    }
}

/// What is available to one who uses `used` of `slots`, and can always have one more.
uint32_t available(uint32_t slots, size_t used) {
    return used < slots ? slots - static_cast<uint32_t>(used) : 1;
}

void rewriteProperties(wire::MutableBytes answer, const Holding& holding, Ownership& ownership,
                       bool makesRoom) {
    constexpr size_t kPropertySize = 8;
    for (size_t at = kEntriesAt; at + kPropertySize <= answer.size(); at += kPropertySize) {
        uint8_t* value = &answer[at + 4];
        switch (wire::get32(&answer[at])) {
            case TPM2_PT_HR_LOADED:
                wire::put32(value, static_cast<uint32_t>(ownership.countSessions(holding, false)));
                break;
            case TPM2_PT_HR_ACTIVE:
                wire::put32(value, static_cast<uint32_t>(ownership.countSessions(holding, true)));
                break;
            case TPM2_PT_HR_LOADED_AVAIL:
                if (makesRoom)
                    wire::put32(value, available(ownership.loadedSlots,
                                                 ownership.countSessions(holding, false)));
                break;
            case TPM2_PT_HR_TRANSIENT_AVAIL:
                if (makesRoom)
                    wire::put32(value, available(ownership.transientSlots, holding.count()));
                break;
            case TPM2_PT_HR_LOADED_MIN:
                ownership.loadedSlots = wire::get32(value);
                break;
            case TPM2_PT_HR_TRANSIENT_MIN:
                ownership.transientSlots = wire::get32(value);
                break;
            case TPM2_PT_ACTIVE_SESSIONS_MAX:
                ownership.sessionSlots = wire::get32(value);
                break;
            default:
                break;
        }
    }
}

}  // namespace

size_t rewriteCapability(const wire::CapabilityQuery& query, wire::ResponseBuffer buffer,
                         size_t size, const Holding& holding, Ownership& ownership,
                         const tpm::Tpm& tpm) {
    if (size < kEntriesAt) return size;
    if (query.capability == TPM2_CAP_HANDLES)
        return rewriteHandles(query, buffer, size, holding, ownership, tpm);
    if (query.capability == TPM2_CAP_TPM_PROPERTIES)
        rewriteProperties(buffer.first(size), holding, ownership, tpm.makesRoom());
    return size;
}

}  // namespace spaces::space
