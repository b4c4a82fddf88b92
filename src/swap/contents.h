// SPDX-License-Identifier: BSD-2-Clause
// What the swapping layer keeps track of: every object and session of all its users, where each
// is, and the saved contexts of those that are not in the TPM.
//
// The handles of objects here, "given" handles, are what the users above take for physical ones:
// they start above the numbers that TPMs give out, and are never the same for two objects.
// Always holds:
// - An object is resident (it has a physical handle and stands in `residents()`) or has a context.
// - An object's context is good for as long as the object lives, unless it is a sequence that was
//   updated since (`changed`).
// - A session is in exactly one place; only one that is in the TPM has no context.
#pragma once

#include <tss2/tss2_tpm2_types.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "swap/policy.h"
#include "wire/context.h"

namespace spaces::swap {

/// The bytes of a TPMS_CONTEXT, or none.
class SavedContext {
  public:
    SavedContext() = default;
    /// May throw std::bad_alloc.
    explicit SavedContext(wire::Bytes bytes);
    /// What was moved from is empty.
    SavedContext(SavedContext&& other) noexcept
        : bytes_(std::move(other.bytes_)), size_(std::exchange(other.size_, 0)) {}
    SavedContext& operator=(SavedContext&& other) noexcept {
        bytes_ = std::move(other.bytes_);
        size_ = std::exchange(other.size_, 0);
        return *this;
    }

    /// Empty, with room for any context. May throw std::bad_alloc.
    static SavedContext withRoom();
    bool hasRoom() const { return bytes_ != nullptr; }
    /// Fills one that was made with room.
    void assign(wire::Bytes bytes);

    bool empty() const { return size_ == 0; }
    wire::Bytes bytes() const { return {bytes_.get(), size_}; }
    bool operator==(wire::Bytes other) const;

  private:
    std::unique_ptr<uint8_t[]> bytes_;
    uint32_t size_ = 0;
};

struct Object {
    TPM2_HANDLE physical = 0;   // 0: not resident
    TPM2_HANDLE hierarchy = 0;  // OWNER, ENDORSEMENT, PLATFORM, NULL; 0: not known
    SavedContext context;
    bool alive = false;
    bool sequence = false;   // a hash or HMAC sequence: changes when it is used
    bool changed = false;    // since its context was saved
    bool uncertain = false;  // the answer to its FlushContext was lost: it may have gone
    Policy::Use use;

    bool clean() const { return !context.empty() && !changed; }
};

struct Session {
    enum class Place {
        Loaded,
        Out,     // saved by us
        Client,  // saved by its client
        Due,     // loaded for a renewal, to its client it is saved: has to be saved again
    };

    TPM2_HANDLE handle = 0;
    Place place = Place::Loaded;
    uint64_t sequence = 0;       // of `context`
    SavedContext context;        // what the TPM would load now
    SavedContext clientContext;  // what the client holds, where that is not the same any more
    bool stale = false;          // of before the last Startup: to be flushed
    bool uncertain = false;      // the answer to its last move was lost: it may have been made
    bool doubtful = false;       // the TPM may have saved it, and `context` not be the last one
    Policy::Use use;

    bool inTpm() const { return place == Place::Loaded || place == Place::Due; }
};

class Contents {
  public:
    // Objects.

    /// Makes sure that the next add() needs no memory. May throw std::bad_alloc.
    void reserveObject();
    /// A new resident object; returns its given handle.
    TPM2_HANDLE addObject(TPM2_HANDLE physical, TPM2_HANDLE hierarchy);
    void removeObject(TPM2_HANDLE given);
    /// Null for a handle that is none of ours.
    Object* findObject(TPM2_HANDLE given);
    const Object* findObject(TPM2_HANDLE given) const {
        return const_cast<Contents*>(this)->findObject(given);
    }
    static bool isGiven(TPM2_HANDLE handle);

    void becomeResident(TPM2_HANDLE given, TPM2_HANDLE physical);
    /// It is not in the TPM any more. Without a good context it is gone altogether.
    void becomeAbsent(TPM2_HANDLE given);

    size_t countObjects() const { return objects_.size() - free_.size(); }
    /// The given handles of what is in the TPM.
    const std::vector<TPM2_HANDLE>& residents() const { return residents_; }

    /// The TPM flushed this hierarchy's objects, and their contexts must not come back.
    void removeHierarchy(TPM2_HANDLE hierarchy);
    void removeAllObjects();
    /// The connection was lost with all that was loaded through it.
    void loseResidents();
    /// Nothing is in the TPM, as far as we know.
    bool allAreOut() const { return residents_.empty() && loadedSessions() == 0; }

    /// The given handle of one of which it is not known whether it has gone; 0 if there is none.
    TPM2_HANDLE unsettledObject() const;

    /// True for the physical handle of a resident object, or of a session.
    bool isOurs(TPM2_HANDLE physical) const;

    // Sessions.

    /// May throw std::bad_alloc.
    void reserveSession();
    Session& addSession(TPM2_HANDLE handle);
    void removeSession(TPM2_HANDLE handle);
    Session* findSession(TPM2_HANDLE handle);
    const Session* findSession(TPM2_HANDLE handle) const {
        return const_cast<Contents*>(this)->findSession(handle);
    }
    std::vector<Session>& sessions() { return sessions_; }
    const std::vector<Session>& sessions() const { return sessions_; }
    void removeLoadedSessions();
    void removeAllSessions() { sessions_.clear(); }
    size_t loadedSessions() const;
    /// Those that are loaded as far as their clients know.
    size_t countSessions() const;
    /// The saved one with the lowest sequence; null if none is saved.
    Session* oldestSaved();
    /// One whose renewal is half done, or of which it is not known where it is; null if there is
    /// none.
    const Session* unsettledSession() const;

  private:
    std::vector<Session>::iterator lowerSession(TPM2_HANDLE handle);

    std::vector<Object> objects_;  // by index of the given handle
    std::vector<uint32_t> free_;   // indices of dead ones
    std::vector<TPM2_HANDLE> residents_;
    std::vector<Session> sessions_;  // by index
};

}  // namespace spaces::swap
