# SPDX-License-Identifier: BSD-2-Clause
#
# A software TPM for shell scripts: source this file, call simulator_start.
#
# Always holds: the TPM listens on the loopback only, on a free pair of ports; its state lives in
# a folder of its own; when the script ends, in whatever way, the process is ended by its own
# process id and the folder is gone. Nothing that another script started is ever touched.
#
# After simulator_start:
#   $simulator_dir    a temporary folder, also for the caller's own files
#   $simulator_tcti   the TPM itself, as a TCTI: nothing stands between it and who uses this
#
# shellcheck shell=bash

simulator_dir=
simulator_pid=
simulator_tcti=

# simulator_guard CLEANUP: runs CLEANUP when the shell ends. A signal may come twice, once to the
# shell and once to its process group: the second must not end the cleaning up half-way.
simulator_guard() {
    # shellcheck disable=SC2064 # the command is what it is now
    trap "$1" EXIT
    trap 'trap "" HUP INT TERM; exit 129' HUP
    trap 'trap "" HUP INT TERM; exit 130' INT
    trap 'trap "" HUP INT TERM; exit 143' TERM
}

# simulator_start: a TPM that has been started up (TPM2_Startup CLEAR) and is empty.
simulator_start() {
    simulator_guard simulator_stop
    simulator_dir=$(mktemp -d "${TMPDIR:-/tmp}/spaces.XXXXXX") || return 1
    mkdir "$simulator_dir/tpm" || return 1

    # Someone else may hold a port, or take it first: swtpm then ends, and we draw again.
    local attempt port
    for attempt in {1..50}; do
        port=$((20000 + 2 * (SRANDOM % 6000)))
        if simulator_try_port "$port"; then
            simulator_tcti="swtpm:host=127.0.0.1,port=$port"
            return 0
        fi
    done
    echo "swtpm did not start in $attempt attempts: $(tail -n 1 "$simulator_dir/swtpm.out")" >&2
    return 1
}

# simulator_try_port PORT: swtpm writes its process id into the file once it has both of its ports.
# It stays a child of this shell, and not a daemon, so that the shell sees it end.
simulator_try_port() {
    rm -f "$simulator_dir/pid"
    swtpm socket --tpm2 --tpmstate "dir=$simulator_dir/tpm" \
        --server "type=tcp,port=$1,bindaddr=127.0.0.1" \
        --ctrl "type=tcp,port=$(($1 + 1)),bindaddr=127.0.0.1" \
        --flags not-need-init,startup-clear --pid "file=$simulator_dir/pid" \
        --log "level=20,file=$simulator_dir/log" >"$simulator_dir/swtpm.out" 2>&1 </dev/null &
    simulator_pid=$!
    while [[ ! -s $simulator_dir/pid ]]; do
        if ! kill -0 "$simulator_pid" 2>/dev/null; then
            simulator_pid=
            return 1
        fi
        sleep 0.02
    done
}

# simulator_stop: called by the EXIT trap; safe to call at any time and more than once.
simulator_stop() {
    if [[ -n $simulator_pid ]]; then
        # Whoever ends this shell may have ended swtpm as well: neither may keep `set -e` from the rest.
        kill "$simulator_pid" 2>/dev/null || true
        wait "$simulator_pid" 2>/dev/null || true
        simulator_pid=
    fi
    if [[ -n $simulator_dir ]]; then
        rm -rf "$simulator_dir"
        simulator_dir=
    fi
}

# simulator_commands: how many TPM commands this TPM has received so far, whoever sent them.
simulator_commands() {
    grep -c SWTPM_IO_Read "$simulator_dir/log" || true  # grep fails when it counts none
}

# simulator_commands_of CODE: how many of them had this command code, four hex bytes: "00 00 01 65".
# The log shows a command's bytes below its SWTPM_IO_Read line; the code is bytes 7 to 10.
simulator_commands_of() {
    awk -v code="$1" '
        read_line { sub(/^ +/, ""); if (toupper(substr($0, 19, 11)) == toupper(code)) n++ }
        { read_line = /SWTPM_IO_Read/ }
        END { print n + 0 }' "$simulator_dir/log"
}

# simulator_handles LIST: what the TPM itself lists, asked past every space. LIST is one of
# transient, loaded-session, saved-session, persistent, nv-index.
simulator_handles() {
    tpm2_getcap -T "$simulator_tcti" "handles-$1" </dev/null | awk '{ print $2 }'
}

# simulator_leftovers: what is loaded or saved in the TPM and should not be, one line of words.
# Prints nothing exactly when the TPM is empty. Saved sessions are named only beyond the number
# that the caller expects: simulator_leftovers [EXPECTED-SAVED-SESSIONS]
simulator_leftovers() {
    local expected=${1:-0} transient loaded saved
    # Each is asked in an assignment of its own, so that a TPM that cannot be asked is an error
    # and never an empty list.
    transient=$(set -o pipefail; simulator_handles transient) || return 1
    loaded=$(set -o pipefail; simulator_handles loaded-session) || return 1
    saved=$(set -o pipefail; simulator_handles saved-session) || return 1
    [[ -z $transient ]] || echo "transient objects: ${transient//$'\n'/ }"
    [[ -z $loaded ]] || echo "loaded sessions: ${loaded//$'\n'/ }"
    [[ $(wc -w <<<"$saved") -eq $expected ]] ||
        echo "saved sessions, $expected expected: ${saved//$'\n'/ }"
}
