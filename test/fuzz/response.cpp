// SPDX-License-Identifier: BSD-2-Clause
// Fuzz target: what a child TCTI answers, or does instead, while three spaces use it.
// Always holds: whatever it says, each client's command gets one well-formed response, the child
// gets an end of commands, and every context can be closed.
//
// The input: what the TPM (1 octet) and the spaces (1 octet) are like, then, in the order in which
// they happen: for a client's command an octet (2 bits: whose; 3: its context is closed) and the
// command (steps.h); for what the child gets an octet (deed()) and what that asks for.
#include "fuzz/child.h"
#include "fuzz/client.h"
#include "fuzz/steps.h"

namespace spaces::fuzz {
namespace {

constexpr TSS2_RC kChildCodes[] = {TSS2_TCTI_RC_IO_ERROR,           TSS2_TCTI_RC_NO_CONNECTION,
                                   TSS2_TCTI_RC_NOT_IMPLEMENTED,    TSS2_TCTI_RC_BAD_VALUE,
                                   TSS2_TCTI_RC_TRY_AGAIN,          TSS2_TCTI_RC_BAD_SEQUENCE,
                                   TSS2_TCTI_RC_MALFORMED_RESPONSE, TSS2_TCTI_RC_GENERAL_FAILURE};

constexpr TPM2_RC kCodes[] = {TPM2_RC_OBJECT_MEMORY,
                              TPM2_RC_SESSION_MEMORY,
                              TPM2_RC_CONTEXT_GAP,
                              TPM2_RC_SESSION_HANDLES,
                              TPM2_RC_REFERENCE_H0,
                              TPM2_RC_REFERENCE_H1,
                              TPM2_RC_REFERENCE_S0,
                              TPM2_RC_REFERENCE_S1,
                              TPM2_RC_INITIALIZE,
                              TPM2_RC_RETRY,
                              TPM2_RC_YIELDED,
                              TPM2_RC_TESTING,
                              TPM2_RC_CANCELED,
                              TPM2_RC_INSUFFICIENT,
                              TPM2_RC_COMMAND_CODE,
                              TPM2_RC_FAILURE,
                              wire::forParameter(TPM2_RC_HANDLE, 0),
                              wire::forParameter(TPM2_RC_VALUE, 0),
                              wire::forHandle(TPM2_RC_VALUE, 0),
                              wire::forParameter(TPM2_RC_INTEGRITY, 0)};

class World {
  public:
    explicit World(Input& input)
        : input_(input),
          size_(chooseSize(input.u8())),
          conf_(chooseConf(input.u8())),
          child_(conf_.substr(conf_.rfind(',') + 1), size_) {
        child_.script = [this](const Bytes&) { return deed(); };
        child_.otherwise = [this] { return otherwise(); };
    }

    void run() {
        while (!input_.atEnd()) step();
        for (Client& client : clients_) {
            child_.beginStep();
            stubborn_.reset();
            client.close();
        }
        // With sessions that it only said to have made, it may still claim more than there is.
        if (honest_) require(child_.tpm.loadedObjects() == 0, "no object is left");
        if (honest_) require(child_.tpm.loadedSessions() == 0, "no session is left");
    }

  private:
    void step() {
        child_.beginStep();
        stubborn_.reset();
        const uint8_t whose = input_.u8() & 3;
        if (whose == 3) return clients_[input_.u8() % 3].close();
        Client& client = clients_[whose];
        if (!client.isOpen() && client.open(conf_) != TSS2_RC_SUCCESS) return;
        const Packet command = chooseCommand(input_, contexts_);
        const auto response = client.send(command.all());
        require(response.has_value(), "a command is taken");
        if (codeOf(*response) == 0 && wire::get32(&command.all()[6]) == TPM2_CC_ContextSave &&
            contexts_.size() < 8)
            contexts_.emplace_back(response->begin() + 10, response->end());
    }

    TSS2_RC childCode() { return kChildCodes[input_.u8() % std::size(kChildCodes)]; }

    TSS2_RC otherwise() {
        if (input_.u8() % 16 != 15) return TSS2_RC_SUCCESS;
        honest_ = false;
        const TSS2_RC rc = childCode();
        return rc == TSS2_TCTI_RC_TRY_AGAIN ? TSS2_TCTI_RC_IO_ERROR : rc;
    }

    /// Mostly what it should do.
    Child::Deed deed() {
        Child::Deed deed;
        if (stubborn_) {
            answerWith(deed, test::response(*stubborn_).all());
            return deed;
        }
        const uint8_t choice = input_.u8();
        if (choice < 128) return deed;
        if (choice < 144) {
            deed.tryAgain = choice & 15u;
            return deed;
        }
        honest_ = false;
        switch (choice & 7) {
            case 0:
                deed.transmitFails = childCode();
                break;
            case 1:
                deed.receiveFails = childCode();
                if (deed.receiveFails == TSS2_TCTI_RC_TRY_AGAIN)
                    deed.receiveFails = TSS2_TCTI_RC_IO_ERROR;
                break;
            case 2:
                answerWith(deed, test::response(chooseCode((choice & 8) != 0)).all());
                break;
            case 3:
                answerWith(deed, test::response(input_.u32()).all());
                break;
            case 4:
                answerWith(deed, input_.take(input_.u8()));
                break;
            case 5:
                putHandle(deed, chooseHandle(input_.u8()));
                break;
            case 6:
                spoil(deed, input_.u16(), input_.take(1 + input_.u8() % 8));
                break;
            default:
                resize(deed, input_.u16() % 5000, (input_.u8() & 1) != 0);
                break;
        }
        return deed;
    }

    /// `stubbornly`: the client's step brings nothing else any more.
    TPM2_RC chooseCode(bool stubbornly) {
        const TPM2_RC code = kCodes[input_.u8() % std::size(kCodes)];
        if (stubbornly) stubborn_ = code;
        return code;
    }
    static void answerWith(Child::Deed& deed, const Bytes& octets) {
        deed.alter = [octets](Bytes& response) { response = octets; };
    }
    static void putHandle(Child::Deed& deed, TPM2_HANDLE handle) {
        deed.alter = [handle](Bytes& response) {
            if (response.size() < 14) response = test::response().handle(0).all();
            wire::put32(&response[10], handle);
        };
    }
    static void spoil(Child::Deed& deed, uint16_t at, const Bytes& octets) {
        deed.alter = [at, octets](Bytes& response) {
            for (size_t i = 0; i < octets.size(); ++i)
                response[(at + i) % response.size()] = octets[i];
        };
    }
    /// The header tells the new size, or the old one.
    static void resize(Child::Deed& deed, size_t size, bool tells) {
        deed.alter = [size, tells](Bytes& response) {
            response.resize(size);
            if (tells && size >= 10) wire::put32(&response[2], static_cast<uint32_t>(size));
        };
    }

    Input& input_;
    const test::ModelTpm::Size size_;
    const std::string conf_;
    Child child_;
    bool honest_ = true;
    std::optional<TPM2_RC> stubborn_;
    Client clients_[3];
    Contexts contexts_;
};

}  // namespace
}  // namespace spaces::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    spaces::fuzz::prepareProcess();
    spaces::fuzz::Input input({data, size});
    spaces::fuzz::World(input).run();
    return 0;
}
