'use strict';
// Lets node-easywechat make the calls that the Go test asks for: one JSON request a line on standard input,
// one JSON answer a line on standard output.
//
//   {"account": "mini_program" | "service_account", "call": "token" | "stable_token" | "qrcodejump…" | a call of one item, one code,
//    "body": …}
//
// A call that begins with "platform." is one of platform.js.
//
// A request without a body is sent without one. The library has no wrappers for jump rules and for codes; its
// users go through getClient(), and so does this.

const readline = require('node:readline');
const { MiniApp, OfficialAccount } = require('node-easywechat');

const settings = JSON.parse(process.env.COMPAT_SETTINGS);

function config(account) {
  return {
    app_id: account.appid,
    secret: account.secret,
    // The library's own switch for another platform address; it holds for the token call too.
    http: { baseURL: settings.url + '/' },
    // By default its token file lies in the working folder and would survive the run.
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
