"""Reads GS1 data with biip: a JSON object a line in, one a line out. {"kind": "uri" | "brackets" | "elements", "text": "..."} is
answered {"ok": true, "elements": [[AI, value], ...], "uri": its canonical URI} or {"ok": false, "why": "..."}."""

import json
import sys

from biip import ParseError
from biip.gs1_digital_link_uris import GS1DigitalLinkURI
from biip.gs1_messages import GS1Message

READ = {"uri": GS1DigitalLinkURI.parse, "brackets": GS1Message.parse_hri, "elements": GS1Message.parse}


def read(kind, text):
    found = READ[kind](text).element_strings
    wrong = [e for one in found for e in (one.gln_error, one.gtin_error, one.sscc_error) if e]
    if wrong:
        raise ParseError(wrong[0])
    answer = {"ok": True, "elements": [[one.ai.ai, one.value] for one in found]}
    try:
        answer["uri"] = GS1DigitalLinkURI.from_element_strings(found).as_canonical_uri()
    except Exception:  # without a primary key there is none
        pass
    return answer


for line in sys.stdin:
    try:
        asked = json.loads(line)
        answer = read(asked["kind"], asked["text"])
    except Exception as e:  # it refuses some texts with errors of Python
        answer = {"ok": False, "why": f"{type(e).__name__}: {e}"[:200]}
    print(json.dumps(answer))
