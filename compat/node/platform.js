'use strict';
// node-easywechat as a third-party platform: receives pushes on an HTTP server, and makes the calls of driver.js that begin
// with "platform.".

const http = require('node:http');
const { OpenPlatform, ServerRequest } = require('node-easywechat');

module.exports = function (settings) {
  const options = () => ({
    app_id: settings.platform.appid,
    secret: settings.platform.secret,
    token: settings.platform.token,
    aes_key: settings.platform.aes_key,
    http: { baseURL: settings.url + '/' },
    file_cache: { path: settings.cache },
  });
  const app = new OpenPlatform(options());
  const events = [];
  let waiting = null;

  async function receive(req, res) {
    // A new application for each push, as in the library's web examples, because handlers accumulate.
    const application = new OpenPlatform(options());
    application.setRequest(await ServerRequest.createFromIncomingMessage(req));
    const server = application.getServer();
    server.with((message, next) => {
      events.push({ type: message.InfoType, appid: message.AuthorizerAppid || '', code: message.AuthorizationCode || '' });
      if (waiting) waiting();
      return next(message);
    });
    const response = await server.serve();
    res.writeHead(response.getStatusCode(), response.getHeaders());
    res.end(response.getBody());
  }

  const receiver = http.createServer((req, res) => {
    receive(req, res).catch((error) => {
      events.push({ type: 'error', error: String(error) });
      if (waiting) waiting();
      res.writeHead(500);
      res.end();
    });
  });

  const calls = {
    async listen() {
      await new Promise((done) => receiver.listen(0, '127.0.0.1', done));
      receiver.unref();
      return { port: receiver.address().port };
    },
    // next waits for a push of the type and returns it.
    async next({ type }) {
      for (;;) {
        while (events.length) {
          const event = events.shift();
          if (event.type === type || event.type === 'error') return event;
        }
        await new Promise((done) => (waiting = done));
        waiting = null;
      }
    },
    async ticket() {
      return { ticket: await app.getVerifyTicket().getTicket() };
    },
    async link({ back, type, appid }) {
      const code = (await app.createPreAuthorizationCode()).pre_auth_code;
      return { link: await app.createPreAuthorizationUrl(back, { pre_auth_code: code, auth_type: type, biz_appid: appid }) };
    },
    async authorization({ code }) {
      const authorization = await app.getAuthorization(code);
      return authorization.attributes;
    },
    async call({ kind, appid, refresh, path, body }) {
      const account = kind === 'mini_program'
        ? await app.getMiniAppWithRefreshToken(appid, refresh)
        : await app.getOfficialAccountWithRefreshToken(appid, refresh);
      const client = account.getClient();
      return (body ? await client.postJson(path, body) : await client.post(path)).toObject();
    },
  };
  return async (request) => ({ answer: await calls[request.call.slice('platform.'.length)](request.body || {}) });
};
