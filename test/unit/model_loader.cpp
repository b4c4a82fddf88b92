// SPDX-License-Identifier: BSD-2-Clause
// The two functions of the loader, for programs in which every child is a model of a TPM.
#include <tss2/tss2_tctildr.h>

#include "unit/model_tpm.h"

extern "C" TSS2_RC __wrap_Tss2_TctiLdr_Initialize(const char* name, TSS2_TCTI_CONTEXT** context) {
    return spaces::test::ModelTpm::load(name, context);
}

extern "C" void __wrap_Tss2_TctiLdr_Finalize(TSS2_TCTI_CONTEXT** context) {
    spaces::test::ModelTpm::unload(context);
}
