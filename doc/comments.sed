# SPDX-License-Identifier: BSD-2-Clause
#
# What doxygen reads in place of a header of src/ (doc/Doxyfile.in): the comment at its top is what
# the file is about, and one behind a member is that member's.

1,/^#pragma once/ {
    1 s|^// SPDX.*|/// @file|
    s|^//( .*)?$|///\1|
}
/NOLINT|^} +\/\/ namespace/! s|^( *[^/ ].*[^ ]) +// |\1 ///< |
