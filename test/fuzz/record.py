#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Seeds for the fuzz targets from real traffic: test/fuzz/record.py LIBRARY FOLDER.

Runs the tests of tpm2-tools over a software TPM with a capture (tcti-pcap) between the tools and
LIBRARY, and writes what the tools said and were answered as inputs of the targets into FOLDER/NAME/.
What always holds here: the captures are temporary; a test that fails ends this; the same traffic
gives the same files, whose names are their contents' digests.
"""

import hashlib
import os
import pathlib
import struct
import subprocess
import sys
import tempfile

PCAP = "libtss2-tcti-pcap.so.0"
SCRIPTS = ["keys", "policy", "hash", "attest", "nv"]
CONTEXT_SAVE, CONTEXT_LOAD = 0x162, 0x161

# The first octets of the inputs; see the targets.
COMMAND_SETTINGS = [0x0A00, 0x0A01, 0x0027, 0x0A02, 0x3A01]
RESPONSE_SETTINGS = [b"\x0a\x00", b"\x0a\x01", b"\x00\x25"]
CLOSE_FIRST = 3 | 6 << 2
# How test/fuzz/steps.h makes a command of this code.
KINDS = {0x131: 0, 0x176: 1, 0x173: 3, 0x189: 4, 0x16C: 5, 0x162: 6, 0x161: 7, 0x165: 8, 0x157: 9,
         0x15E: 10, 0x148: 11, 0x186: 12, 0x15C: 13, 0x13E: 14, 0x17A: 15, 0x17B: 23}
ANSWER_WITH = 0x94  # the deed in test/fuzz/response.cpp

CONFS = ["", "model", "swap=on,model", "swap=on,objects=2,sessions=1,model", "swap=off,swtpm",
         "device:/dev/tpmrm0", "model:a=b,c:d", "leftovers=keep,wait=0,model", "trace=x,model",
         "swap=on,objects=0,model", "spaces", "libtss2-tcti-spaces.so.0:swtpm", "swap=maybe,model",
         "objects=1,model", "pcap:device", "model\0swap=on,model", "swap=on,model\0model"]


def library_path(name):
    for line in subprocess.check_output(["ldconfig", "-p"], text=True).splitlines():
        if line.strip().startswith(name):
            return line.split("=> ")[1]
    sys.exit(f"record.py: {name} is missing")


def capture(script, library, folder):
    """Runs one of the tests and returns the bytes of its capture."""
    file = pathlib.Path(folder) / f"{script}.pcapng"
    source = pathlib.Path(__file__).parents[1] / "integration" / f"tpm2-tools-{script}.sh"
    # The test puts its options before the TPM's name: so the library comes behind the capture.
    environment = dict(os.environ, TCTI_PCAP_FILE=str(file), SPACES_LIBRARY=library_path(PCAP),
                       SPACES_TEST_OPTIONS=f"{library}:swap=on")
    subprocess.run(["bash", source], env=environment, check=True, stdout=subprocess.DEVNULL)
    return file.read_bytes()


def packets(capture_bytes):
    """None where a connection begins, else the octets of a command or response."""
    at = 0
    while at + 8 <= len(capture_bytes):
        kind, size = struct.unpack_from("<II", capture_bytes, at)
        if kind == 0x0A0D0D0A:
            yield None
        elif kind == 6:
            length = struct.unpack_from("<I", capture_bytes, at + 20)[0]
            frame = capture_bytes[at + 28:at + 28 + length]
            yield frame[40:]  # behind the headers of IP and TCP
        at += size


def exchanges(capture_bytes):
    """None where a connection begins, else a command and its response."""
    command = None
    for packet in packets(capture_bytes):
        if packet is None:
            command = None
            yield None
        elif command is None:
            command = packet
        elif len(packet) >= 10:
            yield command, packet
            command = None


def code(packet):
    return struct.unpack_from(">I", packet, 6)[0]


def command_steps(pairs):
    """The steps of the target `command`."""
    saves = 0
    for pair in pairs:
        if pair is None:
            yield bytes([CLOSE_FIRST])
            continue
        command, response = pair
        how = 0
        if code(command) == CONTEXT_LOAD:  # the latest, as the target calls it
            command = struct.pack(">HII", 0x8001, 10, CONTEXT_LOAD)
            how = min(max(saves, 1), 63) << 2
        elif code(command) == CONTEXT_SAVE and code(response) == 0:
            saves += 1
        yield bytes([how]) + command


def response_steps(pairs):
    """The steps of the target `response`."""
    for pair in pairs:
        if pair is None:
            yield bytes([3, 0])
            continue
        command, response = pair
        if code(command) not in KINDS or len(response) > 255:
            continue
        yield (bytes([0, KINDS[code(command)], 0]) + bytes([0] if code(command) == 0x161 else []) +
               bytes([ANSWER_WITH, len(response)]) + response)


def pieces(steps, count):
    steps = list(steps)
    for start in range(0, len(steps), count):
        yield b"".join(steps[start:start + count])


def write(folder, name, content):
    target = pathlib.Path(folder) / name
    target.mkdir(parents=True, exist_ok=True)
    (target / hashlib.sha1(content).hexdigest()).write_bytes(content)


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    library, folder = os.path.abspath(sys.argv[1]), sys.argv[2]
    with tempfile.TemporaryDirectory() as captures:
        for script in SCRIPTS:
            pairs = list(exchanges(capture(script, library, captures)))
            for number, piece in enumerate(pieces(command_steps(pairs), 24)):
                settings = COMMAND_SETTINGS[number % len(COMMAND_SETTINGS)]
                write(folder, "command", struct.pack(">H", settings) + piece)
            for number, piece in enumerate(pieces(response_steps(pairs), 16)):
                write(folder, "response", RESPONSE_SETTINGS[number % len(RESPONSE_SETTINGS)] + piece)
            print(f"{script}: {sum(pair is not None for pair in pairs)} commands")
    for conf in CONFS:
        write(folder, "conf", conf.encode())
    # Calls have no traffic: three contexts, each with a command, taken in turn.
    write(folder, "calls", b"\x0a\x01\x00" + b"".join(
        bytes([slot << 4 | 12, slot << 4, 0, 0, slot << 4 | 3, 1]) for slot in range(3)))


main()
