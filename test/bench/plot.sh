#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
#     test/bench/swapping.bench --traces | test/bench/plot.sh >doc/swapping.svg
#
# Draws some lines of the table that swapping.bench prints as bars: TPM commands for one client
# command, bare and with each way of swapping.
#
# What always holds here: awk and nothing else draws; the same table makes the same bytes; a trace
# that the table does not have ends the script with an error. A cross in place of a bar: the work
# fails.

set -euo pipefail
export LC_ALL=C

awk -F ' *[|] *' '
    function text(x, y, anchor, size, what) {
        printf "<text x=\"%g\" y=\"%g\" text-anchor=\"%s\" font-size=\"%g\">%s</text>\n", x, y,
               anchor, size, what
    }
    function bar(x, y, height, colour) {
        printf "<rect x=\"%g\" y=\"%g\" width=\"%g\" height=\"%g\" fill=\"%s\"/>\n", x, y, wide,
               height, colour
    }
    # What a trace is called, in two lines.
    function label(x, name,    words, count, i, line, lines) {
        count = split(name, words, " ")
        for (i = 1; i <= count; ++i) {
            if (line != "" && length(line " " words[i]) > 20) {
                text(x, floor + 18 + 14 * lines++, "middle", 11, line)
                line = ""
            }
            line = line (line == "" ? "" : " ") words[i]
        }
        text(x, floor + 18 + 14 * lines, "middle", 11, line)
    }
    BEGIN {
        traces = split("1 object in turn|3 objects in turn|4 objects in turn|16 objects in turn|" \
                       "16 objects, Zipf|a parent between 4 children in turn|" \
                       "load, use, flush in 4 spaces|3 sessions in turn|4 sessions in turn",
                       trace, "|")
        columns = split("bare|optimum|this library|LRU|abrmd|kernel", column, "|")
        split("#8d99a6|#2b2d42|#1b8a5a|#e0a030|#4a7fc1|#b5434f", colour, "|")
        left = 50; floor = 330; step = 28; most = 10; wide = 17; group = 126
    }
    NR == 1 { for (i = 2; i < NF; ++i) place[$i] = i }
    { for (i = 3; i < NF; ++i) figure[$2, i] = $i }
    END {
        width = left + traces * group + 10
        printf "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d 390\" ", width
        print "font-family=\"sans-serif\">"
        print "<!-- SPDX-License-Identifier: BSD-2-Clause -->"
        print "<!-- Made by test/bench/plot.sh from the table of test/bench/swapping.bench. -->"
        printf "<rect width=\"%d\" height=\"390\" fill=\"white\"/>\n", width
        text(left, 18, "start", 13, "TPM commands for one client command; a cross: fails")
        for (i = 0; i <= most; i += 2) {
            y = floor - i * step
            printf "<path d=\"M%d %gH%d\" stroke=\"#ddd\"/>\n", left, y, width - 10
            text(left - 6, y + 4, "end", 11, i)
        }
        for (c = 1; c <= columns; ++c) {
            x = left + 420 + (c - 1) * 110
            bar(x, 8, 12, colour[c])
            text(x + wide + 5, 18, "start", 12, column[c])
        }
        for (t = 1; t <= traces; ++t) {
            for (c = 1; c <= columns; ++c) {
                value = figure[trace[t], place[column[c]]]
                if (value == "") exit 1
                x = left + (t - 1) * group + 9 + (c - 1) * (wide + 2)
                if (value == "fails") {
                    printf "<path d=\"M%g %gl8 8m0 -8l-8 8\" stroke=\"%s\" stroke-width=\"2\"/>\n",
                           x + 2, floor - 12, colour[c]
                    continue
                }
                bar(x, floor - value * step, value * step, colour[c])
                text(x + wide / 2, floor - value * step - 3, "middle", 7,
                     value + 0 == int(value) ? int(value) : value)
            }
            label(left + (t - 0.5) * group, trace[t])
        }
        print "</svg>"
    }' || { echo 'plot.sh: this is not the table of swapping.bench --traces' >&2; exit 1; }
