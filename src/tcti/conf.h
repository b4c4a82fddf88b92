// SPDX-License-Identifier: BSD-2-Clause
// The conf string: [OPTION=VALUE,]...[CHILD[:CHILD-CONF]].
// Leading pieces between commas that hold a '=' before any ':' are options; the rest is the
// child TCTI's name and conf, passed on untouched whatever it holds.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "tpm/leftovers.h"

namespace spaces::tcti {

struct Conf {
    bool swap = false;
    std::optional<uint32_t> objects;   // slots to use at most
    std::optional<uint32_t> sessions;  // the same
    tpm::Leftovers::Policy leftovers = tpm::Leftovers::Policy::Keep;
    std::chrono::seconds wait{};  // for a TPM that another process holds
    std::string trace;            // the file to write to; empty: none
    std::string child;            // NAME or NAME:CONF; empty: the usual places are tried
};

/// One line for each option: its name, values and meaning.
extern const char kOptionsHelp[];

/// Reads a conf string; null is an empty one. Returns false, after a log line that says what is
/// wrong and what is allowed, for an unknown option, a bad value, an option that this build does
/// not have, or a child that is this library. May throw std::bad_alloc.
bool parseConf(const char* text, Conf& conf);

}  // namespace spaces::tcti
