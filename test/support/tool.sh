# SPDX-License-Identifier: BSD-2-Clause
#
# For script tests of tpm2-tools: source this file after `set -euo pipefail`. It starts a TPM, goes
# into a temporary folder and gives the words that the tests are written in.
#
# Always holds: `tool` runs one program in a space of its own, and after it the TPM itself is asked
# whether that space left anything. A step that goes wrong ends the test with exit status 1 and
# says which step it was and what the program printed.
#
# SPACES_LIBRARY names the library under test (default: the one in the current build folder).
# SPACES_LIBRARY=none is the control experiment: the same steps without the library, flushed by
# hand after each. What fails there is the fault of the test or of a tool, not of the library.
#
# SPACES_TEST_OPTIONS are options for its conf string, "swap=on" for one; none without it.
#
# SPACES_PRELOAD is what a program that is not ours must preload to load a library built with a
# sanitizer; empty without one.
#
# shellcheck shell=bash

source_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# shellcheck source=test/support/simulator.sh
. "$source_dir/test/support/simulator.sh"

SPACES_LIBRARY=${SPACES_LIBRARY:-$PWD/.libs/libtss2-tcti-spaces.so.0}
unset TPM2TOOLS_TCTI TSS2_LOG TSS2_LOGFILE  # what the caller's shell holds is no part of a test

session_files=0   # how many session files a test holds just now: so many sessions may be saved
preload=${SPACES_PRELOAD:-}
bare=             # the TPM itself as a TCTI
space=            # the library in front of it

# fail MESSAGE...: ends the test. Also from inside $(...), whose status `set -e` acts upon.
fail() {
    echo "FAIL: $*" >&2
    exit 1
}

# setup: called once, below.
setup() {
    if [[ $SPACES_LIBRARY != none && ! -e $SPACES_LIBRARY ]]; then
        fail "no library at $SPACES_LIBRARY: build it, or set SPACES_LIBRARY"
    fi
    simulator_start || fail "no TPM"
    bare=$simulator_tcti
    space=$SPACES_LIBRARY:${SPACES_TEST_OPTIONS:+$SPACES_TEST_OPTIONS,}$bare
    if [[ $SPACES_LIBRARY == none ]]; then space=$bare; fi
    if [[ -n $preload ]]; then initialize_sanitizer_first; fi
    mkdir "$simulator_dir/work"
    cd "$simulator_dir/work" || fail "no folder to work in"
}

# tool PROGRAM ARGUMENT...: one program, one process, one space. Its output is in the file `out`.
tool() {
    run_in_space "$@" || fail "$*: exit status $?: $(cat err)"
    expect_nothing_left "$*"
    echo "ok - $*"
}

# refused CODE PROGRAM ARGUMENT...: the program must fail, and for this reason: CODE is the TPM's
# response code as tpm2-tss prints it (0x910), or any other text that must be in its messages.
refused() {
    local code=$1
    shift
    if run_in_space "$@"; then fail "$*: succeeded, but $code was expected"; fi
    grep -qiE "0x0*${code#0x}\b|$code" err || fail "$*: failed, but not with $code: $(cat err)"
    expect_nothing_left "$*"
    echo "ok - $* (refused: $code)"
}

# The address sanitizer sets itself up at the first malloc and, in doing so, asks for a translated
# error message, which takes the lock of setlocale. In programs that link libp11-kit (all that link
# libcurl, the tpm2 tools among them) that first malloc is one made under this very lock, and they
# hang at exit. This library calls malloc before any other gets the chance.
initialize_sanitizer_first() {
    cc -shared -fPIC -Wl,-z,initfirst -o "$simulator_dir/first.so" -x c - <<'END' ||
#include <stdlib.h>
__attribute__((constructor)) static void first(void) { free(malloc(1)); }
END
        fail "the sanitizer cannot be preloaded"
    preload=$preload:$simulator_dir/first.so
}

run_in_space() {
    local status=0
    TPM2TOOLS_TCTI=$space TPM2OPENSSL_TCTI=$space LD_PRELOAD=$preload "$@" \
        >out 2>err </dev/null || status=$?
    if [[ $SPACES_LIBRARY == none ]]; then
        tpm2_flushcontext -T "$bare" --transient-object
        tpm2_flushcontext -T "$bare" --loaded-session
    fi
    return $status
}

# expect_nothing_left STEP: the TPM's own lists, asked past every space.
expect_nothing_left() {
    local left
    left=$(simulator_leftovers "$session_files") || fail "$1: the TPM cannot be asked"
    [[ -z $left ]] || fail "$1: left in the TPM: $left"
}

# same FILE TEXT: the file's content is this text. For binary content compare `hex FILE`.
same() {
    [[ $(cat "$1") == "$2" ]] || fail "$1 holds '$(cat "$1")', not '$2'"
}

hex() {
    od -An -v -tx1 "$1" | tr -d ' \n'
}

setup
