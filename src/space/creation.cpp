// SPDX-License-Identifier: BSD-2-Clause
// Reading the hierarchy of an object to be made; see creation.h.
#include "space/creation.h"

#include "wire/context.h"
#include "wire/handle.h"

namespace spaces::space {
namespace {

/// A primary object's handle is its hierarchy; a child's is its parent, whose hierarchy it shares.
TPM2_HANDLE hierarchyOfParent(TPM2_HANDLE parent, const Holding& holding) {
    if (const Object* object = holding.find(parent)) return object->hierarchy;
    return wire::baseHierarchy(parent);
}

/// LoadExternal: a private and a public area, each behind its size, then the hierarchy. An
/// encrypted first parameter keeps its size in clear.
TPM2_HANDLE hierarchyOfExternal(wire::Bytes rest) {
    for (int area = 0; area < 2; ++area) {
        if (rest.size() < 2) return 0;
        const size_t size = 2 + size_t{wire::get16(rest.data())};
        if (rest.size() < size) return 0;
        rest = rest.subspan(size);
    }
    return rest.size() < 4 ? 0 : wire::baseHierarchy(wire::get32(rest.data()));
}

TPM2_HANDLE hierarchyOfContext(const wire::Context& context) {
    return context.empty() ? 0 : wire::baseHierarchy(context.hierarchy());
}

}  // namespace

TPM2_HANDLE hierarchyOfNew(const wire::Command& command, size_t handles, const Holding& holding) {
    switch (command.code()) {
        case TPM2_CC_CreatePrimary:
        case TPM2_CC_Load:
        case TPM2_CC_CreateLoaded:
            return command.handlesPresent(1) == 0 ? 0
                                                  : hierarchyOfParent(command.handle(0), holding);
        case TPM2_CC_LoadExternal:
            return hierarchyOfExternal(command.parameters(handles));
        case TPM2_CC_ContextLoad:
            return hierarchyOfContext(wire::Context(command.parameters(handles)));
        case TPM2_CC_HashSequenceStart:
        case TPM2_CC_HMAC_Start:
            return TPM2_RH_NULL;
        default:
            return 0;
    }
}

}  // namespace spaces::space
