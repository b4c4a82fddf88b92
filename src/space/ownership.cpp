// SPDX-License-Identifier: BSD-2-Clause
// Keeping the record; see ownership.h. Both tables are sorted vectors: small, and what has been
// reserved before a command needs no memory after it.
#include "space/ownership.h"

#include <algorithm>

#include "wire/handle.h"

namespace spaces::space {
namespace {

template <class T>
void reserveOneMore(std::vector<T>& entries) {
    if (entries.size() == entries.capacity())
        entries.reserve(std::max<size_t>(8, entries.size() * 2));
}

constexpr auto kByIndex = [](const Session& session, uint32_t index) {
    return wire::indexOf(session.handle) < index;
};

}  // namespace

std::vector<Ownership::Entry>::iterator Ownership::lowerObject(TPM2_HANDLE physical) {
    return std::lower_bound(
        objects_.begin(), objects_.end(), physical,
        [](const Entry& entry, TPM2_HANDLE handle) { return entry.physical < handle; });
}

std::vector<Ownership::Entry>::const_iterator Ownership::lowerObject(TPM2_HANDLE physical) const {
    return const_cast<Ownership*>(this)->lowerObject(physical);
}

std::vector<Session>::iterator Ownership::lowerSession(TPM2_HANDLE handle) {
    return std::lower_bound(sessions_.begin(), sessions_.end(), wire::indexOf(handle), kByIndex);
}

Session* Ownership::sessionAt(TPM2_HANDLE handle) {
    if (!wire::isSession(handle)) return nullptr;
    const auto at = lowerSession(handle);
    if (at == sessions_.end() || wire::indexOf(at->handle) != wire::indexOf(handle)) return nullptr;
    return &*at;
}

const Session* Ownership::sessionAt(TPM2_HANDLE handle) const {
    return const_cast<Ownership*>(this)->sessionAt(handle);
}

void Ownership::reserveObject(Holding& owner) {
    owner.reserve();
    reserveOneMore(objects_);
}

TPM2_HANDLE Ownership::adoptObject(Holding& owner, TPM2_HANDLE physical, TPM2_HANDLE hierarchy,
                                   size_t skip) {
    expel(physical);
    const auto at = objects_.insert(lowerObject(physical), Entry{});
    *at = Entry{physical, &owner, owner.add({physical, hierarchy}, skip)};
    return at->handle;
}

bool Ownership::expel(TPM2_HANDLE physical) {
    if (!isOurs(physical)) return false;
    if (wire::isSession(physical)) {
        removeSession(physical);
    } else {
        const Entry entry = *lowerObject(physical);
        removeObject(*entry.owner, entry.handle);
    }
    return true;
}

void Ownership::removeObject(Holding& owner, TPM2_HANDLE handle) {
    const Object* object = owner.find(handle);
    if (object == nullptr) return;
    objects_.erase(lowerObject(object->physical));
    owner.remove(handle);
}

void Ownership::reserveSession() { reserveOneMore(sessions_); }

void Ownership::adoptSession(const Holding& owner, TPM2_HANDLE handle) {
    Session* session = sessionAt(handle);
    if (session == nullptr) session = &*sessions_.insert(lowerSession(handle), Session{});
    *session = Session{handle, &owner};
    // An index that the TPM gave out is in range; a wild one from a broken TPM is not believed.
    constexpr uint32_t kMostSessions = 0x10000;
    const uint32_t index = wire::indexOf(handle);
    if (index < kMostSessions) sessionSlots = std::max(sessionSlots, index + 1);
}

void Ownership::removeSession(TPM2_HANDLE handle) {
    if (sessionAt(handle) != nullptr) sessions_.erase(lowerSession(handle));
}

void Ownership::markSaved(TPM2_HANDLE handle) {
    if (Session* session = sessionAt(handle)) {
        session->saved = true;
        session->suspect = false;
    }
}

void Ownership::markUnsure(TPM2_HANDLE handle, bool unsure) {
    if (Session* session = sessionAt(handle)) session->unsure = unsure;
}

void Ownership::missSession(TPM2_HANDLE handle) {
    const Session* session = sessionAt(handle);
    if (session != nullptr && session->unsure)
        markSaved(handle);
    else
        removeSession(handle);
}

const Session* Ownership::findSession(const Holding& owner, TPM2_HANDLE handle) const {
    const Session* session = sessionAt(handle);
    return session != nullptr && session->owner == &owner ? session : nullptr;
}

size_t Ownership::countSessions(const Holding& owner, bool withSaved) const {
    return static_cast<size_t>(
        std::count_if(sessions_.begin(), sessions_.end(), [&](const Session& session) {
            return session.owner == &owner && (withSaved || !session.saved);
        }));
}

template <class Condition>
void Ownership::removeObjectsIf(Condition condition) {
    std::erase_if(objects_, [&](const Entry& entry) {
        if (!condition(entry)) return false;
        entry.owner->remove(entry.handle);
        return true;
    });
}

size_t Ownership::countLoadedSessions() const {
    return static_cast<size_t>(std::count_if(sessions_.begin(), sessions_.end(),
                                             [](const Session& each) { return !each.saved; }));
}

bool Ownership::isOurs(TPM2_HANDLE physical) const {
    if (wire::isSession(physical)) return sessionAt(physical) != nullptr;
    const auto at = lowerObject(physical);
    return at != objects_.end() && at->physical == physical;
}

void Ownership::traceSlots() const {
    if (trace_ != nullptr) trace_->setSlots(countObjects(), countLoadedSessions());
}

void Ownership::forget(Holding& owner) {
    removeObjectsIf([&](const Entry& entry) { return entry.owner == &owner; });
    std::erase_if(sessions_, [&](const Session& session) { return session.owner == &owner; });
}

void Ownership::hierarchyFlushed(TPM2_HANDLE hierarchy) {
    if (hierarchy == 0) return;  // none that has objects
    const auto hierarchyOf = [](const Entry& entry) {
        return entry.owner->find(entry.handle)->hierarchy;
    };
    removeObjectsIf([&](const Entry& entry) { return hierarchyOf(entry) == hierarchy; });
    for (Entry& entry : objects_) entry.suspect |= hierarchyOf(entry) == 0;
    anySuspect_ = true;
}

void Ownership::tpmRestarted(bool contextsVoid) {
    removeObjectsIf([](const Entry&) { return true; });
    std::erase_if(sessions_, [&](const Session& s) { return contextsVoid || !s.saved; });
}

void Ownership::suspectEverything() {
    for (Entry& entry : objects_) entry.suspect = true;
    for (Session& session : sessions_) session.suspect = !session.saved;
    anySuspect_ = true;
}

TPM2_HANDLE Ownership::nextSuspect() {
    if (!anySuspect_) return 0;
    for (const Entry& entry : objects_)
        if (entry.suspect) return entry.physical;
    for (const Session& session : sessions_)
        if (session.suspect) return session.handle;
    anySuspect_ = false;
    return 0;
}

void Ownership::resolveSuspect(TPM2_HANDLE physical, bool alive) {
    if (wire::isSession(physical)) {
        if (!alive) return missSession(physical);
        if (Session* session = sessionAt(physical);
            session != nullptr && session->handle == physical)
            session->suspect = false;
        return;
    }
    const auto at = lowerObject(physical);
    if (at == objects_.end() || at->physical != physical) return;
    if (!alive) return removeObject(*at->owner, at->handle);
    at->suspect = false;
}

void Ownership::enterEpoch(unsigned epoch) {
    if (epoch == epoch_) return;
    epoch_ = epoch;
    tpmRestarted(false);
}

std::optional<wire::CommandAttributes> Ownership::findLearned(TPM2_CC code) const {
    for (const Learned& learned : learned_)
        if (learned.code == code) return learned.attributes;
    return std::nullopt;
}

void Ownership::learn(TPM2_CC code, wire::CommandAttributes attributes) {
    learned_.push_back({code, attributes});
}

}  // namespace spaces::space
