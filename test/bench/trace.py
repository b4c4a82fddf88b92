#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
#
#     test/bench/trace.py <TRACE >doc/trace.svg
#
# Draws what trace=FILE has written: a row for each space, and below them how many objects are in
# the TPM. What always holds here: the same trace makes the same bytes; one without spans is an
# error. Time is the order of events and how long they took, not the pauses between them.

import json
import sys

COLOURS = {"client": "#4472c4", "move": "#e07b39", "flush": "#8a8a8a", "question": "#b0a030"}
SHORT = {"LoadExternal": "new", "ContextSave": "save", "ContextLoad": "load",
         "FlushContext": "flush"}
WIDTH, LEFT, ROW, SLOT = 1180, 90, 44, 14


def svg_text(x, y, what, anchor="start", size=12, more=""):
    return (f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" {more}>'
            f"{what}</text>")


def columns(spans):
    """Where each span begins and ends: pauses are left out, and short ones can be seen."""
    lengths = [max(span["dur"], 60.0) ** 0.5 for span in spans]
    scale, at, places = (WIDTH - LEFT - 10) / sum(lengths), LEFT, []
    for length in lengths:
        places.append((at, length * scale))
        at += length * scale
    return places


def draw(events):
    spans = sorted((e for e in events if e["ph"] == "X"), key=lambda e: e["ts"])
    if not spans:
        sys.exit("trace.py: there is no span in it")
    rows = sorted({span["tid"] for span in spans})
    places, top = columns(spans), 34
    floor = top + len(rows) * ROW + 4 * SLOT
    out = []
    for i, kind in enumerate(k for k in COLOURS if any(s["cat"] == k for s in spans)):
        out.append(f'<rect x="{LEFT + 190 * i}" y="8" width="12" height="12" fill="{COLOURS[kind]}"/>')
        what = {"client": "the client's command", "move": "swapping", "flush": "closing",
                "question": "a question"}[kind]
        out.append(svg_text(LEFT + 190 * i + 18, 18, what))
    for i, row in enumerate(rows):
        out.append(svg_text(8, top + i * ROW + 24, f"space {i + 1}"))
    for span, (x, width) in zip(spans, places):
        y = top + rows.index(span["tid"]) * ROW
        out.append(f'<rect x="{x:.1f}" y="{y}" width="{max(width - 1, 1):.1f}" height="{ROW - 8}" '
                   f'fill="{COLOURS[span["cat"]]}"><title>{span["name"]}</title></rect>')
        out.append(svg_text(x + width / 2, y + 18, SHORT.get(span["name"], span["name"]), "middle",
                            9, f'fill="white" transform="rotate(-90 {x + width / 2:.1f} {y + 18})"'))
    out.append(svg_text(8, floor - SLOT, "objects in"))
    out.append(svg_text(8, floor, "the TPM"))
    counters = [e for e in events if e["ph"] == "C"]
    for span, (x, width) in zip(spans, places):
        end = span["ts"] + span["dur"]
        later = [s["ts"] for s in spans if s["ts"] > span["ts"]]
        until = min(later) if later else float("inf")
        seen = [c["args"]["objects"] for c in counters if c["ts"] <= max(end, until)]
        for slot in range(seen[-1] if seen else 0):
            out.append(f'<rect x="{x:.1f}" y="{floor - (slot + 1) * SLOT}" width="{width:.1f}" '
                       f'height="{SLOT - 2}" fill="#6aa84f"/>')
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {floor + 12}" '
            'font-family="sans-serif">\n<rect width="100%" height="100%" fill="white"/>\n'
            + "\n".join(out) + "\n</svg>\n")


sys.stdout.write(draw(json.load(sys.stdin)))
