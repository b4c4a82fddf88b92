// SPDX-License-Identifier: BSD-2-Clause
// What the tests of swapping share: two spaces, a and b, over the swapping layer over a model of a
// TPM, and the things that they make, each with what a private TPM would answer for it.
// Always holds: at the end the spaces are closed, and nothing is left in the TPM but what a test
// says.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "swap/swap.h"
#include "unit/model_tpm.h"
#include "unit/space_test.h"
#include "wire/handle.h"

namespace spaces::test {

using Packets = std::vector<Packet>;

inline Packet create(const std::string& name, TPM2_HANDLE hierarchy = TPM2_RH_NULL) {
    return command(TPM2_CC_CreatePrimary)
        .handle(hierarchy)
        .auth({password()})
        .tpm2b()
        .tpm2b(bytes(name));
}
inline Packet loadChild(TPM2_HANDLE parent, const std::string& name) {
    return command(TPM2_CC_Load).handle(parent).auth({password()}).tpm2b().tpm2b(bytes(name));
}
inline Packet hashSequenceStart() { return command(TPM2_CC_HashSequenceStart).tpm2b().u16(11); }
inline Packet sequenceUpdate(TPM2_HANDLE sequence, const std::string& data) {
    return command(TPM2_CC_SequenceUpdate).handle(sequence).auth({password()}).tpm2b(bytes(data));
}
inline Packet sequenceComplete(TPM2_HANDLE sequence) {
    return command(TPM2_CC_SequenceComplete).handle(sequence).auth({password()}).tpm2b();
}
inline Packet startPolicy() { return startAuthSession().tpm2b().u8(TPM2_SE_POLICY); }
inline Packet policyCommandCode(TPM2_HANDLE session, uint32_t code) {
    return command(TPM2_CC_PolicyCommandCode).handle(session).u32(code);
}
inline Packet policyGetDigest(TPM2_HANDLE session) {
    return command(TPM2_CC_PolicyGetDigest).handle(session);
}
inline Packet contextLoad(const Bytes& context) {
    return command(TPM2_CC_ContextLoad).raw(context);
}

inline TPM2_RC codeOf(const Packet& answer) { return wire::get32(&answer.all()[6]); }
inline TPM2_HANDLE handleOf(const Packet& answer) {
    EXPECT_EQ(codeOf(answer), TPM2_RC_SUCCESS) << answer;
    return answer.length() >= 14 ? wire::get32(&answer.all()[10]) : 0;
}
inline Packet named(const std::string& name) { return response().tpm2b(bytes(name)); }

/// The child fails before the TPM sees the command, or when its answer is to come.
constexpr ModelTpm::Fate kNotSent = {.transmitFails = TSS2_TCTI_RC_IO_ERROR};
constexpr ModelTpm::Fate kAnswerLost = {.receiveFails = TSS2_TCTI_RC_IO_ERROR};

/// A TPM, the layers over it, and two spaces.
struct World {
    enum class Swaps { Yes, No };

    explicit World(const ModelTpm::Size& size = {}, const swap::Limits& limits = {},
                   const std::string& name = "model", Swaps swaps = Swaps::Yes)
        : tpm(name, size),
          broker(name),
          swap(broker, limits),
          top(swaps == Swaps::Yes ? static_cast<tpm::Tpm&>(swap) : broker),
          a(std::make_unique<Client>(top, ownership)),
          b(std::make_unique<Client>(top, ownership)) {}

    void close() {
        a.reset();
        b.reset();
    }

    ModelTpm tpm;
    tpm::Broker broker;
    swap::Swap swap;
    tpm::Tpm& top;
    space::Ownership ownership;
    std::unique_ptr<Client> a, b;
};

/// An object, a sequence or a policy session of a space, and what it must be.
class Thing {
  public:
    enum class Kind { Object, Sequence, Session };

    Thing(Client& client, Kind kind, const std::string& name, TPM2_HANDLE hierarchy = TPM2_RH_NULL)
        : client_(&client), kind_(kind), content_(kind == Kind::Object ? bytes(name) : Bytes()) {
        const Packet making[] = {create(name, hierarchy), hashSequenceStart(), startPolicy()};
        handle = handleOf(client.send(making[static_cast<int>(kind)]));
    }

    /// Changes it, where it can change. The answer's code; once it is gone, its number may be
    /// another's, so it is not asked for again.
    TPM2_RC use() {
        if (gone_ != 0) return gone_;
        ++uses_;
        Bytes change;
        append(change, uses_, 4);
        switch (kind_) {
            case Kind::Object:
                return check();
            case Kind::Sequence:
                return noteChange(
                    command(TPM2_CC_SequenceUpdate).handle(handle).auth({password()}).tpm2b(change),
                    change);
            default:
                return noteChange(policyCommandCode(handle, uses_), change);
        }
    }

    /// Sees what it is. A sequence is completed for that. The answer's code.
    TPM2_RC check() {
        if (gone_ != 0) return gone_;
        const Packet asking[] = {readPublic(handle), sequenceComplete(handle),
                                 policyGetDigest(handle)};
        const Packet answer = client_->send(asking[static_cast<int>(kind_)]);
        if (codeOf(answer) == TPM2_RC_SUCCESS) {
            EXPECT_EQ(answer, response().tpm2b(content_));
        }
        return noteGone(codeOf(answer));
    }

    /// It is gone.
    void forget() { gone_ = TPM2_RC_REFERENCE_H0; }

    TPM2_HANDLE handle = 0;

  private:
    TPM2_RC noteChange(const Packet& command, const Bytes& change) {
        const TPM2_RC code = codeOf(client_->send(command));
        if (code == TPM2_RC_SUCCESS) append(content_, change);
        return noteGone(code);
    }
    TPM2_RC noteGone(TPM2_RC code) {
        if (code == TPM2_RC_REFERENCE_H0) gone_ = code;
        return code;
    }

    Client* client_;
    Kind kind_;
    Bytes content_;
    uint32_t uses_ = 0;
    TPM2_RC gone_ = TPM2_RC_SUCCESS;
};

class SwapTest : public testing::Test {
  protected:
    void build(const ModelTpm::Size& size = {}, const swap::Limits& limits = {}) {
        world_.reset();
        world_ = std::make_unique<World>(size, limits);
    }
    void closeA() { world_->a.reset(); }

    void TearDown() override { closeAndCheck(); }

    /// Closes what build() made, and sees that the TPM is as it should be.
    void closeAndCheck() {
        if (!world_) return;
        tpm().fate = nullptr;
        world_->close();
        EXPECT_EQ(tpm().loadedObjects(), 0u);
        EXPECT_EQ(tpm().loadedSessions(), 0u);
        EXPECT_EQ(tpm().savedSessions(), left);
        world_.reset();
    }

    ModelTpm& tpm() { return world_->tpm; }
    Client& a() { return *world_->a; }
    Client& b() { return *world_->b; }

    TPM2_HANDLE object(Client& client, const std::string& name,
                       TPM2_HANDLE hierarchy = TPM2_RH_NULL) {
        return handleOf(client.send(create(name, hierarchy)));
    }
    TPM2_HANDLE session(Client& client) { return handleOf(client.send(startPolicy())); }
    Bytes saved(Client& client, TPM2_HANDLE handle) {
        const Packet answer = client.send(contextSave(handle));
        EXPECT_EQ(codeOf(answer), TPM2_RC_SUCCESS);
        return Bytes(answer.all().begin() + 10, answer.all().end());
    }

    /// The client's command, and what the TPM must hear for it.
    Packet expectSent(Client& client, const Packet& command, const Packets& sent) {
        tpm().takeSent();
        const Packet answer = client.send(command);
        EXPECT_EQ(tpm().takeSent(), sent);
        return answer;
    }
    /// What becomes of the next command with this code.
    void failNext(TPM2_CC code, const ModelTpm::Fate& fate) {
        tpm().fate = [code, fate, failed = false](const Packet& packet) mutable {
            if (failed || wire::get32(&packet.all()[6]) != code) return ModelTpm::Fate{};
            failed = true;
            return fate;
        };
    }
    /// The codes of the commands sent since the last time.
    std::vector<TPM2_CC> sentCodes() {
        std::vector<TPM2_CC> codes;
        for (const Packet& each : tpm().takeSent()) codes.push_back(wire::get32(&each.all()[6]));
        return codes;
    }

    size_t left = 0;  // sessions that stay saved

  private:
    std::unique_ptr<World> world_;
};

}  // namespace spaces::test
