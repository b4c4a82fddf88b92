// SPDX-License-Identifier: BSD-2-Clause
// Why a child TCTI could not be opened, and what its user can do about it. The child's code says
// little: here its device is looked at, which only happens after it has failed.
#pragma once

#include <tss2/tss2_common.h>

#include <string>

namespace spaces::tpm {

struct Diagnosis {
    bool busy = false;   // in somebody else's hands, or not there yet: it may be free later
    std::string advice;  // what is wrong and what to do, in one line
    std::string device;  // that a process holds alone; empty if it is another kind of child
};

/// `child` is NAME or NAME:CONF, `rc` what opening it gave. Without memory there is no diagnosis.
Diagnosis diagnose(const std::string& child, TSS2_RC rc) noexcept;

/// True if the device can be opened now. It is not kept open.
bool isFree(const std::string& device);

}  // namespace spaces::tpm
