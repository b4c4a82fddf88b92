// SPDX-License-Identifier: BSD-2-Clause
// A client of the library for the fuzz targets: a TCTI context, opened as an application opens it,
// whose every answer is looked at.
// Always holds: the program ends when a response is not one of a TPM (10 to 4096 octets, as many
// as its header says) or a code is none that a TCTI may return; the context is finalized at the
// end, whatever state it is in, and refuses everything afterwards.
#pragma once

#include <tss2/tss2_tcti.h>

#include <optional>
#include <string>

#include "fuzz/input.h"
#include "unit/packets.h"

namespace spaces::fuzz {

using test::Packet;

class Client {
  public:
    Client() = default;
    ~Client() { close(); }
    Client(const Client&) = delete;
    Client& operator=(const Client&) = delete;

    /// What Init says; `context` is there if it is success.
    TSS2_RC open(const std::string& conf);
    bool isOpen() const { return context != nullptr; }
    void close();

    TSS2_RC transmit(const Bytes& command);
    /// The response, or the code in its place.
    TSS2_RC receive(Bytes& response, int32_t timeout = TSS2_TCTI_TIMEOUT_BLOCK);

    /// A command from one end to the other: the response, or nothing if it was not taken.
    std::optional<Bytes> send(const Bytes& command);

    TSS2_TCTI_CONTEXT* context = nullptr;

  private:
    Bytes memory_;
};

/// Ends the program if this is no code that a TCTI may return.
TSS2_RC checkCode(TSS2_RC rc);

/// Ends the program if this is no response.
void checkResponse(const Bytes& response);

inline TPM2_RC codeOf(const Bytes& response) { return wire::get32(&response[6]); }

/// Once, before anything else: no log but what TSS2_LOG asks for, and the model's complaints end
/// the program.
void prepareProcess();

}  // namespace spaces::fuzz
