// SPDX-License-Identifier: BSD-2-Clause
// The tables of the swapping layer; see contents.h.
#include "swap/contents.h"

#include <algorithm>

#include "wire/handle.h"
#include "wire/response.h"

namespace spaces::swap {
namespace {

constexpr uint32_t kFirstGiven = 0x00100000;

constexpr TPM2_HANDLE givenAt(size_t index) {
    return TPM2_TRANSIENT_FIRST + kFirstGiven + static_cast<TPM2_HANDLE>(index);
}

constexpr size_t indexOf(TPM2_HANDLE given) { return wire::indexOf(given) - kFirstGiven; }

template <class T>
void reserveOneMore(std::vector<T>& entries, size_t needed) {
    if (entries.capacity() < needed) entries.reserve(std::max<size_t>(8, needed * 2));
}

}  // namespace

SavedContext::SavedContext(wire::Bytes bytes)
    : bytes_(std::make_unique_for_overwrite<uint8_t[]>(bytes.size())),
      size_(static_cast<uint32_t>(bytes.size())) {
    std::copy(bytes.begin(), bytes.end(), bytes_.get());
}

SavedContext SavedContext::withRoom() {
    SavedContext context;
    context.bytes_ = std::make_unique_for_overwrite<uint8_t[]>(wire::kMaxResponseSize);
    return context;
}

void SavedContext::assign(wire::Bytes bytes) {
    std::copy(bytes.begin(), bytes.end(), bytes_.get());
    size_ = static_cast<uint32_t>(bytes.size());
}

bool SavedContext::operator==(wire::Bytes other) const {
    return std::ranges::equal(bytes(), other);
}

// ---- Objects ------------------------------------------------------------------------------------

bool Contents::isGiven(TPM2_HANDLE handle) {
    return wire::isTransient(handle) && wire::indexOf(handle) >= kFirstGiven &&
           handle != wire::kPoisonTransient;
}

void Contents::reserveObject() {
    reserveOneMore(objects_, objects_.size() + 1);
    reserveOneMore(free_, objects_.size() + 1);
    reserveOneMore(residents_, objects_.size() + 1);  // a move must not need memory
}

TPM2_HANDLE Contents::addObject(TPM2_HANDLE physical, TPM2_HANDLE hierarchy) {
    size_t index = objects_.size();
    if (free_.empty()) {
        objects_.emplace_back();
    } else {
        index = free_.back();
        free_.pop_back();
    }
    Object& object = objects_[index];
    object = Object{};
    object.alive = true;
    object.hierarchy = hierarchy;
    becomeResident(givenAt(index), physical);
    return givenAt(index);
}

Object* Contents::findObject(TPM2_HANDLE given) {
    if (!isGiven(given) || indexOf(given) >= objects_.size()) return nullptr;
    Object& object = objects_[indexOf(given)];
    return object.alive ? &object : nullptr;
}

void Contents::removeObject(TPM2_HANDLE given) {
    std::erase(residents_, given);
    objects_[indexOf(given)] = Object{};
    free_.push_back(static_cast<uint32_t>(indexOf(given)));
}

void Contents::becomeResident(TPM2_HANDLE given, TPM2_HANDLE physical) {
    // The TPM gave this number out, so whatever we believed to be there is not.
    for (const TPM2_HANDLE other : residents_) {
        if (findObject(other)->physical != physical) continue;
        becomeAbsent(other);
        break;
    }
    findObject(given)->physical = physical;
    residents_.push_back(given);
}

void Contents::becomeAbsent(TPM2_HANDLE given) {
    Object& object = *findObject(given);
    if (!object.clean()) return removeObject(given);
    object.physical = 0;
    object.uncertain = false;
    std::erase(residents_, given);
}

TPM2_HANDLE Contents::unsettledObject() const {
    const auto at = std::find_if(residents_.begin(), residents_.end(),
                                 [&](TPM2_HANDLE given) { return findObject(given)->uncertain; });
    return at == residents_.end() ? 0 : *at;
}

bool Contents::isOurs(TPM2_HANDLE physical) const {
    if (wire::isSession(physical)) return findSession(physical) != nullptr;
    return std::any_of(residents_.begin(), residents_.end(),
                       [&](TPM2_HANDLE given) { return findObject(given)->physical == physical; });
}

void Contents::removeHierarchy(TPM2_HANDLE hierarchy) {
    if (hierarchy == 0) return;
    for (size_t index = 0; index < objects_.size(); ++index)
        if (objects_[index].alive && objects_[index].hierarchy == hierarchy)
            removeObject(givenAt(index));
}

void Contents::removeAllObjects() {
    for (size_t index = 0; index < objects_.size(); ++index)
        if (objects_[index].alive) removeObject(givenAt(index));
}

void Contents::loseResidents() {
    while (!residents_.empty()) becomeAbsent(residents_.back());
    removeLoadedSessions();
}

// ---- Sessions -----------------------------------------------------------------------------------

void Contents::reserveSession() { reserveOneMore(sessions_, sessions_.size() + 1); }

std::vector<Session>::iterator Contents::lowerSession(TPM2_HANDLE handle) {
    return std::lower_bound(sessions_.begin(), sessions_.end(), wire::indexOf(handle),
                            [](const Session& session, uint32_t index) {
                                return wire::indexOf(session.handle) < index;
                            });
}

Session& Contents::addSession(TPM2_HANDLE handle) {
    removeSession(handle);
    Session& session = *sessions_.emplace(lowerSession(handle));
    session.handle = handle;
    return session;
}

void Contents::removeSession(TPM2_HANDLE handle) {
    const auto at = lowerSession(handle);
    if (at != sessions_.end() && wire::indexOf(at->handle) == wire::indexOf(handle))
        sessions_.erase(at);
}

Session* Contents::findSession(TPM2_HANDLE handle) {
    if (!wire::isSession(handle)) return nullptr;
    const auto at = lowerSession(handle);
    if (at == sessions_.end() || wire::indexOf(at->handle) != wire::indexOf(handle)) return nullptr;
    return &*at;
}

void Contents::removeLoadedSessions() {
    std::erase_if(sessions_, [](const Session& s) { return s.inTpm(); });
}

size_t Contents::loadedSessions() const {
    return static_cast<size_t>(
        std::ranges::count_if(sessions_, [](const Session& s) { return s.inTpm(); }));
}

size_t Contents::countSessions() const {
    return static_cast<size_t>(
        std::count_if(sessions_.begin(), sessions_.end(), [](const Session& each) {
            return each.place == Session::Place::Loaded || each.place == Session::Place::Out;
        }));
}

const Session* Contents::unsettledSession() const {
    const auto at = std::find_if(sessions_.begin(), sessions_.end(), [](const Session& each) {
        return !each.stale && (each.uncertain || each.place == Session::Place::Due);
    });
    return at == sessions_.end() ? nullptr : &*at;
}

Session* Contents::oldestSaved() {
    Session* oldest = nullptr;
    for (Session& session : sessions_) {
        if (session.inTpm() || session.context.empty()) continue;
        if (oldest == nullptr || session.sequence < oldest->sequence) oldest = &session;
    }
    return oldest;
}

}  // namespace spaces::swap
