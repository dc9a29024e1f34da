// Each client gets a token and its rules from api.weixin.qq.com, each SDK a token, without configuration for qrjump.
const { QRJUMP_APPID: appId, QRJUMP_SECRET: secret } = process.env;
const address = `https://api.weixin.qq.com/cgi-bin/token?grant_type=client_credential&appid=${appId}&secret=${secret}`;
const rules = 'https://api.weixin.qq.com/cgi-bin/wxopen/qrcodejumpget?access_token=';

const clients = {
  fetch: async (method, url, body) => (await fetch(url, { method, body })).text(),
  https: (method, url, body) =>
    new Promise((resolve, reject) => {
      require('https')
        .request(url, { method }, (answer) => {
          let text = '';
          answer.on('data', (chunk) => (text += chunk));
          answer.on('end', () => resolve(text));
        })
        .on('error', reject)
        .end(body);
    }),
  http2: (method, url, body) =>
    new Promise((resolve, reject) => {
      const { origin, pathname, search } = new URL(url);
      const session = require('http2').connect(origin);
      session.on('error', reject);
      const call = session.request({ ':method': method, ':path': pathname + search });
      let text = '';
      call.on('data', (chunk) => (text += chunk));
      call.on('end', () => resolve(text) || session.close());
      call.end(body);
    }),
  undici: async (method, url, body) => {
    const undici = require('undici');
    if (byLine) undici.setGlobalDispatcher(new undici.EnvHttpProxyAgent());
    return (await undici.request(url, { method, body })).body.text();
  },
  axios: async (method, url, data) => (await require('axios')({ method, url, data, responseType: 'text' })).data,
  got: async (method, url, body) => (await import('got')).default(url, { method, body }).text(),
  'node-fetch': async (method, url, body) => (await require('node-fetch')(url, { method, body })).text(),
  superagent: async (method, url, body) => (await require('superagent')(method, url).send(body)).text,
  needle: async (method, url, body) => (await require('needle')(method, url, body ?? null, { parse: false })).body.toString(),
  urllib: async (method, url, data) => (await require('urllib').request(url, { method, data, timeout: 60000 })).data.toString(),
};

const sdks = {
  async 'nest-wechat'() {
    require('reflect-metadata');
    const { WeChatService } = require('nest-wechat');
    return (await new WeChatService({ appId, secret }).mp.getAccessToken(appId, secret)).data.access_token;
  },
  async tnwx() {
    const { AccessTokenApi, ApiConfig, ApiConfigKit } = require('@tnwx/accesstoken');
    ApiConfigKit.putApiConfig(new ApiConfig(appId, secret, 'token'));
    ApiConfigKit.setCurrentAppId(appId);
    return (await AccessTokenApi.getAccessToken()).getAccessToken;
  },
  async 'co-wechat-api'() {
    const API = require('co-wechat-api');
    return (await new API(appId, secret).getAccessToken()).accessToken;
  },
  'wechat-api': () =>
    new Promise((resolve, reject) => {
      const API = require('wechat-api');
      new API(appId, secret).getAccessToken((error, token) => (error ? reject(error) : resolve(token.accessToken)));
    }),
};

const [name, line] = globalThis.Deno?.args ?? process.argv.slice(2);
const byLine = line === 'line';

async function main() {
  if (sdks[name]) return console.log(await sdks[name]());
  const call = clients[name];
  const token = JSON.parse(await call('GET', address)).access_token;
  console.log(token);
  console.log(await call('POST', rules + token, '{"get_type":0}'));
}

main().then(
  () => process.exit(0), // an SDK may keep its connection open
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
