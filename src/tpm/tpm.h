// SPDX-License-Identifier: BSD-2-Clause
// The interface of a TPM that several users share: each stands in line for it and, in its turn,
// has it to itself for as many commands as it needs. The layers above speak to this interface
// alone, so a layer can be put between them and the TPM by implementing it once more.
//
// Always holds: one turn at a time, one command at a time, first come first served; all functions
// of all users of one TPM run one after the other, never two at once, so what users share among
// themselves needs no lock of its own as long as it is touched in turns only.
#pragma once

#include <tss2/tss2_tcti.h>

#include <cstdint>
#include <memory>

#include "wire/command_table.h"
#include "wire/response.h"

namespace spaces::tpm {

/// What a private TPM could never say is said in the resource manager's own layer, which reads as
/// the TPM's codes do: nobody knows what became of the command, as with a TPM that failed, or there
/// was no memory in this process to carry it out.
constexpr TPM2_RC kNoAnswer = TSS2_RESMGR_RC_LAYER | TPM2_RC_FAILURE;
constexpr TPM2_RC kNoMemory = TSS2_RESMGR_RC_LAYER | TPM2_RC_MEMORY;

/// How often a command of our own is sent before a warning that the TPM is busy is final.
constexpr unsigned kMostAttempts = 5;

/// What a command is sent for.
enum class Purpose : uint8_t {
    Client,    // the client asked for it
    Question,  // it cannot change anything
    Presence,  // a question whether the one thing it names can be used
    Move,      // for swapping
    Flush,     // of something left
};

/// One command for the TPM and the room for its response. Both belong to the user; between here
/// and the TPM handles may be replaced in place, each by one of the same type.
struct Exchange {
    wire::MutableBytes command;          // empty: nothing more to send, the turn is over
    uint8_t* response = nullptr;         // wire::kMaxResponseSize octets
    wire::CommandAttributes attributes;  // of the command's code
    TPM2_HANDLE hierarchy = 0;           // of the object that the command makes; 0: not known
    Purpose purpose = Purpose::Client;

    static Exchange none() { return {}; }
    bool nothing() const { return command.empty(); }
};

/// What went through a channel, for the log.
struct Traffic {
    uint64_t commands = 0;  // sent to the TPM, of all kinds
    uint64_t saves = 0;     // of them, ContextSave, ContextLoad and FlushContext for swapping
    uint64_t loads = 0;
    uint64_t flushes = 0;
};

/// Who uses the TPM. Called in its turn only, from whichever thread drives the TPM; must not
/// throw and must not call back into the TPM.
class User {
  public:
    virtual ~User() = default;

    /// The turn begins. Returns the first command.
    virtual Exchange begin() = 0;

    /// The response to the last command, well formed and of `size` octets, is in its buffer.
    /// Returns the next command.
    virtual Exchange answered(size_t size) = 0;

    /// The last command could not be sent, or its response not be had; `rc` is what the child
    /// TCTI said. The turn is over.
    virtual void failed(TSS2_RC rc) = 0;

    /// The turn is over without its last command, which was taken back for a cancel before it was
    /// sent; before the turn began, without any.
    virtual void canceled() = 0;

    /// The client asks for its command to be canceled while one of the turn is with the TPM. True:
    /// that is the one to cancel. False: the user sees to it at its next step.
    virtual bool cancels() = 0;

    /// The locality of its commands.
    virtual uint8_t locality() const = 0;
};

/// A user's access to the TPM. Used by one thread at a time, beside the channels of others.
class Channel {
  public:
    virtual ~Channel() = default;

    /// Takes a place in line. The turn may begin, and end, before this returns; it never waits
    /// for the response to anybody's command.
    virtual void submit() = 0;

    /// Waits for the end of the turn, driving the TPM for everyone in line meanwhile. `timeout`
    /// in milliseconds, TSS2_TCTI_TIMEOUT_BLOCK or _NONE, kept as well as the child TCTI keeps
    /// its own. True if the turn is over.
    virtual bool wait(int32_t timeout) = 0;

    /// The outcome of the turn is the client's now: until the next submit() there is nothing to
    /// wait for.
    virtual void taken() = 0;

    /// Leaves the line, also with a turn that has begun but whose command a busy child has not got.
    /// False if a command is under way: then it has to be waited for.
    virtual bool withdraw() = 0;

    /// In line: leaves it and tells the user. Running: asks the child TCTI to cancel; the response
    /// is still owed. Returns TSS2_RC_SUCCESS, or what the child TCTI says;
    /// TSS2_TCTI_RC_NOT_IMPLEMENTED also where a cancel would cost the connection, and where the
    /// child TCTI cannot be asked because another thread waits in it and cannot be interrupted.
    virtual TSS2_RC cancel() = 0;

    /// Sets `descriptor` to one for poll(), the channel's own. It is readable while wait() without
    /// a timeout would get somewhere: the turn is over and not yet taken, or the line would move.
    /// TSS2_TCTI_RC_NOT_IMPLEMENTED if the child TCTI does not tell when it has something to give,
    /// TSS2_TCTI_RC_GENERAL_FAILURE if the system has no descriptors left.
    virtual TSS2_RC pollHandle(int& descriptor) = 0;

    /// Asks the child TCTI whether it can do this locality, if it is free to be asked.
    virtual TSS2_RC tryLocality(uint8_t locality) = 0;

    /// Asked when no turn is under way.
    virtual Traffic traffic() const = 0;
};

class Tpm {
  public:
    virtual ~Tpm() = default;

    /// `user` must outlive the channel.
    virtual std::unique_ptr<Channel> open(User& user) = 0;

    /// True if the child is a resource manager of its own, which refuses in its own way handles
    /// that it never gave out and commands shorter than their handles: none may be sent to it.
    virtual bool isResourceManager() const = 0;

    /// True if what is lost behind the users' backs is accounted for below.
    virtual bool noticesLoss() const { return isResourceManager(); }

    /// True if objects and sessions beyond the TPM's slots are made room for.
    virtual bool makesRoom() const { return false; }

    /// True if the context that a client holds of this session cannot be loaded any more once the
    /// users of this TPM are gone. Asked in a turn.
    virtual bool isStranded(TPM2_HANDLE session) const {
        (void)session;
        return false;
    }

    /// One of those sessions; 0 if there is none. Asked in a turn.
    virtual TPM2_HANDLE anyStranded() const { return 0; }

    /// Changes when everything in the TPM that came through this connection is gone. Asked in a
    /// turn.
    virtual unsigned epoch() const = 0;
};

}  // namespace spaces::tpm
