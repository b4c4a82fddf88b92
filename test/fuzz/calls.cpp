// SPDX-License-Identifier: BSD-2-Clause
// Fuzz target: calls of the API in any order, right ones and wrong ones, on several contexts over
// two children.
// Always holds: each call answers what its context's state says (transmit, receive and size query
// exactly; the others with a code that a TCTI has), a wrong call changes nothing, and every context
// can be finalized in any state.
//
// The input: what the TPMs are like (1 octet), what the children (1 octet), what the confs are (2
// octets), then one call after the other: an octet (4 bits: which call; 2 bits: on which context; 2
// bits: how), and what it needs.
#include <poll.h>

#include "fuzz/child.h"
#include "fuzz/client.h"
#include "fuzz/steps.h"

namespace spaces::fuzz {
namespace {

constexpr int32_t kTimeouts[] = {TSS2_TCTI_TIMEOUT_NONE, TSS2_TCTI_TIMEOUT_BLOCK, 1, -2, INT32_MIN};

enum class State { Closed, Transmit, Receive, Final };

/// A context as its caller sees it.
struct Slot {
    Client client;
    State state = State::Closed;
    size_t known = 0;  // the size of the response, once it was told
};

class World {
  public:
    explicit World(Input& input)
        : input_(input),
          size_(chooseSize(input.u8())),
          manner_(chooseManner(input.u8())),
          confs_{chooseConf(input.u8()), chooseConf(input.u8())},
          children_{{"model", size_, manner_}, {"tabrmd", size_, manner_}} {
        for (Child& child : children_) {
            child.script = [this](const Bytes&) { return deed(); };
            child.otherwise = [this] { return otherwise(); };
        }
    }

    void run() {
        while (!input_.atEnd()) {
            const uint8_t what = input_.u8();
            call(what & 15, slots_[what >> 4 & 3], what >> 6);
        }
        const Hurry hurry(*this);
        for (Slot& slot : slots_) {
            if (slot.state == State::Final) slot.client.context = nullptr;
            slot.client.close();
        }
        for (const Child& child : children_)
            if (honest_) require(child.tpm.loadedObjects() == 0, "no object is left");
    }

  private:
    /// While the library may wait without end.
    class Hurry {
      public:
        explicit Hurry(World& world) : world_(world) { set(true); }
        ~Hurry() { set(false); }
        Hurry(const Hurry&) = delete;
        Hurry& operator=(const Hurry&) = delete;

      private:
        void set(bool on) {
            for (Child& child : world_.children_) child.hurry(on);
        }
        World& world_;
    };

    static Child::Manner chooseManner(uint8_t choice) {
        return {.tells = (choice & 1) != 0, .forgets = (choice & 2) != 0};
    }

    void call(unsigned which, Slot& slot, unsigned how) {
        for (Child& child : children_) child.beginStep();
        if (slot.state == State::Closed) return open(slot, how);
        TSS2_TCTI_CONTEXT* context = slot.client.context;
        switch (which) {
            case 0:
            case 1:
            case 2:
                return transmit(slot, how);
            case 3:
            case 4:
            case 5:
                return receive(slot, how);
            case 6:
                return sizeQuery(slot, how);
            case 7:
                return cancel(slot);
            case 8: {
                const TSS2_RC rc = checkCode(Tss2_Tcti_SetLocality(context, input_.u8()));
                return require((rc == TSS2_TCTI_RC_BAD_SEQUENCE) == (slot.state != State::Transmit),
                               "a locality is set between commands", rc);
            }
            case 9:
                return getPollHandles(slot, how);
            case 10: {
                TPM2_HANDLE handle = chooseHandle(input_.u8());
                checkCode(Tss2_Tcti_MakeSticky(context, &handle, input_.u8()));
                return;
            }
            case 11:
                return finalize(slot);
            case 12:
                return reopen(slot, how);
            case 13: {
                const Hurry responsesAreThere(*this);
                return;
            }
            default:
                return misuse(slot, how);
        }
    }

    void open(Slot& slot, unsigned how) {
        const Hurry hurry(*this);
        const TSS2_RC rc = slot.client.open(confs_[how & 1]);
        slot.state = rc == TSS2_RC_SUCCESS ? State::Transmit : State::Closed;
        slot.known = 0;
    }

    void reopen(Slot& slot, unsigned how) {
        const Hurry hurry(*this);
        if (slot.state == State::Final) slot.client.context = nullptr;
        slot.client.close();
        slot.state = State::Closed;
        open(slot, how);
    }

    void finalize(Slot& slot) {
        const Hurry hurry(*this);
        Tss2_Tcti_Finalize(slot.client.context);
        slot.state = State::Final;
    }

    void transmit(Slot& slot, unsigned how) {
        Bytes command = chooseCommand(input_, contexts_).all();
        TSS2_RC expected = TSS2_RC_SUCCESS;
        if (how == 3) {  // its header does not tell its size
            const uint8_t size = input_.u8();
            if (size != command.size()) expected = TSS2_TCTI_RC_BAD_VALUE;
            command.resize(size);
            command.reserve(1);  // never null
        }
        if (slot.state != State::Transmit) expected = TSS2_TCTI_RC_BAD_SEQUENCE;
        const TSS2_RC rc = slot.client.transmit(command);
        require(rc == expected, "transmit answers by state and size", rc);
        if (rc != TSS2_RC_SUCCESS) return;
        slot.state = State::Receive;
        slot.known = 0;
    }

    /// What must be answered before it comes to waiting; nothing if it comes to that.
    static std::optional<TSS2_RC> refusal(const Slot& slot, int32_t timeout) {
        if (slot.state != State::Receive) return TSS2_TCTI_RC_BAD_SEQUENCE;
        if (timeout < TSS2_TCTI_TIMEOUT_BLOCK) return TSS2_TCTI_RC_BAD_VALUE;
        return std::nullopt;
    }

    void checkWaited(Slot& slot, TSS2_RC rc, int32_t timeout, size_t size) {
        if (rc == TSS2_TCTI_RC_TRY_AGAIN) {
            require(timeout != TSS2_TCTI_TIMEOUT_BLOCK, "who waits without end gets a response");
            require(slot.known == 0, "a response whose size was told is there");
            return;
        }
        require(size >= 10 && size <= TPM2_MAX_RESPONSE_SIZE, "the size is a response's", size);
        require(slot.known == 0 || slot.known == size, "the size stays the same", size);
        slot.known = size;
    }

    TSS2_RC wait(Slot& slot, size_t& size, uint8_t* response, int32_t timeout) {
        std::optional<Hurry> hurry;
        if (timeout == TSS2_TCTI_TIMEOUT_BLOCK) hurry.emplace(*this);
        return checkCode(Tss2_Tcti_Receive(slot.client.context, &size, response, timeout));
    }

    void receive(Slot& slot, unsigned how) {
        const int32_t timeout = kTimeouts[input_.u8() % std::size(kTimeouts)];
        const size_t room = how == 3 ? input_.u8() : TPM2_MAX_RESPONSE_SIZE + (how == 2 ? 1000 : 0);
        Bytes response(room + 1);  // never null
        size_t size = room;
        const TSS2_RC rc = wait(slot, size, response.data(), timeout);
        if (const auto expected = refusal(slot, timeout))
            return require(rc == *expected, "receive answers by state and timeout", rc);
        checkWaited(slot, rc, timeout, size);
        if (rc == TSS2_TCTI_RC_TRY_AGAIN) return;
        require(rc == (room < size ? TSS2_TCTI_RC_INSUFFICIENT_BUFFER : TSS2_RC_SUCCESS),
                "receive gives what fits", rc);
        if (rc != TSS2_RC_SUCCESS) return;
        response.resize(size);
        checkResponse(response);
        slot.state = State::Transmit;
        slot.known = 0;
        keepContext(response);
    }

    void sizeQuery(Slot& slot, unsigned how) {
        const int32_t timeout = kTimeouts[how];
        size_t size = input_.u8();
        const TSS2_RC rc = wait(slot, size, nullptr, timeout);
        if (const auto expected = refusal(slot, timeout))
            return require(rc == *expected, "a size query answers by state and timeout", rc);
        checkWaited(slot, rc, timeout, size);
        require(rc == TSS2_RC_SUCCESS || rc == TSS2_TCTI_RC_TRY_AGAIN, "a size query has no other",
                rc);
    }

    void cancel(Slot& slot) {
        const TSS2_RC rc = checkCode(Tss2_Tcti_Cancel(slot.client.context));
        if (slot.state != State::Receive)
            require(rc == TSS2_TCTI_RC_BAD_SEQUENCE, "cancel has a command to cancel", rc);
    }

    void getPollHandles(Slot& slot, unsigned how) {
        TSS2_TCTI_POLL_HANDLE handles[4] = {};
        size_t count = how;
        const TSS2_RC rc = checkCode(
            Tss2_Tcti_GetPollHandles(slot.client.context, how == 0 ? nullptr : handles, &count));
        if (slot.state == State::Final) require(rc != TSS2_RC_SUCCESS, "a finalized one has none");
        if (rc != TSS2_RC_SUCCESS || how == 0) return;
        require(manner_.tells, "a child's handles are the reason to have some");
        require(count == 1, "a context has one handle", count);
        const int ready = poll(handles, 1, 0);
        require(ready >= 0 && (handles[0].revents & POLLNVAL) == 0, "a poll handle can be polled");
        if (slot.known > 0) require(ready == 1, "a response that is there is told of");
        if (slot.state == State::Transmit)
            require(ready == 0, "where there is none, none is told of");
    }

    /// Pointers to nothing, and contexts that are none.
    void misuse(Slot& slot, unsigned how) {
        TSS2_TCTI_CONTEXT* context = slot.client.context;
        size_t size = 0;
        TSS2_RC rc = TSS2_RC_SUCCESS;
        switch (how) {
            case 0:
                rc = Tss2_Tcti_Transmit(context, 10, nullptr);
                break;
            case 1:
                rc = Tss2_Tcti_Receive(context, nullptr, nullptr, TSS2_TCTI_TIMEOUT_BLOCK);
                break;
            case 2:
                rc = Tss2_Tcti_GetPollHandles(context, nullptr, nullptr);
                break;
            default:
                rc = Tss2_Tcti_MakeSticky(context, nullptr, 0);
                break;
        }
        require(rc == TSS2_TCTI_RC_BAD_REFERENCE, "a pointer to nothing is refused", rc);
        uint64_t& magic = TSS2_TCTI_MAGIC(context);
        magic ^= 1;
        require(Tss2_Tcti_Receive(context, &size, nullptr, 0) == TSS2_TCTI_RC_BAD_CONTEXT,
                "what is not ours is refused");
        Tss2_Tcti_Finalize(context);  // leaves it alone
        magic ^= 1;
    }

    void keepContext(const Bytes& response) {
        if (codeOf(response) == 0 && response.size() > 28 && contexts_.size() < 8)
            contexts_.emplace_back(response.begin() + 10, response.end());
    }

    /// Rarely a failure, sometimes a delay.
    Child::Deed deed() {
        Child::Deed deed;
        const uint8_t choice = input_.u8();
        if (choice >= 240) {
            honest_ = false;
            (choice & 1 ? deed.transmitFails : deed.receiveFails) = TSS2_TCTI_RC_IO_ERROR;
        } else if (choice >= 128) {
            deed.tryAgain = choice & 7;
        }
        return deed;
    }

    TSS2_RC otherwise() {
        const uint8_t choice = input_.u8();
        if (choice < 224) return TSS2_RC_SUCCESS;
        honest_ = false;
        return choice & 1 ? TSS2_TCTI_RC_IO_ERROR : TSS2_TCTI_RC_NOT_IMPLEMENTED;
    }

    Input& input_;
    const test::ModelTpm::Size size_;
    const Child::Manner manner_;
    const std::string confs_[2];
    Child children_[2];
    Slot slots_[4];
    Contexts contexts_;
    bool honest_ = true;
};

}  // namespace
}  // namespace spaces::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    spaces::fuzz::prepareProcess();
    spaces::fuzz::Input input({data, size});
    spaces::fuzz::World(input).run();
    return 0;
}
