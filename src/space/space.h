// SPDX-License-Identifier: BSD-2-Clause
// A space: a TPM of its own for one client, on a TPM that it shares with other spaces.
//
// The way of a command. The client hands it over (start), which copies it once; when the space's
// turn comes (begin) its handles are replaced in place by the TPM's, and it is sent; the response
// (answered) is read for what it changed, and rewritten in place; the client fetches it.
//
// What a handle is decides what happens to it:
// - the space's own object: replaced by the physical handle; its own session: left as it is,
//   since a session's handle is its Name and every HMAC covers it;
// - in range but not the space's: the command must look as if the handle were absent. In the
//   handle area the command is not sent at all, only a probe of its handles (probe.h), which lets
//   the TPM itself say whether another error comes first. In the authorisation area, and as
//   FlushContext's parameter, it is replaced by a number that no TPM gives out, and the TPM's
//   answer to that number is translated;
// - out of range: replaced by the number that no TPM gives out, for the TPM to refuse.
//
// Always holds:
// - Commands that are not the client's own are FlushContext when the space closes, probes when a
//   handle is not the space's or an unexplained loss has been met, one GetCapability for a command
//   code that exists but is not in the table, and where the user wants it a look at what has left
//   no slot for a command.
// - State changes on a successful response only; a handle the TPM says is gone is forgotten.
// - The client's command is kept with its rewritten handles until the response is there.
#pragma once

#include <array>
#include <memory>

#include "space/capability.h"
#include "space/holding.h"
#include "space/ownership.h"
#include "space/probe.h"
#include "tpm/tpm.h"
#include "wire/command.h"
#include "wire/response.h"

namespace spaces::space {

/// What a space has done, for the log. All numbers are counts.
struct Statistics {
    uint64_t clientCommands = 0;
    tpm::Traffic traffic;
    size_t mostObjects = 0;
    size_t mostSessions = 0;
};

class Space final : public tpm::User {
  public:
    /// Both must outlive the space; `ownership` is one for all spaces over `tpm`.
    Space(tpm::Tpm& tpm, Ownership& ownership);
    /// Closes the space, unless that is done.
    ~Space() override;

    // For the client, from one thread at a time.

    /// Takes a command whose header gives its size (at least a header's). Never waits for the TPM
    /// to finish anything. Only after the last response has been fetched.
    void start(wire::Bytes command);

    /// Waits for the response; see tpm::Channel::wait. True if it is there.
    bool wait(int32_t timeout);

    /// The response, once it is there, until the next start().
    wire::Bytes response() const { return {response_.data(), responseSize_}; }

    /// The client has the response.
    void fetched();

    /// See tpm::Channel::cancel and pollHandle.
    TSS2_RC cancel();
    TSS2_RC pollHandle(int& descriptor) { return channel_->pollHandle(descriptor); }

    /// The locality of commands started from now on.
    TSS2_RC setLocality(uint8_t locality);

    /// Takes the response still owed, then flushes what is left, but not sessions that the client
    /// saved: they are whoever's who holds the context.
    void close();

    /// In a forked process, where the space is the parent's: from now on it can only be destroyed,
    /// which frees its memory and does nothing else.
    void abandon() { closing_ = true; }

    /// Of a closed space.
    const Statistics& statistics() const { return statistics_; }

    // For the TPM, in the space's turn.
    tpm::Exchange begin() override;
    tpm::Exchange answered(size_t size) override;
    void failed(TSS2_RC rc) override;
    void canceled() override;
    bool cancels() override;
    uint8_t locality() const override { return locality_; }

  private:
    /// What the exchange under way is for.
    enum class Phase {
        Command,      // the client's command
        Handles,      // a probe of its handles, instead of it
        CodeExists,   // a probe of its code, before it
        CodeHandles,  // a question for its code's attributes, before it
        Presence,     // a probe of something suspect, after it
        Leftovers,    // a look at what occupies the TPM, after it was refused for that
        Closing,      // FlushContext of something left
    };

    static tpm::Purpose purposeOf(Phase phase);

    /// What the response to the client's command will mean.
    struct Plan {
        wire::CommandAttributes attributes;
        size_t handles = 0;                                  // that are there in full
        std::array<TPM2_HANDLE, wire::kMaxHandles> named{};  // own, as the client names them
        std::array<TPM2_HANDLE, wire::kMaxAuthorizations> sessions{};  // own, by authorisation
        std::array<bool, wire::kMaxAuthorizations> ending{};           // continueSession is clear
        TPM2_HANDLE flushed = 0;    // own, FlushContext's parameter
        TPM2_HANDLE hierarchy = 0;  // of the object to be made
        wire::CapabilityQuery query;
        bool newcomer = false;      // the response brings a handle that is not adopted yet
        bool listed = false;        // the response is of GetCapability, and not rewritten yet
        size_t absent = 0;          // position that a handle probe is for
        TPM2_RC verdict = 0;        // the code of that position alone
        TPM2_RC poisonAnswer = 0;   // the TPM's code for a number that no TPM gives out,
        TPM2_RC poisonMeaning = 0;  // and the code that the client gets for it; 0: the same
    };

    /// Whose handle it is.
    enum class Claim { NotOurs, Own, Absent, OutOfRange };
    Claim claim(TPM2_HANDLE handle) const;

    wire::Command command() { return wire::Command({command_.data(), commandSize_}); }
    wire::ResponseBuffer buffer() { return wire::ResponseBuffer(response_); }

    // Before the command is sent: each returns the next exchange.
    tpm::Exchange beginCommand();
    tpm::Exchange prepare(const wire::CommandAttributes& attributes);
    tpm::Exchange prepareFlush();
    tpm::Exchange probeHandles(size_t absent, Claim why);
    bool probeForResourceManager(size_t absent);
    tpm::Exchange askForCode();
    tpm::Exchange askForHandles();

    bool mapHandles(size_t& absent, Claim& why);
    void guardSessions();

    // After a response.
    tpm::Exchange phaseAnswered(size_t size);
    tpm::Exchange commandAnswered(size_t size);
    tpm::Exchange handlesAnswered();
    tpm::Exchange codeExistsAnswered();
    tpm::Exchange codeHandlesAnswered(size_t size);
    tpm::Exchange presenceAnswered();
    bool isWorthLooking(TPM2_RC code);
    tpm::Exchange leftoversAnswered(size_t size);
    tpm::Exchange flushAnswered();

    bool isAnswered() const;
    void noteUnknown();
    void noteNotStarted();
    void refused(TPM2_RC code);
    void succeeded(size_t size);
    void endSessions();
    void welcome(size_t size);
    void adopt(wire::Response response);
    void adoptSession(TPM2_HANDLE handle);
    void finish();
    const Session* returningSession();
    void missing(TPM2_HANDLE own, bool maybeSaved);
    void commitByCode(size_t size);
    void restarted();

    // Exchanges.
    tpm::Exchange exchange(Phase phase, wire::MutableBytes bytes, uint8_t* response,
                           const wire::CommandAttributes& attributes = {});
    tpm::Exchange sendCommand();
    tpm::Exchange nextSuspect();
    bool staysSaved(const Session& session) const;
    TPM2_HANDLE strandedForGood();
    tpm::Exchange nextFlush();
    tpm::Exchange sendFlush();
    tpm::Exchange answer(TPM2_RC code);

    tpm::Tpm& tpm_;
    Ownership& ownership_;
    std::unique_ptr<tpm::Channel> channel_;
    Holding holding_;
    uint8_t locality_ = 0;
    bool closing_ = false;
    bool oversized_ = false;  // the command, of which only the beginning was kept
    bool inTurn_ = false;     // submitted, and not yet waited for
    Phase phase_ = Phase::Command;
    Plan plan_;
    Probe probe_;
    TPM2_HANDLE unfetched_ = 0;  // session whose saved context the client does not have yet
    TPM2_HANDLE suspect_ = 0;
    TPM2_HANDLE stranded_ = 0;  // the last one flushed at close
    TPM2_HANDLE leaving_ = 0;   // what FlushContext at close is for, as the TPM calls it
    unsigned attempts_ = 0;
    uint64_t sentBefore_ = 0;  // by the time it closed
    bool closeAgain_ = false;
    uint64_t flushes_ = 0;  // at close
    Statistics statistics_;
    size_t commandSize_ = 0;
    size_t responseSize_ = 0;
    std::array<uint8_t, wire::kMaxCommandSize> command_;
    std::array<uint8_t, wire::kMaxResponseSize> response_;
};

}  // namespace spaces::space
