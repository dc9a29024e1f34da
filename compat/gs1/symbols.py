"""Reads symbols of GS1 data with ZXing-C++ and libdmtx (dmtxread), and compares their contents with biip. Each line of input is
{"kind": "gs1-qr" | "gs1-datamatrix" | "gs1-digital-link", "text": the encoded text, "file": path of the picture}. The exit status is
1 if a symbol has another text."""

import json
import subprocess
import sys

import zxingcpp
from biip.gs1_digital_link_uris import GS1DigitalLinkURI
from biip.gs1_messages import GS1Message
from PIL import Image

IDENTIFIERS = {"gs1-qr": "]Q3", "gs1-datamatrix": "]d2", "gs1-digital-link": "]Q1"}
SEPARATOR = "\x1d"


def elements(data):
    # Sorted, because an element string begins with the AIs of fixed length, which need no separator.
    return sorted((e.ai.ai, e.value) for e in data.element_strings)


def readings(kind, file):
    """Yields the name of each reader, and its result: symbology identifier and text."""
    results = zxingcpp.read_barcodes(Image.open(file), text_mode=zxingcpp.TextMode.Plain)
    yield "ZXing-C++", "".join(result.symbology_identifier + result.text for result in results)
    if kind == "gs1-datamatrix":
        out = subprocess.run(["dmtxread", "-n", "-N", "1", "-G", "29", file], capture_output=True, check=False).stdout.decode()
        if not out.startswith(SEPARATOR):
            yield "libdmtx", "no FNC1 at the beginning: " + out
        yield "libdmtx", IDENTIFIERS[kind] + out.removeprefix(SEPARATOR).removesuffix("\n")


def fault(kind, text, result):
    """Returns why the result of a reader differs from text; None if it is equal."""
    if not result.startswith(IDENTIFIERS[kind]):
        return f"want the symbology identifier {IDENTIFIERS[kind]}"
    result = result.removeprefix(IDENTIFIERS[kind])
    if kind == "gs1-digital-link":
        same = result == text and elements(GS1DigitalLinkURI.parse(result)) == elements(GS1DigitalLinkURI.parse(text))
    else:
        same = elements(GS1Message.parse(result)) == elements(GS1Message.parse_hri(text))
    return None if same else "the texts differ"


count, failures = {}, 0
for line in sys.stdin:
    request = json.loads(line)
    for reader, result in readings(request["kind"], request["file"]):
        try:
            why = fault(request["kind"], request["text"], result)
        except Exception as e:
            why = f"{type(e).__name__}: {e}"
        count[reader, request["kind"]] = count.get((reader, request["kind"]), 0) + 1
        if why:
            failures += 1
            print(f"{reader}, {request['kind']}: {request['text']!r} is read as {result!r}: {why}")
for (reader, kind), n in sorted(count.items()):
    print(f"{reader} read {n} {kind}")
sys.exit(1 if failures or len(count) < 4 else 0)
