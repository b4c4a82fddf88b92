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

/// What the TPM's own list says, as far as it goes.
class Listed {
  public:
    Listed(TPM2_HANDLE from, const wire::CapabilityList& list)
        : list_(list),
          begin_(wire::indexOf(from)),
          end_(!list.more()        ? wire::kIndexMask
               : list.count() == 0 ? 0
                                   : wire::indexOf(list.entry(list.count() - 1))) {}

    /// It would be there if the TPM had it.
    bool lacks(TPM2_HANDLE handle) const {
        const uint32_t index = wire::indexOf(handle);
        if (index < begin_ || index >= end_) return false;
        for (size_t i = 0; i < list_.count(); ++i)
            if (wire::indexOf(list_.entry(i)) == index) return false;
        return true;
    }

  private:
    const wire::CapabilityList& list_;
    uint32_t begin_, end_;
};

/// Saved sessions that have gone without our knowing; or a layer below has one loaded to renew its
/// context.
void forgetUnlisted(const Listed& listed, const Holding& holding, Ownership& ownership,
                    const tpm::Tpm& tpm) {
    for (size_t i = ownership.sessions().size(); i-- > 0;) {
        const Session& session = ownership.sessions()[i];
        if (session.owner == &holding && session.saved && listed.lacks(session.handle) &&
            !tpm.isStranded(session.handle))
            ownership.removeSession(session.handle);
    }
}

bool lacksLoaded(const Listed& listed, TPM2_HANDLE type, const Holding& holding,
                 const Ownership& ownership) {
    if (type == TPM2_TRANSIENT_FIRST) {
        for (TPM2_HANDLE at = holding.next(type); at != 0; at = holding.next(at + 1))
            if (listed.lacks(holding.find(at)->physical)) return true;
    } else if (type == TPM2_LOADED_SESSION_FIRST) {
        for (const Session& session : ownership.sessions())
            if (session.owner == &holding && !session.saved && listed.lacks(session.handle))
                return true;
    }
    return false;
}

/// Calls `visit` with each property and where its value is.
template <class Visit>
void forProperties(wire::MutableBytes answer, Visit visit) {
    constexpr size_t kPropertySize = 8;
    for (size_t at = kEntriesAt; at + kPropertySize <= answer.size(); at += kPropertySize)
        visit(wire::get32(&answer[at]), &answer[at + 4]);
}

bool countsTooFew(wire::MutableBytes answer, const Holding& holding, const Ownership& ownership) {
    bool tooFew = false;
    forProperties(answer, [&](TPM2_PT property, const uint8_t* value) {
        tooFew |= property == TPM2_PT_HR_LOADED &&
                  wire::get32(value) < ownership.countSessions(holding, false);
    });
    return tooFew;
}

size_t rewriteHandles(const wire::CapabilityQuery& query, wire::ResponseBuffer buffer, size_t size,
                      const Holding& holding, Ownership& ownership, const tpm::Tpm& tpm) {
    if (wire::typeOf(query.property) == TPM2_ACTIVE_SESSION_FIRST) {
        const wire::CapabilityList list(buffer.first(size));
        forgetUnlisted(Listed(query.property, list), holding, ownership, tpm);
    }
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

void rewriteProperty(TPM2_PT property, uint8_t* value, const Holding& holding, Ownership& ownership,
                     bool makesRoom) {
    const auto count = [&](bool withSaved) {
        return static_cast<uint32_t>(ownership.countSessions(holding, withSaved));
    };
    switch (property) {
        case TPM2_PT_HR_LOADED:
            wire::put32(value, count(false));
            break;
        case TPM2_PT_HR_ACTIVE:  // a space cannot have more than the TPM: some have gone unnoticed
            wire::put32(value, std::min(count(true), wire::get32(value)));
            break;
        case TPM2_PT_HR_LOADED_AVAIL:
            if (makesRoom) wire::put32(value, available(ownership.loadedSlots, count(false)));
            break;
        case TPM2_PT_HR_TRANSIENT_AVAIL:
            if (makesRoom) wire::put32(value, available(ownership.transientSlots, holding.count()));
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

}  // namespace

bool tellsOfLoss(const wire::CapabilityQuery& query, wire::MutableBytes answer,
                 const Holding& holding, const Ownership& ownership, const tpm::Tpm& tpm) {
    // Layers below have some of it out of the TPM, or load it for its commands alone.
    if (tpm.makesRoom() || tpm.noticesLoss() || answer.size() < kEntriesAt) return false;
    if (query.capability == TPM2_CAP_TPM_PROPERTIES)
        return countsTooFew(answer, holding, ownership);
    if (query.capability != TPM2_CAP_HANDLES) return false;
    const wire::CapabilityList list(answer);
    return lacksLoaded(Listed(query.property, list), wire::typeOf(query.property), holding,
                       ownership);
}

size_t rewriteCapability(const wire::CapabilityQuery& query, wire::ResponseBuffer buffer,
                         size_t size, const Holding& holding, Ownership& ownership,
                         const tpm::Tpm& tpm) {
    if (size < kEntriesAt) return size;
    if (query.capability == TPM2_CAP_HANDLES)
        return rewriteHandles(query, buffer, size, holding, ownership, tpm);
    if (query.capability == TPM2_CAP_TPM_PROPERTIES)
        forProperties(buffer.first(size), [&](TPM2_PT property, uint8_t* value) {
            rewriteProperty(property, value, holding, ownership, tpm.makesRoom());
        });
    return size;
}

}  // namespace spaces::space
