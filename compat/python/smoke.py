"""Typical first calls with a generated client: reads, a scan, an explanation, and an error."""

import compileall
import sys

from qrjump_client import Client
from qrjump_client.api.admin import get_account, get_settings, list_accounts
from qrjump_client.api.scan import explain, resolve
from qrjump_client.models import ErrorModel, ExplainRequest, ScanRequest
import qrjump_client


def want(name, ok, got):
    if not ok:
        sys.exit(f"{name}: {got}")


want("every file compiles", compileall.compile_dir(qrjump_client.__path__[0], quiet=1), "see above")
with Client(base_url=sys.argv[1]) as client:
    accounts = list_accounts.sync(client=client)
    want("accounts", any(a.appid == "wxc0ffee0000000001" for a in accounts.accounts), accounts)
    missing = get_account.sync_detailed("nobody", client=client)
    want("a missing account has a problem with its status",
         missing.status_code == 404 and isinstance(missing.parsed, ErrorModel) and missing.parsed.status == 404, missing)
    settings = get_settings.sync(client=client)
    want("settings", isinstance(settings.publish_quota, int), settings)
    decision = resolve.sync(client=client, body=ScanRequest(text="https://nobody.example/t/7", user="alice"))
    want("a scan", decision.action == "open_url" and decision.url == "https://nobody.example/t/7", decision)
    explained = explain.sync(client=client, body=ExplainRequest(text="https://nobody.example/t/7"))
    want("an explanation", isinstance(explained.steps, list), explained)
print("ok")
