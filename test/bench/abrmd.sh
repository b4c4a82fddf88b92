#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
#     test/bench/abrmd.sh PROGRAM
#
# Runs abrmd.bench, which compares swapping with tpm2-abrmd on one swtpm, on a D-Bus of its own.
#
# What always holds here: where tpm2-abrmd cannot be had, a line says what is missing and nothing
# fails; the bus and everything on it end with the program.

set -euo pipefail

for needed in tpm2-abrmd dbus-run-session; do
    if ! command -v "$needed" >/dev/null; then
        echo "$needed is not installed: nothing is compared."
        exit 0
    fi
done
exec dbus-run-session -- "$1"
