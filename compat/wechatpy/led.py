# Each client asks the platform's own address for a token, and knows nothing of the server.
import asyncio
import json
import os
import urllib.request

import aiohttp
import httpx

ADDRESS = (
    "https://api.weixin.qq.com/cgi-bin/token?grant_type=client_credential"
    f"&appid={os.environ['QRJUMP_APPID']}&secret={os.environ['QRJUMP_SECRET']}"
)


async def by_aiohttp():
    async with aiohttp.ClientSession(trust_env=True) as session:
        async with session.get(ADDRESS) as answer:
            return await answer.json(content_type=None)


for answer in (
    httpx.get(ADDRESS).json(),
    json.load(urllib.request.urlopen(ADDRESS)),
    asyncio.run(by_aiohttp()),
):
    print(answer["access_token"])
