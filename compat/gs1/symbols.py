"""Reads symbols of GS1 data with ZXing-C++ and libdmtx (dmtxread), and compares with biip what they hold: a JSON object a line in,
{"kind": "gs1-qr" | "gs1-datamatrix" | "gs1-digital-link", "text": what was to be drawn, "file": the picture}. It ends with 1 where a
symbol says something else."""

import json
import subprocess
import sys

import zxingcpp
from biip.gs1_digital_link_uris import GS1DigitalLinkURI
from biip.gs1_messages import GS1Message
from PIL import Image

SENT = {"gs1-qr": "]Q3", "gs1-datamatrix": "]d2", "gs1-digital-link": "]Q1"}
SEPARATOR = "\x1d"


def elements(found):
    # An element string has AIs of fixed length first, which no separator has to follow.
    return sorted((one.ai.ai, one.value) for one in found.element_strings)


def readings(kind, file):
    """What each reader says: the name of the reader, and the text with what stands before it."""
    found = zxingcpp.read_barcodes(Image.open(file), text_mode=zxingcpp.TextMode.Plain)
    yield "ZXing-C++", "".join(one.symbology_identifier + one.text for one in found)
    if kind == "gs1-datamatrix":
        out = subprocess.run(["dmtxread", "-n", "-N", "1", "-G", "29", file], capture_output=True, check=False).stdout.decode()
        if not out.startswith(SEPARATOR):
            yield "libdmtx", "no FNC1 at its beginning: " + out
        yield "libdmtx", SENT[kind] + out.removeprefix(SEPARATOR).removesuffix("\n")


def fault(kind, text, says):
    """What is wrong with a reading; None = nothing."""
    if not says.startswith(SENT[kind]):
        return f"want {SENT[kind]} before it"
    says = says.removeprefix(SENT[kind])
    if kind == "gs1-digital-link":
        same = says == text and elements(GS1DigitalLinkURI.parse(says)) == elements(GS1DigitalLinkURI.parse(text))
    else:
        same = elements(GS1Message.parse(says)) == elements(GS1Message.parse_hri(text))
    return None if same else "it is another text"


read, wrong = {}, 0
for line in sys.stdin:
    asked = json.loads(line)
    for reader, says in readings(asked["kind"], asked["file"]):
        try:
            why = fault(asked["kind"], asked["text"], says)
        except Exception as e:
            why = f"{type(e).__name__}: {e}"
        read[reader, asked["kind"]] = read.get((reader, asked["kind"]), 0) + 1
        if why:
            wrong += 1
            print(f"{reader}, {asked['kind']}: {asked['text']!r} is read as {says!r}: {why}")
for (reader, kind), n in sorted(read.items()):
    print(f"{reader} read {n} {kind}")
sys.exit(1 if wrong or len(read) < 4 else 0)
