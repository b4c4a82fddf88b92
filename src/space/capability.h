// SPDX-License-Identifier: BSD-2-Clause
// GetCapability in a space (TPM 2.0 Library, Part 3, 30.2): the command goes to the TPM like any
// other, so its errors and side effects are the TPM's own; of a successful answer the lists of
// objects and sessions, and the properties that count them, are replaced by the space's own.
// An answer under an HMAC cannot be changed and is left alone: the caller sees to that.
#pragma once

#include "space/holding.h"
#include "space/ownership.h"
#include "tpm/tpm.h"
#include "wire/capability.h"
#include "wire/response.h"

namespace spaces::space {

/// True if the TPM's own successful answer lacks something loaded that the space believes to have.
bool tellsOfLoss(const wire::CapabilityQuery& query, wire::MutableBytes answer,
                 const Holding& holding, const Ownership& ownership, const tpm::Tpm& tpm);

/// Rewrites the successful answer of `size` octets in `buffer`; returns its new size. Learns from
/// it how many slots the TPM has, and which sessions that the client saved are gone. What is
/// available is what the TPM says, unless `tpm` makes room for more.
size_t rewriteCapability(const wire::CapabilityQuery& query, wire::ResponseBuffer buffer,
                         size_t size, const Holding& holding, Ownership& ownership,
                         const tpm::Tpm& tpm);

}  // namespace spaces::space
