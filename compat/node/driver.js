'use strict';
// Makes the calls of the Go test with node-easywechat: reads one JSON request per line from standard input and writes one
// JSON response per line to standard output.
//
//   {"account": "mini_program" | "service_account", "call": "token" | "stable_token" | "qrcodejump…" | a call for product codes,
//    "body": …}
//
// platform.js has the calls that begin with "platform.".
//
// A request without a body is sent without one. The library has no wrappers for jump rules and for codes, so this program
// uses getClient(), as users of the library do.

const readline = require('node:readline');
const { MiniApp, OfficialAccount } = require('node-easywechat');

const settings = JSON.parse(process.env.COMPAT_SETTINGS);

function config(account) {
  return {
    app_id: account.appid,
    secret: account.secret,
    // The library's option for the base URL, also of token requests.
    http: { baseURL: settings.url + '/' },
    // By default the token file is in the working folder and would remain after the run.
    file_cache: { path: settings.cache },
  };
}

const apps = {
  mini_program: new MiniApp(config(settings.mini_program)),
  service_account: new OfficialAccount(config(settings.service_account)),
  wrong_secret: new MiniApp(config({ ...settings.mini_program, secret: 'wrong' })),
};

const platform = settings.platform && require('./platform.js')(settings);

async function run(request) {
  if (request.call.startsWith('platform.')) {
    return platform(request);
  }
  const app = apps[request.account];
  switch (request.call) {
    case 'token':
      return { token: await app.getAccessToken().getToken() };
    case 'stable_token':
      return { token: await app.getAccessToken().getStableAccessToken() };
  }
  const path = (request.call.startsWith('qrcodejump') ? '/cgi-bin/wxopen/' : '/intp/marketcode/') + request.call;
  const client = app.getClient();
  const response = request.body ? await client.postJson(path, request.body) : await client.post(path);
  return { answer: response.toObject() };
}

async function main() {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    let result;
    try {
      result = await run(JSON.parse(line));
    } catch (error) {
      result = { error: String(error) };
    }
    process.stdout.write(JSON.stringify(result) + '\n');
  }
}

main();
