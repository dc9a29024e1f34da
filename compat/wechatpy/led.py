# Each client gets a token and its rules from api.weixin.qq.com, each SDK a token, without configuration for qrjump.
import asyncio
import http.client
import json
import os
import sys
import urllib.parse
import urllib.request

CREDENTIALS = {
    "grant_type": "client_credential",
    "appid": os.environ["QRJUMP_APPID"],
    "secret": os.environ["QRJUMP_SECRET"],
}
TOKEN = "https://api.weixin.qq.com/cgi-bin/token?" + urllib.parse.urlencode(CREDENTIALS)
RULES = "https://api.weixin.qq.com/cgi-bin/wxopen/qrcodejumpget?access_token="
BODY = '{"get_type":0}'


def by_requests(method, url, body):
    import requests

    return requests.request(method, url, data=body).text


def by_httpx(method, url, body):
    import httpx

    return httpx.request(method, url, content=body).text


def by_urllib(method, url, body):
    return urllib.request.urlopen(urllib.request.Request(url, body and body.encode(), method=method)).read()


def by_urllib3(method, url, body):
    import urllib3

    pool = urllib3.ProxyManager(os.environ["HTTPS_PROXY"]) if BY_LINE else urllib3.PoolManager()
    return pool.request(method, url, body=body).data


def by_http_client(method, url, body):
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPSConnection(parts.netloc)
    connection.request(method, parts.path + "?" + parts.query, body)
    return connection.getresponse().read()


def by_aiohttp(method, url, body):
    import aiohttp

    async def fetch():
        async with aiohttp.ClientSession(trust_env=BY_LINE) as session:
            async with session.request(method, url, data=body) as answer:
                return await answer.text()

    return asyncio.run(fetch())


def by_tornado(method, url, body):
    from tornado.httpclient import AsyncHTTPClient

    async def fetch():
        return (await AsyncHTTPClient().fetch(url, method=method, body=body)).body

    return asyncio.run(fetch())


def by_httplib2(method, url, body):
    import httplib2

    return httplib2.Http().request(url, method, body)[1]


def sdk_werobot():
    from werobot.client import Client

    return Client({"APP_ID": CREDENTIALS["appid"], "APP_SECRET": CREDENTIALS["secret"]}).get_access_token()


def sdk_wechatpy():
    from wechatpy import WeChatClient

    return WeChatClient(CREDENTIALS["appid"], CREDENTIALS["secret"]).access_token


def sdk_pywe_token():
    from pywe_token import access_token

    return access_token(CREDENTIALS["appid"], CREDENTIALS["secret"])


BY_LINE = "line" in sys.argv
if "sdk_" + sys.argv[1] in globals():
    print(globals()["sdk_" + sys.argv[1]]())
    sys.exit()
call = globals()["by_" + sys.argv[1]]
token = json.loads(call("GET", TOKEN, None))["access_token"]
print(token)
print(call("POST", RULES + token, BODY))
