'use strict';
// Makes the calls of the Go test with co-wechat-api: reads one JSON request per line from standard input and writes one
// JSON response per line to standard output.
//
//   {"secret": …, "call": "token" | "create"}
//
// The library does not support jump rules; "create" is its wrapper of qrcode/create. It caches one token for each secret.

const readline = require('node:readline');
const API = require('co-wechat-api');

const settings = JSON.parse(process.env.COMPAT_SETTINGS);
const apis = {};

function api(secret) {
  if (!apis[secret]) {
    apis[secret] = new API(settings.appid, secret);
    apis[secret].prefix = settings.url + '/cgi-bin/'; // the library's field for the base URL
  }
  return apis[secret];
}

async function run(request) {
  switch (request.call) {
    case 'token':
      return { answer: await api(request.secret).ensureAccessToken() };
    case 'create':
      return { answer: await api(request.secret).createTmpQRCode(7, 60) };
  }
  throw new Error('unknown call: ' + request.call);
}

async function main() {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    let result;
    try {
      result = await run(JSON.parse(line));
    } catch (error) {
      result = { error: `${error} (${error.code})` };
    }
    process.stdout.write(JSON.stringify(result) + '\n');
  }
}

main();
