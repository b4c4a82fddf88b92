// SPDX-License-Identifier: BSD-2-Clause
// A child TCTI: loaded by tctildr, closed with this object.
// Always holds:
// - The child is asked for a response once per command, with room for the largest one, and never
//   for a size: a size query is what child TCTIs differ in most.
// - A child with poll handles is asked only when it has something to give, and then may take its
//   time: so timeouts are exact, a signal interrupts nothing, and no response is cut in two, all of
//   which child TCTIs get wrong when they wait themselves.
// - One thread at a time.
#pragma once

#include <tss2/tss2_tcti.h>

#include <span>
#include <string>

#include "wire/response.h"

namespace spaces::tpm {

class Child {
  public:
    /// `nameAndConf` as tctildr takes it: NAME or NAME:CONF.
    explicit Child(std::string nameAndConf) : nameAndConf_(std::move(nameAndConf)) {}
    ~Child() { close(); }
    Child(const Child&) = delete;
    Child& operator=(const Child&) = delete;

    const std::string& nameAndConf() const { return nameAndConf_; }

    /// Loads and connects, unless that is done. Returns what tctildr or the child's Init says.
    TSS2_RC open();
    bool isOpen() const { return context_ != nullptr; }
    void close();

    /// In a forked process: the context is the parent's, and nothing of it is touched again, but
    /// for a connection that lasts for a command only, and a device: this process's copy is closed.
    void abandon();

    /// True of swtpm's TCTI, which has a connection only while a command is running.
    bool connectsForEachCommand() const;

    /// Its poll handles; none if it has none.
    std::span<const int> descriptors() const { return {descriptors_, descriptorCount_}; }

    /// A driver may have less room for a command than a TPM: then nothing has happened.
    static constexpr TSS2_RC kTooLarge = TSS2_TCTI_RC_BAD_VALUE;

    /// Success, kTooLarge, or what the child says.
    TSS2_RC transmit(wire::Bytes command);

    /// On success `size` octets of a well-formed response are in the buffer.
    /// TSS2_TCTI_RC_TRY_AGAIN: not yet, because of the timeout (in milliseconds, or as in
    /// tss2_tcti.h), a signal, or, for a child with poll handles, because `interruption` (an
    /// eventfd, or -1) became readable; it is read. Anything else: there will be none.
    TSS2_RC receive(wire::ResponseBuffer response, size_t& size, int32_t timeout,
                    int interruption = -1);

    /// Asks for the running command to be canceled; its response is still owed. Returns what the
    /// child says.
    TSS2_RC cancel();

    /// The last response could be had only at the price of the connection: it has to be closed.
    bool isSpent() const { return repeating_; }

    TSS2_RC setLocality(uint8_t locality);

  private:
    static constexpr size_t kMostDescriptors = 4;

    void findDescriptors();
    TSS2_RC awaitResponse(int32_t timeout, int interruption) const;
    TSS2_RC demand(wire::ResponseBuffer response, size_t& size, int32_t timeout);

    std::string nameAndConf_;
    TSS2_TCTI_CONTEXT* context_ = nullptr;
    int descriptors_[kMostDescriptors] = {};
    size_t descriptorCount_ = 0;
    bool canceled_ = false;   // the running command
    bool repeating_ = false;  // a second command was sent to get its response
};

}  // namespace spaces::tpm
