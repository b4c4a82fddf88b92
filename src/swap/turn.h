// SPDX-License-Identifier: BSD-2-Clause
// One user's turn at a swapping TPM: above it is the channel, below it is the user; see swap.h.
// Always holds: between turns nothing of it matters; within one, `command_` is the exchange of the
// user above, and `step_` says what the exchange below is for.
// Its functions: turn.cpp has the way of the user's command, turn_moves.cpp who leaves and comes in
// for it, turn_renewal.cpp what keeps sessions' contexts good.
#pragma once

#include <array>
#include <optional>

#include "swap/swap.h"
#include "wire/command.h"
#include "wire/response.h"

namespace spaces::swap {

class Swap::Turn final : public tpm::Channel, public tpm::User {
  public:
    Turn(Swap& swap, tpm::User& above);

    // The channel, for the user above.
    void submit() override { below_->submit(); }
    bool wait(int32_t timeout) override { return below_->wait(timeout); }
    void taken() override { below_->taken(); }
    bool withdraw() override { return below_->withdraw(); }
    TSS2_RC cancel() override { return below_->cancel(); }
    TSS2_RC pollHandle(int& descriptor) override { return below_->pollHandle(descriptor); }
    TSS2_RC tryLocality(uint8_t locality) override { return below_->tryLocality(locality); }
    tpm::Traffic traffic() const override;

    // The user, for the TPM below.
    tpm::Exchange begin() override;
    tpm::Exchange answered(size_t size) override;
    void failed(TSS2_RC rc) override;
    void canceled() override;
    bool cancels() override;
    uint8_t locality() const override { return above_.locality(); }

  private:
    enum class Step {
        Client,        // the command of the user above
        SaveObject,    // ContextSave of an object that must leave
        FlushObject,   // FlushContext of one whose context we have
        LoadObject,    // ContextLoad of one that the command names
        SaveSession,   // ContextSave of a session that must leave
        LoadSession,   // ContextLoad of one that the command names
        RenewLoad,     // ContextLoad of the oldest session, against the context gap,
        RenewSave,     // and its ContextSave
        FlushSession,  // FlushContext of a session that a restart left in the TPM
        Leftovers,     // a look at what else is in the TPM, and FlushContext of it
    };

    struct Named {
        TPM2_HANDLE handle = 0;
        size_t position = 0;
        bool authorizes = false;  // in the authorisation area
        bool ending = false;      // there, with continueSession clear
    };

    template <class T, size_t N>
    struct List {
        std::array<T, N> items{};
        size_t count = 0;
        void add(const T& item) { items[count++] = item; }
        T* begin() { return items.data(); }
        T* end() { return items.data() + count; }
    };

    // Reading the command of the user above; each returns the next exchange below.
    tpm::Exchange take(const tpm::Exchange& exchange);
    tpm::Exchange takeFlush();
    void readContextLoad();
    void readNames();
    void readNeeds();
    bool reserve();
    bool isOut();
    wire::Command command() { return wire::Command(command_.command); }

    // What is missing; nothing if nothing is, or if nothing can be done about it.
    using MaybeExchange = std::optional<tpm::Exchange>;
    tpm::Exchange next();
    void foreseeGap();
    MaybeExchange staleMissing();
    MaybeExchange renewalMissing();
    MaybeExchange objectMissing(const Named& named);
    MaybeExchange sessionMissing(const Named& named);
    class Candidates;
    MaybeExchange makeObjectRoom();
    MaybeExchange makeSessionRoom();
    bool isNamed(TPM2_HANDLE handle);
    bool startRenewing();

    // Exchanges below.
    tpm::Exchange sendClient();
    Session* incomingSession();
    const Session* renewedSession();
    Session* dueSession();
    tpm::Exchange answerContextLoad(Session& session);
    tpm::Exchange send(Step step, TPM2_CC code, TPM2_HANDLE subject, TPM2_HANDLE parameter);
    tpm::Exchange sendLoad(Step step, TPM2_HANDLE subject, const SavedContext& context);
    void countMove();
    tpm::Exchange sendMove(size_t size);

    // Answers from below, or none.
    void noteUnknown();
    tpm::Exchange stepAnswered(size_t size);
    tpm::Exchange clientAnswered(size_t size);
    tpm::Exchange clientRefused(TPM2_RC code, size_t size);
    void clientSucceeded(wire::Response response);
    void endSessions();
    void useNamed();
    void adopt(wire::Response& response);
    void noteSaved(wire::Response response);
    void noteFlushedSession();
    void noteByCode(wire::Response response);
    void noteStartup();
    void noteLoss();

    MaybeExchange lookForLeftovers(TPM2_RC code);
    tpm::Exchange leftoversAnswered(size_t size);

    tpm::Exchange moved(size_t size);
    tpm::Exchange moveRefused(TPM2_RC code);
    tpm::Exchange objectMoveRefused(TPM2_RC code);
    tpm::Exchange sessionMoveRefused(TPM2_RC code);
    bool keepObject(size_t size);
    void noteRenewLoad();
    void keepRenewed(size_t size);
    void keepSession(Session::Place place, size_t size);
    void loseSession(Session& session);
    tpm::Exchange refuseInternal(TPM2_RC code);
    tpm::Exchange refuseLostSession(TPM2_HANDLE handle);

    /// Hands ended exchanges up, one after the other, until there is one to send below: a user
    /// whose commands need no TPM, however many, is served without recursion.
    tpm::Exchange settle(tpm::Exchange step);

    /// Ends the exchange of the user above: with a code, with what is in its buffer.
    tpm::Exchange refuse(TPM2_RC code);
    tpm::Exchange pass(size_t size);

    Swap& swap_;
    Contents& contents_;
    tpm::User& above_;
    std::unique_ptr<tpm::Channel> below_;
    tpm::Exchange command_;
    Step step_ = Step::Client;
    TPM2_HANDLE moving_ = 0;  // what the step is about
    List<Named, wire::kMaxHandles> objects_;
    List<Named, wire::kMaxHandles + wire::kMaxAuthorizations> sessions_;
    size_t objectRoom_ = 0;  // slots the command needs beside those of its own objects
    size_t sessionRoom_ = 0;
    TPM2_HANDLE flushed_ = 0;  // FlushContext's parameter
    SavedContext incoming_;    // ContextLoad's parameter
    uint64_t renewBelow_ = 0;  // sessions saved before this sequence number are renewed
    bool foreseen_ = false;    // there is no need yet: if it cannot be done, a later command will
    unsigned moves_ = 0;       // for this command
    TPM2_RC warning_ = 0;      // why there were moves, for when there were too many
    unsigned busy_ = 0;        // times that the last move was answered "not now"
    bool dueTried_ = false;    // to settle what an earlier command left unsettled
    bool staleTried_ = false;  // to flush what a restart left, and the TPM does not, for now
    bool canceled_ = false;    // by its client, while something was moved
    bool passing_ = false;     // the exchange above has ended
    bool answered_ = false;    // the command has its answer, and there is more to do
    size_t answerSize_ = 0;
    tpm::Traffic traffic_;
};

}  // namespace spaces::swap
