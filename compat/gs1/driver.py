"""Reads GS1 data with biip: one JSON object per line of input and of output. The response to
{"kind": "uri" | "brackets" | "elements", "text": "..."} is {"ok": true, "elements": [[AI, value], ...], "uri": canonical URI} or
{"ok": false, "why": "..."}."""

import json
import sys

from biip import ParseError
from biip.gs1_digital_link_uris import GS1DigitalLinkURI
from biip.gs1_messages import GS1Message

PARSERS = {"uri": GS1DigitalLinkURI.parse, "brackets": GS1Message.parse_hri, "elements": GS1Message.parse}


def read(kind, text):
    elements = PARSERS[kind](text).element_strings
    errors = [e for element in elements for e in (element.gln_error, element.gtin_error, element.sscc_error) if e]
    if errors:
        raise ParseError(errors[0])
    answer = {"ok": True, "elements": [[e.ai.ai, e.value] for e in elements]}
    try:
        answer["uri"] = GS1DigitalLinkURI.from_element_strings(elements).as_canonical_uri()
    except Exception:  # the data has no primary key
        pass
    return answer


for line in sys.stdin:
    try:
        request = json.loads(line)
        answer = read(request["kind"], request["text"])
    except Exception as e:  # biip rejects some texts with other exceptions than ParseError
        answer = {"ok": False, "why": f"{type(e).__name__}: {e}"[:200]}
    print(json.dumps(answer))
