// SPDX-License-Identifier: BSD-2-Clause
// A TPM command, read and rewritten in place (TPM 2.0 Library, Part 1, 18 "Command/Response
// Structure"): header, handle area, authorisation area, parameter area.
// Always holds: a Command spans a whole command, at least a header, and every accessor stays
// inside it whatever the bytes say.
#pragma once

#include <tss2/tss2_tpm2_types.h>

#include <array>

#include "wire/bytes.h"

namespace spaces::wire {

constexpr size_t kHeaderSize = 10;  // tag, size, command or response code
constexpr size_t kHandleSize = 4;
constexpr size_t kMaxAuthorizations = 3;  // Part 1, 18.6: MAX_SESSION_NUM
constexpr uint32_t kMaxCommandSize = TPM2_MAX_COMMAND_SIZE;

/// One entry of the authorisation area, as far as it is there.
struct Authorization {
    uint8_t* at = nullptr;  // where its session handle is
    TPM2_HANDLE handle = 0;
    bool continueSession = false;
    TPM2_RC defect = TPM2_RC_SUCCESS;  // the format-one code of its first malformed field

    void setHandle(TPM2_HANDLE value) { put32(at, value); }
};

/// The entries of an authorisation area up to the first malformed one.
struct AuthorizationArea {
    std::array<Authorization, kMaxAuthorizations> entries;
    size_t count = 0;

    Authorization* begin() { return entries.data(); }
    Authorization* end() { return entries.data() + count; }
    const Authorization* begin() const { return entries.data(); }
    const Authorization* end() const { return entries.data() + count; }
};

class Command {
  public:
    explicit Command(MutableBytes bytes) : bytes_(bytes) {}

    size_t size() const { return bytes_.size(); }
    Bytes bytes() const { return bytes_; }
    TPM2_ST tag() const { return get16(&bytes_[0]); }
    uint32_t headerSize() const { return get32(&bytes_[2]); }
    /// True if the bytes are a header, at least, and as many as it says.
    static bool sizeIsRight(Bytes bytes) {
        return bytes.size() >= kHeaderSize && get32(&bytes[2]) == bytes.size();
    }
    TPM2_CC code() const { return get32(&bytes_[6]); }

    bool hasSessions() const { return tag() == TPM2_ST_SESSIONS; }

    /// A tag that a command can have; with any other the TPM reads nothing beyond the tag.
    bool hasCommandTag() const { return hasSessions() || tag() == TPM2_ST_NO_SESSIONS; }

    /// How many of `count` handles are there in full. FlushContext has its handle as a parameter
    /// (Part 3, 28.4), but without sessions, which it does not take, in the place of a first one.
    size_t handlesPresent(size_t count) const;
    TPM2_HANDLE handle(size_t position) const { return get32(&bytes_[handleOffset(position)]); }
    void setHandle(size_t position, TPM2_HANDLE value) {
        put32(&bytes_[handleOffset(position)], value);
    }

    /// How many of the first `count` handles are of persistent objects: while a command runs, each
    /// is in a slot.
    size_t persistent(size_t count) const;

    /// What is wrong with the size of the authorisation area after `handles` handles, of a command
    /// with sessions.
    TPM2_RC authorizationSizeDefect(size_t handles) const;

    /// The authorisations after `handles` handles; empty for a command without sessions or with
    /// an authorisation size that the TPM refuses.
    AuthorizationArea authorizations(size_t handles) const;

    /// What Startup and Shutdown are told; TPM_SU_CLEAR where it is cut.
    TPM2_SU startupType() const {
        const Bytes type = parameters(0);
        return type.size() < 2 ? TPM2_SU_CLEAR : TPM2_SU{get16(type.data())};
    }

    /// The parameters after `handles` handles and the authorisations; empty where they are cut.
    MutableBytes parameters(size_t handles) const;

  private:
    static size_t handleOffset(size_t position) { return kHeaderSize + position * kHandleSize; }

    MutableBytes bytes_;
};

/// Writes a header over the first ten octets at `at`.
void putHeader(uint8_t* at, TPM2_ST tag, size_t size, uint32_t code);

/// Makes a command without sessions that is its code and one handle, and returns it. In the handle
/// area or as a parameter, as FlushContext has it, the bytes are the same.
MutableBytes putHandleCommand(uint8_t* at, TPM2_CC code, TPM2_HANDLE handle);

}  // namespace spaces::wire
