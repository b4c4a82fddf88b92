// SPDX-License-Identifier: BSD-2-Clause
// A child TCTI: loaded by tctildr, closed with this object.
// Always holds: the child is asked for a response once per command, with room for the largest
// one, and never for a size: a size query is what child TCTIs differ in most.
#pragma once

#include <tss2/tss2_tcti.h>

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

    TSS2_RC transmit(wire::Bytes command);

    /// On success `size` octets of a well-formed response are in the buffer.
    /// TSS2_TCTI_RC_TRY_AGAIN: not yet. Anything else: there will be none.
    TSS2_RC receive(wire::ResponseBuffer response, size_t& size, int32_t timeout);

    TSS2_RC cancel();
    TSS2_RC setLocality(uint8_t locality);

  private:
    std::string nameAndConf_;
    TSS2_TCTI_CONTEXT* context_ = nullptr;
};

}  // namespace spaces::tpm
