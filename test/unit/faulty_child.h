// SPDX-License-Identifier: BSD-2-Clause
// A child TCTI that passes everything on to a true one, but for one call, at which something goes
// wrong: with the connection, with the answer, or with what is in the TPM.
//
// Always holds: what the TPM is asked behind the library's back is asked through the true child,
// between two commands of the library; what the library may not do to a child fails the test, as
// to use one that has failed before it is opened again, and
// more commands than anything can be worth end the program.
#pragma once

#include <gtest/gtest.h>
#include <tss2/tss2_tcti.h>

#include <functional>
#include <ostream>
#include <string>

#include "unit/packets.h"

namespace spaces::test {

/// A TPM behind a child TCTI, and a second one, of the same making, that nobody else uses.
class TpmBehind {
  public:
    virtual ~TpmBehind() = default;

    // The child TCTI that leads to it.
    virtual TSS2_RC open(TSS2_TCTI_CONTEXT** context) = 0;
    virtual void close(TSS2_TCTI_CONTEXT** context) = 0;

    /// Power is lost; Startup is needed.
    virtual void powerCycle() = 0;

    /// What the second one answers.
    virtual Packet privately(const Packet& command) = 0;
    /// Which one that is: what another one answers may be something else.
    virtual unsigned whichPrivately() const { return 0; }

    struct Occupied {
        size_t objects = 0, loaded = 0, saved = 0;
    };
    virtual Occupied occupied() = 0;
};

struct Fault {
    enum class Kind {
        None,
        // The connection.
        Transmit,  // not sent; or not opened, or not set
        Receive,   // done, and no answer
        TryAgain,  // the answer is not there yet, once
        // The answer to what was done.
        Nothing,
        Short,  // no whole header
        Cut,
        Oversized,
        WrongTag,
        WrongSize,
        // The TPM says this, and does nothing.
        Code,
        // Somebody else, just before.
        Taken,    // flushes what has the lowest number, for what is made now to get it
        Flushed,  // flushes what the command names first
        Reset,    // resets the TPM and starts it
        Cleared,  // Clear
        // An allocation in the library fails, or all of a call from that one on.
        Memory,
        NoMemory,
    };

    Kind kind = Kind::None;
    TPM2_RC code = TPM2_RC_SUCCESS;  // for Code

    /// What the child says for Transmit and Receive.
    static constexpr TSS2_RC kSaid = TSS2_TCTI_RC_IO_ERROR;

    /// The command was carried out, and nobody knows.
    bool hidesAnswer() const {
        return kind == Kind::Receive || (kind >= Kind::Nothing && kind <= Kind::WrongSize);
    }
    bool isOfMemory() const { return kind >= Kind::Memory; }
    /// It takes away something that is in the TPM.
    bool takes() const { return kind >= Kind::Taken && kind <= Kind::Cleared; }
};

std::string nameOf(const Fault& fault);
std::ostream& operator<<(std::ostream& out, const Fault& fault);

/// All of them.
std::vector<Fault> allFaults();

class FaultyChild {
  public:
    /// The call number `position`, of those to which the fault can happen, is the one; 0: none.
    FaultyChild(TpmBehind& tpm, const Fault& fault, size_t position);
    ~FaultyChild();
    FaultyChild(const FaultyChild&) = delete;
    FaultyChild& operator=(const FaultyChild&) = delete;

    /// The one under which the library finds it.
    static constexpr char kName[] = "faulty";

    /// What has happened, for whoever keeps account.
    struct Event {
        TPM2_CC code = 0;         // of the command concerned
        TPM2_HANDLE subject = 0;  // what it names, or the saved handle of its context
        TPM2_HANDLE gone = 0;     // flushed from outside
        bool hidden = false;      // done, with success, and nobody knows
        bool everythingGone = false;
        bool hierarchiesGone = false;
    };
    std::function<void(const Event&)> happened;

    bool fired() const { return fired_; }
    /// To which the fault could happen, until it did.
    size_t calls() const { return calls_; }
    /// While it is off calls are not counted.
    void pause(bool on) { paused_ = on; }

    /// As another process would send it. The answer's code.
    TPM2_RC sendBehind(const Packet& command);

    /// True while a call is in any of them: what it allocates is not the library's.
    static bool atWork();

    // For the loader's functions.
    static TSS2_RC load(TSS2_TCTI_CONTEXT** context);
    static void unload(TSS2_TCTI_CONTEXT** context);
    static bool owns(const TSS2_TCTI_CONTEXT* context);

  private:
    struct Context {
        TSS2_TCTI_CONTEXT_COMMON_V2 common;
        FaultyChild* child;
    };

    static FaultyChild& of(TSS2_TCTI_CONTEXT* context);
    static TSS2_RC transmit(TSS2_TCTI_CONTEXT* context, size_t size, const uint8_t* command);
    static TSS2_RC receive(TSS2_TCTI_CONTEXT* context, size_t* size, uint8_t* response, int32_t);
    static TSS2_RC cancel(TSS2_TCTI_CONTEXT* context);
    static TSS2_RC setLocality(TSS2_TCTI_CONTEXT* context, uint8_t locality);

    TSS2_RC fails(TSS2_RC rc);
    bool comesTo(bool applies);
    bool comesToCall() { return comesTo(fault_.kind == Fault::Kind::Transmit); }
    bool applies(const Packet& command) const;
    void actBehind(const Packet& command);
    void spoil(size_t* size, uint8_t* response) const;

    TpmBehind& tpm_;
    const Fault fault_;
    const size_t position_;
    size_t calls_ = 0;
    size_t commands_ = 0;
    bool fired_ = false, paused_ = false;
    Context context_{};
    TSS2_TCTI_CONTEXT* inner_ = nullptr;  // while it is open

    bool failed_ = false;  // since it was opened

    // The command under way.
    bool pending_ = false;
    bool spoils_ = false;  // it is the one
    Packet command_ = response();
    Packet instead_{Bytes()};  // the answer that the TPM does not give; empty: it gives one
};

}  // namespace spaces::test
