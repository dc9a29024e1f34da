// The certified OpenID Connect provider of npm, for a test: whoever types a name on its page is signed in there. It prints its address,
// then waits for the line with its client's redirect address. What people are is read anew from the file PEOPLE for every answer.
import { readFileSync } from 'node:fs';
import http from 'node:http';
import { createInterface } from 'node:readline';
import { Provider } from 'oidc-provider';

const server = http.createServer();
server.listen(0, '127.0.0.1', () => {
  // Another site than 127.0.0.1, as a provider is.
  const issuer = `http://localhost:${server.address().port}`;
  const lines = createInterface({ input: process.stdin });
  lines.once('line', redirect => {
    const provider = new Provider(issuer, {
      clients: [{ client_id: 'console', client_secret: process.env.SECRET, redirect_uris: [redirect] }],
      claims: { openid: ['sub'], profile: ['preferred_username'], roles: ['roles'] },
      findAccount: (_, name) => ({
        accountId: name,
        claims: () => ({ sub: name, preferred_username: name, ...JSON.parse(readFileSync(process.env.PEOPLE, 'utf8'))[name] }),
      }),
      pkce: { required: () => true },
    });
    server.on('request', provider.callback());
    console.log('ready');
  });
  lines.on('close', () => process.exit(0)); // with the test that started it
  console.log(issuer);
});
