#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Several users of one TPM, each a tpm2 tool. Without the library they fill the TPM up and see each
# other's objects and sessions; with it a tool finds what it would find on a TPM of its own.
# "Of its own" is not written down here: each probe first runs on the empty TPM, without the
# library, and must print exactly the same, errors included, through a space of a TPM that is in use.

set -euo pipefail
# shellcheck source=test/support/tool.sh
. "$(dirname "$0")/../support/tool.sh"

[[ $SPACES_LIBRARY != none ]] || fail "there is no isolation to test without the library"

bare_tool() { "$@" -T "$bare" >out 2>err </dev/null; }

probes=(
    "tpm2_getcap handles-transient"
    "tpm2_getcap handles-loaded-session"
    "tpm2_getcap handles-saved-session"
    "tpm2_readpublic -c 0x80000000"
    "tpm2_flushcontext 0x80000000"
    "tpm2_flushcontext 0x02000000"
    "tpm2_flushcontext --transient-object"
    "tpm2_flushcontext --loaded-session"
    "tpm2_flushcontext --saved-session"
    "tpm2_sign -c 0x80000000 -g sha256 -o sig $simulator_dir/message"
    "tpm2_evictcontrol -C o -c 0x80000000 0x81000001"
)
printf 'message' >"$simulator_dir/message"

# probe HOW: runs all probes by `bare_tool` or `run_in_space` and prints what a user would see.
probe() {
    local line status
    for line in "${probes[@]}"; do
        status=0
        # shellcheck disable=SC2086 # a probe is a line of words
        "$1" $line || status=$?
        echo "$line: exit status $status"
        cat out err
    done
}

probe bare_tool >"$simulator_dir/alone"
grep -q 'readpublic.* exit status 1' "$simulator_dir/alone" || fail "the probes did not run"

# Without the library: nobody flushes, the fourth tool fails, and so does every one after it.
for i in 1 2 3; do
    bare_tool tpm2_createprimary -C o -G ecc -c "bare$i.ctx" || fail "bare TPM: $(cat err)"
done
if bare_tool tpm2_createprimary -C o -G ecc -c bare4.ctx; then fail "no end of memory"; fi
grep -q 0x902 err || fail "failed, but not for want of memory: $(cat err)"
echo "ok - on the bare TPM the fourth tool fails with 0x902"
bare_tool tpm2_flushcontext --transient-object

# With it: the same tools, and as many as one likes.
for i in 1 2 3 4 5 6; do
    tool tpm2_createprimary -C o -G ecc -c "space$i.ctx"
done

# Someone else's object and session stay in the TPM from here on.
bare_tool tpm2_createprimary -C o -G ecc -c theirs.ctx
bare_tool tpm2_startauthsession -S theirs.session
theirs_object=$(simulator_handles transient)
theirs_session=$(simulator_handles saved-session)
[[ $theirs_object == 0x80000000 && $theirs_session == 0x2000000 ]] || fail "no foreign object"

probe run_in_space >"$simulator_dir/beside"
diff "$simulator_dir/alone" "$simulator_dir/beside" ||
    fail "a space beside others (>) differs from a TPM of one's own (<)"
echo "ok - ${#probes[@]} probes see a TPM of their own"
[[ $(simulator_handles transient) == "$theirs_object" ]] || fail "the foreign object was flushed"
[[ $(simulator_handles saved-session) == "$theirs_session" ]] || fail "the foreign session is gone"
echo "ok - what others had in the TPM is still there"

# A tool works beside it, and only its own things go when it ends.
run_in_space tpm2_create -C space1.ctx -G ecc -u key.pub -r key.priv -c key.ctx || fail "$(cat err)"
run_in_space tpm2_sign -c key.ctx -g sha256 -o sig "$simulator_dir/message" || fail "$(cat err)"
[[ $(simulator_handles transient) == "$theirs_object" ]] || fail "a tool left or took something"
echo "ok - tools work beside a foreign object"

# The session file is for whoever holds it: a space may take the session in and end it.
run_in_space tpm2_flushcontext theirs.session || fail "$(cat err)"
[[ -z $(simulator_handles saved-session) ]] || fail "the session is still there"
bare_tool tpm2_flushcontext --transient-object

# Two users at the same time, each with one object in the TPM at most: they fit beside each other.
user() {
    local i
    for i in {1..8}; do
        TPM2TOOLS_TCTI=$space tpm2_createprimary -C "$1" -G ecc -c "user-$1.ctx" -Q </dev/null
        TPM2TOOLS_TCTI=$space tpm2_readpublic -c "user-$1.ctx" -n "user-$1.$i" -Q </dev/null
        cmp "user-$1.1" "user-$1.$i"
    done
}
export LD_PRELOAD=$preload
user o >user-o.log 2>&1 &
first=$!
user e >user-e.log 2>&1 &
second=$!
wait "$first" || fail "the first of two users: $(cat user-o.log)"
wait "$second" || fail "the second of two users: $(cat user-e.log)"
expect_nothing_left "two users at the same time"
echo "ok - two users at the same time"
