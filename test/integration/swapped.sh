#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Runs an integration test once more, with spaces that swap: given the file
# test/integration/swapping-NAME.swap, which is a name and nothing more, test/integration/NAME.int.
#
# What always holds here: what clients are answered depends neither on swapping nor on how many of
# the TPM's slots it may use, so the test is run with several limits, and each run must pass.
set -euo pipefail

program=${1/swapping-/}
program=${program%.swap}.int
everything=("swap=on" "swap=on,objects=2,sessions=2" "swap=on,objects=1,sessions=1")
arguments=()
case ${program##*/} in
    # What is free, and what is in the TPM, is known only while everything fits.
    counts.int) everything=(swap=on) ;;
    # These say which command of a turn is the first, or care for turns as a whole.
    cancel.int | waiting.int) everything=(swap=on) ;;
    # The gap of a TPM without spaces is the same as ever.
    contexts.int) arguments=(--gtest_filter=-On/Gap.*) ;;
    # A child that cannot be opened has nothing to swap with.
    failing-child.int) arguments=(--gtest_filter=-*LateChild*) ;;
    # These swap in any case, or not at all.
    forks.int) arguments=(--gtest_filter=-*BusyThreads:*StartedProgram*) ;;
    # These set the limits themselves, or choose swapping of their own accord.
    swapping.int) everything=("${everything[@]:1}") ;;
esac
for options in "${everything[@]}"; do
    echo "== SPACES_TEST_OPTIONS=$options $program"
    SPACES_TEST_OPTIONS=$options "$program" "${arguments[@]}"
done
