// SPDX-License-Identifier: BSD-2-Clause
// Fuzz target: what clients send, over a TPM that is as a TPM should be.
// Always holds: whatever they send, each gets a response, another space keeps what it has, and
// when all have closed the TPM holds nothing but sessions that a client saved.
//
// The input: what the TPM and the spaces are like (2 octets), then one step after the other: an
// octet, low bits first:
//   2 bits  whose command it is, 0 to 2; 3: something happens to the TPM or to a client
//   rest    0, or to put a saved context into a ContextLoad that has none
// and for a command the command itself, as long as its header says or as long as there is input.
#include "fuzz/child.h"
#include "fuzz/client.h"
#include "fuzz/neighbour.h"

namespace spaces::fuzz {
namespace {

class World {
  public:
    explicit World(Input& input)
        : input_(input), settings_(input.u16()), child_(name(), size()), neighbour_(conf()) {}

    void run() {
        for (unsigned steps = 1; !input_.atEnd(); ++steps) {
            step();
            if (steps % 8 == 0) neighbour_.check();
        }
        finish();
    }

  private:
    bool has(unsigned bit) const { return (settings_ >> bit & 1) != 0; }
    unsigned bits(unsigned at, unsigned count) const {
        return settings_ >> at & ((1u << count) - 1);
    }
    bool swaps() const { return has(0); }
    std::string name() const { return has(1) ? "tabrmd" : "model"; }
    std::string conf() const {
        if (!swaps()) return name();
        std::string options = "swap=on,";
        if (has(2)) options += "objects=" + std::to_string(1 + bits(3, 2)) + ",";
        if (has(5)) options += "sessions=" + std::to_string(1 + bits(6, 2)) + ",";
        return options + name();
    }
    test::ModelTpm::Size size() const {
        return {.objects = 1 + bits(8, 2),
                .sessions = 1 + bits(10, 2),
                .active = has(12) ? 6u : 64u,
                .gap = smallGap() ? 8u : 0xFFFFu};
    }
    bool smallGap() const { return has(13); }

    Client& client(unsigned number) {
        Client& client = clients_[number];
        if (!client.isOpen()) require(client.open(conf()) == TSS2_RC_SUCCESS, "a context opens");
        return client;
    }

    void step() {
        child_.beginStep();
        const uint8_t how = input_.u8();
        if ((how & 3) == 3) return happen(how >> 2);
        Bytes command = nextCommand();
        if (how >> 2 != 0) putContext(command, how >> 2);
        const auto response = client(how & 3).send(command);
        const bool whole = command.size() >= 10 && wire::get32(&command[2]) == command.size();
        require(response.has_value() == whole, "a command is taken if its size is right");
        if (response) look(command, *response);
    }

    /// As long as its header says; what is longer than the input is cut, its header too, but for
    /// the last one if it is odd.
    Bytes nextCommand() {
        const auto rest = input_.rest();
        if (rest.size() < 10) return input_.take(rest.size());
        const uint32_t size = wire::get32(&rest[2]);
        Bytes command = input_.take(std::max<uint32_t>(size, 10));
        if (size > command.size() && size % 2 == 0)
            test::append(command, Bytes(std::min<size_t>(size, 5000) -
                                        std::min<size_t>(size, command.size())));
        if (size > command.size()) {
            Packet packet(command);
            packet.size(command.size());
            command = packet.all();
        }
        return command;
    }

    void putContext(Bytes& command, unsigned number) {
        if (command.size() < 10 || wire::get32(&command[6]) != TPM2_CC_ContextLoad) return;
        if (contexts_.empty()) return;
        command.resize(10);
        command = Packet(command).raw(contexts_[(number - 1) % contexts_.size()]).all();
    }

    void happen(unsigned what) {
        switch (what % 8) {
            case 0:
                neighbour_.lose();
                child_.tpm.powerCycle();
                stopped_ = true;
                break;
            case 1:
                neighbour_.lose();
                child_.tpm.restartBehind();
                break;
            case 2:
                neighbour_.lose();
                child_.tpm.flushBehind(input_.u32());
                break;
            case 3:
                neighbour_.check();
                break;
            default:
                clients_[what % 3].close();
                if (smallGap()) neighbour_.mayLackRoom();  // what it saved is nobody's now
                break;
        }
    }

    void look(const Bytes& command, const Bytes& response) {
        const TPM2_RC code = codeOf(response);
        require((code & 0xFFFF) != TSS2_BASE_RC_TRY_AGAIN, "no code means to try again", code);
        if (code != TPM2_RC_SUCCESS) {
            require(response.size() == 10, "an error is a header alone", code);
            return;
        }
        switch (wire::get32(&command[6])) {
            case TPM2_CC_ContextSave:
                ++saves_;
                if (contexts_.size() < 16)
                    contexts_.emplace_back(response.begin() + 10, response.end());
                break;
            case TPM2_CC_Shutdown:
                neighbour_.mayLackRoom();
                break;
            case TPM2_CC_Startup:
                neighbour_.lose();
                break;
            default:
                break;
        }
    }

    void finish() {
        neighbour_.check();
        for (Client& client : clients_) client.close();
        neighbour_.check();
        neighbour_.close();
        require(child_.tpm.loadedObjects() == 0, "no object is left", child_.tpm.loadedObjects());
        require(child_.tpm.loadedSessions() == 0, "no session is left",
                child_.tpm.loadedSessions());
        // What was moved out when the power went is the TPM's own until its next Startup.
        require(stopped_ || child_.tpm.savedSessions() <= saves_,
                "only what a client saved is left", child_.tpm.savedSessions());
    }

    Input& input_;
    const uint16_t settings_;
    Child child_;
    Neighbour neighbour_;
    Client clients_[3];
    std::vector<Bytes> contexts_;
    size_t saves_ = 0;
    bool stopped_ = false;
};

}  // namespace
}  // namespace spaces::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    spaces::fuzz::prepareProcess();
    spaces::fuzz::Input input({data, size});
    spaces::fuzz::World(input).run();
    return 0;
}
