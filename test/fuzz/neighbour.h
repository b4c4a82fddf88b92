// SPDX-License-Identifier: BSD-2-Clause
// A client beside those that the fuzzer plays: it makes an object and a session before them, and
// sees now and then that it still has both, as they were.
// Always holds: what it has, nothing that a client of another space sends can take away; only what
// happens to the TPM itself can (lose()), and without swapping its things never leave the TPM.
#pragma once

#include "fuzz/client.h"
#include "unit/swap_test.h"

namespace spaces::fuzz {

class Neighbour {
  public:
    explicit Neighbour(const std::string& conf) {
        require(client_.open(conf) == TSS2_RC_SUCCESS, "the neighbour opens");
        const auto object = client_.send(test::create("neighbour", TPM2_RH_NULL));
        const auto session = client_.send(test::startPolicy());
        require(codeOf(*object) == 0 && codeOf(*session) == 0, "the neighbour has its things");
        object_ = wire::get32(&(*object)[10]);
        session_ = wire::get32(&(*session)[10]);
        require(object_ == TPM2_TRANSIENT_FIRST, "a space's first object", object_);
        use(test::policyCommandCode(session_, TPM2_CC_Sign), test::response());
    }

    /// What it has may be gone from now on: something happened to the TPM.
    void lose() { lost_ = true; }
    /// The TPM may have no room to bring it back, for now: it was told to shut down, or sessions
    /// that are nobody's stand at the context gap.
    void mayLackRoom() { mayLackRoom_ = true; }

    void check() {
        use(test::readPublic(object_), test::named("neighbour"));
        Bytes policy;
        test::append(policy, TPM2_CC_Sign, 4);
        use(test::policyGetDigest(session_), test::response().tpm2b(policy));
    }
    void close() { client_.close(); }

  private:
    void use(const Packet& command, const Packet& expected) {
        const auto response = client_.send(command);
        require(response.has_value(), "the neighbour's command is taken");
        const TPM2_RC code = codeOf(*response);
        const bool lacksRoom = code == TPM2_RC_OBJECT_MEMORY || code == TPM2_RC_SESSION_MEMORY ||
                               code == TPM2_RC_CONTEXT_GAP;
        if (lost_ || (mayLackRoom_ && lacksRoom)) return;
        require(*response == expected.all(), "the neighbour keeps what it has", code);
    }

    Client client_;
    TPM2_HANDLE object_ = 0, session_ = 0;
    bool lost_ = false, mayLackRoom_ = false;
};

}  // namespace spaces::fuzz
