'use strict';
// Lets co-wechat-api make the calls that the Go test asks for: one JSON request a line on standard input, one JSON
// answer a line on standard output.
//
//   {"secret": …, "call": "token" | "create"}
//
// The library has no jump rules; "create" is its wrapper of qrcode/create. It keeps one token for each secret.

const readline = require('node:readline');
const API = require('co-wechat-api');

const settings = JSON.parse(process.env.COMPAT_SETTINGS);
const apis = {};

function api(secret) {
  if (!apis[secret]) {
    apis[secret] = new API(settings.appid, secret);
    apis[secret].prefix = settings.url + '/cgi-bin/'; // its own field for another platform address
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
  throw new Error('no such call: ' + request.call);
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
