#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
#     run.sh KERNEL LIBRARY SUITE PROGRAM
#
# Boots a kernel in qemu, with a TPM that is a swtpm of its own, and runs a suite there over its
# devices /dev/tpm0 and /dev/tpmrm0: check (the cases of tools.sh and of the program), long (those
# of the program alone) or counts (the program works, and a table says what TPM commands that took).
# The library is the one given. No disk, no network, no root, and nothing is downloaded.
#
#     SPACES_KERNEL_ACCEL=kvm     tcg (the default) works everywhere; kvm is faster where it works
#     SPACES_KERNEL_TPM=tpm-crb   the TPM's interface: tpm-tis (the default) or tpm-crb
#     SPACES_KERNEL_LIMIT=SECONDS then it is ended, and what is missing has failed
#     SPACES_KERNEL_KEEP=FOLDER   keeps the serial lines and the TPM's log there
#     GTEST_FILTER=PATTERN        these of the programs' cases alone
#     TSS2_LOG=tcti+debug         holds in the guest; the log is with the console
#
# What always holds here: each case that there is becomes one line, "ok - NAME" or "not ok - NAME",
# a case that was never heard of the latter; the status is 0 only when all are ok. It ends within
# a time that the suite sets, and with it, in whatever way, the two processes that it started.

set -euo pipefail
export LC_ALL=C
here=$(cd "$(dirname "$0")" && pwd)
kernel=$1 library=$2 suite=$3 program=$4
accel=${SPACES_KERNEL_ACCEL:-tcg}
interface=${SPACES_KERNEL_TPM:-tpm-tis}
started=()

fail() {
    echo "check-kernel: $*" >&2
    exit 1
}

declare -A seconds=([check]=300 [long]=3600 [counts]=1200)
limit=${SPACES_KERNEL_LIMIT:-${seconds[$suite]:-}}
[[ -n $limit ]] || fail "$suite: the suites are ${!seconds[*]}"
[[ -r $kernel ]] ||
    fail "no kernel at '$kernel': name one in SPACES_KERNEL (test/kernel/fetch-kernel.sh)"
for needed in qemu-system-x86_64 swtpm busybox cpio tpm2; do
    command -v "$needed" >/dev/null ||
        fail "$needed is missing: script/install-dependencies test kernel installs it"
done

work=$(mktemp -d "${TMPDIR:-/tmp}/spaces-kernel.XXXXXX")
finish() {
    local pid
    for pid in "${started[@]}"; do
        kill -KILL "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    if [[ -n ${SPACES_KERNEL_KEEP:-} ]]; then
        mkdir -p "$SPACES_KERNEL_KEEP"
        cp "$work"/{console,results,tpm.log} "$SPACES_KERNEL_KEEP" 2>/dev/null || true
    fi
    rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

list_tests() {
    "$program" --gtest_list_tests | awk '/^[^ ]/ { suite = $1; next } { print suite $1 }'
}

list_cases() {
    [[ $suite != counts ]] || { echo counts; return; }
    [[ $suite != check || -n ${GTEST_FILTER:-} ]] || bash "$here/tools.sh" --list
    list_tests
}

# Level 20 is every command, which only counting needs.
start_tpm() {
    local level=1
    [[ $suite != counts ]] || level=20
    mkdir "$work/state"
    setpriv --pdeathsig KILL swtpm socket --tpm2 --tpmstate "dir=$work/state" \
        --ctrl "type=unixio,path=$work/tpm" --log "level=$level,file=$work/tpm.log" \
        >"$work/swtpm.out" 2>&1 </dev/null &
    started+=($!)
    until [[ -S $work/tpm ]]; do
        kill -0 "${started[-1]}" 2>/dev/null ||
            fail "swtpm does not start: $(cat "$work/swtpm.out")"
        sleep 0.05
    done
}

# What the kernel does not know, it makes variables of /init's environment.
start_machine() {
    local variables="SUITE=$suite" name
    for name in GTEST_FILTER TSS2_LOG; do
        [[ -z ${!name:-} ]] || variables+=" $name=${!name}"
    done
    : >"$work/results"
    setpriv --pdeathsig KILL qemu-system-x86_64 -no-user-config -nodefaults -display none -no-reboot \
        -machine q35 -accel "$accel" -m 384 \
        -kernel "$kernel" -initrd "$work/initramfs" \
        -append "console=ttyS0 quiet panic=-1 mitigations=off $variables" \
        -serial "file:$work/console" -serial "file:$work/results" \
        -chardev "socket,id=tpm,path=$work/tpm" -tpmdev emulator,id=tpm,chardev=tpm \
        -device "$interface,tpmdev=tpm" >"$work/qemu.out" 2>&1 </dev/null &
    started+=($!)
}

wait_for_machine() {
    local deadline=$((SECONDS + limit))
    while kill -0 "${started[-1]}" 2>/dev/null; do
        ((SECONDS < deadline)) || {
            echo "# not done after $limit seconds"
            return
        }
        sleep 0.2
    done
}

report() {
    local name failed=0
    tr -d '\r' <"$work/results" >"$work/lines"
    grep -vx 'end' "$work/lines" || true
    while read -r name; do
        grep -qxF "ok - $name" "$work/lines" || failed=$((failed + 1))
        grep -qxF -e "ok - $name" -e "not ok - $name" "$work/lines" ||
            echo "not ok - $name # nothing was heard of it"
    done <"$work/cases"
    grep -qx end "$work/lines" || {
        failed=$((failed + 1))
        echo '# the guest did not come to its end; qemu and the console said:'
        tail -n 40 "$work/qemu.out" "$work/console" | tr -d '\r' | sed 's/^/# /'
    }
    echo "# $(wc -l <"$work/cases") cases, $failed failed"
    ((failed == 0))
}

list_cases >"$work/cases"
[[ -s $work/cases ]] || fail 'there are no cases'
bash "$here/initramfs.sh" "$work/initramfs" "$library" "$program"
start_tpm
start_machine
wait_for_machine
report
if [[ $suite == counts ]]; then awk -f "$here/counts.awk" "$work/tpm.log"; fi
