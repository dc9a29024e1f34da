// Each library asks the platform's own address for a token, and knows nothing of the server.
const { QRJUMP_APPID: appId, QRJUMP_SECRET: secret } = process.env;
const address = `https://api.weixin.qq.com/cgi-bin/token?grant_type=client_credential&appid=${appId}&secret=${secret}`;

const clients = {
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
  async fetch() {
    return (await (await fetch(address)).json()).access_token;
  },
  https() {
    return new Promise((resolve, reject) => {
      require('https')
        .get(address, (answer) => {
          let text = '';
          answer.on('data', (chunk) => (text += chunk));
          answer.on('end', () => resolve(JSON.parse(text).access_token));
        })
        .on('error', reject);
    });
  },
};

clients[process.argv[2]]()
  .then((token) => console.log(token))
  .catch((error) => {
    console.error(error);
    process.exit(1);
  });
