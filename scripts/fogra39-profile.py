#!/usr/bin/env python3
"""Writes a small ICC profile of the printing condition FOGRA39, for the output intent of PDF files for commercial printing.

    colprof -D FOGRA39 -qm -bm -l300 -kp 0 0.3 0.94 0.94 0.48 fogra39
    scripts/fogra39-profile.py fogra39.icc internal/print/pdf/fogra39.icc

colprof (of ArgyllCMS) computes fogra39.icc from fogra39.ti3, the measurements of Fogra that colord publishes under CC0 in
data/profiles/FOGRA39L_coated.iccprofile.xml. The small profile has the values of fogra39.icc at fewer points, from icclu (of ArgyllCMS).
The Characterization Data Registry of the ICC requires the tag "targ" and the words "Based on" in the name of a derived profile.
"""
import itertools
import struct
import subprocess
import sys

INKS, COLOURS = 5, 9  # points per ink and per coordinate of Lab
FULL = 65535


def lookup(profile, function, rows):
    """Returns the profile's values for the rows: function f is CMYK to Lab, b is Lab to CMYK, g is the distance from the gamut."""
    lines = "".join(" ".join(f"{v:.6f}" for v in row) + "\n" for row in rows)
    out = subprocess.run(["icclu", "-v0", "-f" + function, "-ir", "-pl", profile], input=lines, text=True, capture_output=True, check=True)
    return [[float(v) for v in line.split()] for line in out.stdout.splitlines() if line]


def lut16(points, inputs, rows):
    identity = struct.pack(">2H", 0, FULL)
    matrix = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    head = struct.pack(">4s4xBBBx", b"mft2", inputs, len(rows[0]), points) + matrix + struct.pack(">2H", 2, 2)
    return head + identity * inputs + b"".join(struct.pack(f">{len(r)}H", *r) for r in rows) + identity * len(rows[0])


def lab16(lab):
    """Returns Lab as encoded in a lut16Type of version 2: 0 to 100 is 0 to 65280, -128 is 0."""
    l, a, b = lab
    return [max(0, min(FULL, round(v))) for v in (l * 652.8, (a + 128) * 256, (b + 128) * 256)]


def text(s):
    return b"text\0\0\0\0" + s.encode() + b"\0"


def desc(s):
    s = s.encode() + b"\0"
    return b"desc\0\0\0\0" + struct.pack(">I", len(s)) + s + bytes(4 + 4 + 2 + 1 + 67)


source, target = sys.argv[1:]
inks = list(itertools.product([i / (INKS - 1) for i in range(INKS)], repeat=4))
colours = [(l * 100 * FULL / 65280, a * FULL / 256 - 128, b * FULL / 256 - 128)
           for l, a, b in itertools.product([i / (COLOURS - 1) for i in range(COLOURS)], repeat=3)]
a2b = lut16(INKS, 4, [lab16(v) for v in lookup(source, "f", inks)])
b2a = lut16(COLOURS, 3, [[max(0, min(FULL, round(v * FULL))) for v in r] for r in lookup(source, "b", colours)])
gamut = lut16(COLOURS, 3, [[FULL if r[0] > 0 else 0] for r in lookup(source, "g", colours)])
tags = [(("desc",), desc("Based on FOGRA39, few points")), (("cprt",), text("CC0: no rights reserved")), (("targ",), text("ICCHDAT FOGRA39")),
        (("wtpt",), b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(v * 65536) for v in (0.8448, 0.8762, 0.7457)))),
        (("A2B0", "A2B1", "A2B2"), a2b), (("B2A0", "B2A1", "B2A2"), b2a), (("gamt",), gamut)]
count = sum(len(names) for names, _ in tags)
table, data = b"", b""
for names, body in tags:
    for name in names:
        table += struct.pack(">4sII", name.encode(), 128 + 4 + 12 * count + len(data), len(body))
    data += body + bytes(-len(body) % 4)
size = 128 + 4 + len(table) + len(data)
head = struct.pack(">I4x4s4s4s4s6H4s", size, b"\x02\x40\0\0", b"prtr", b"CMYK", b"Lab ", 2006, 12, 1, 0, 0, 0, b"acsp")
head += bytes(28) + struct.pack(">3I", 0xF6D6, 0x10000, 0xD32D)
with open(target, "wb") as f:
    f.write(head + bytes(128 - len(head)) + struct.pack(">I", count) + table + data)
