# SPDX-License-Identifier: BSD-2-Clause
#
# Reads the log of a swtpm (level 20) that the program counts has worked on, and prints the table:
# TPM commands for each command of the client.
#
# What always holds here: every command that the TPM received between two marks is counted, whoever
# sent it, but for GetRandom, which the kernel sends for itself; what was not marked is not in the
# table.

BEGIN {
    for (i = 0; i < 256; i++) char[sprintf("%02X", i)] = sprintf("%c", i)
    hash = "0000017D"
    getRandom = "0000017B"
}

# The text in a TPM2_Hash command: behind the header and the size of the data, in hexadecimal.
function text(command,    size, at, all) {
    size = (index("0123456789ABCDEF", substr(command, 23, 1)) - 1) * 16 \
        + index("0123456789ABCDEF", substr(command, 24, 1)) - 1
    for (at = 25; at < 25 + 2 * size; at += 2) all = all char[substr(command, at, 2)]
    return all
}

function note(title, figure,    part) {
    split(title, part, "|")
    if (!(part[1] in known)) { rows[++rowCount] = part[1]; known[part[1]] }
    if (!(part[2] in known)) { columns[++columnCount] = part[2]; known[part[2]] }
    cell[part[1], part[2]] = figure
}

function received(command,    code, mark, part) {
    code = substr(command, 13, 8)
    if (code != hash) { commands += code != getRandom; return }
    mark = text(command)
    split(mark, part, "|")
    if (part[1] == "begin") {
        commands = 0
        title = part[2] "|" part[3]
        uses = part[4]
    } else if (part[1] == "end") {
        note(title, sprintf("%.2f", commands / uses))
    } else if (part[1] == "fails") {
        note(part[2] "|" part[3], "fails")
    }
}

/SWTPM_IO_Read/ { reading = 1; command = ""; next }
/SWTPM_IO_Write|Ctrl/ { if (reading) received(command); reading = 0; next }
reading { gsub(/[^0-9A-Fa-f]/, ""); command = command toupper($0) }

END {
    line = "| one command on |"
    rule = "|---|"
    for (c = 1; c <= columnCount; c++) { line = line " " columns[c] " |"; rule = rule "---|" }
    print line "\n" rule
    for (r = 1; r <= rowCount; r++) {
        line = "| " rows[r] " |"
        for (c = 1; c <= columnCount; c++) line = line " " cell[rows[r], columns[c]] " |"
        print line
    }
}
