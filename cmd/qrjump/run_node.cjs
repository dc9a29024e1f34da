'use strict';
// Leads https and fetch of a Node.js that does not ask HTTPS_PROXY by itself: connections to the platform's names go
// through the proxy. Libraries that ask it themselves are as they were.
const [major, minor] = process.versions.node.split('.').map(Number);
if (major < 22 || (major === 22 && minor < 21) || major === 23) {
  const net = require('net');
  const tls = require('tls');
  const { Duplex } = require('stream');
  const names = new Set(PLATFORM_NAMES);
  const proxy = new URL(process.env.HTTPS_PROXY);

  const tunnel = (authority) => {
    const near = net.connect(proxy.port, proxy.hostname);
    near.write(`CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n\r\n`);
    const far = new Duplex({
      read() {
        near.resume();
      },
      write(chunk, _, done) {
        near.write(chunk, done);
      },
      final(done) {
        near.end(done);
      },
      destroy(error, done) {
        near.destroy();
        done(error);
      },
    });
    let answer = Buffer.alloc(0); // of the proxy, until its end
    near.on('data', (chunk) => {
      if (answer) {
        answer = Buffer.concat([answer, chunk]);
        const end = answer.indexOf('\r\n\r\n');
        if (end < 0) return;
        chunk = answer.subarray(end + 4);
        answer = null;
      }
      if (chunk.length > 0 && !far.push(chunk)) near.pause();
    });
    near.on('end', () => far.push(null));
    near.on('error', (error) => far.destroy(error));
    near.on('close', () => far.destroy());
    return far;
  };

  const connect = tls.connect;
  tls.connect = (...args) => {
    const options = args.find((arg) => arg !== null && typeof arg === 'object') || {};
    if (options.socket || !names.has(options.host)) return connect(...args);
    const socket = tunnel(`${options.host}:${options.port || 443}`);
    const ready = args.find((arg) => typeof arg === 'function');
    return connect({ ...options, servername: options.servername || options.host, socket }, ready);
  };
}
