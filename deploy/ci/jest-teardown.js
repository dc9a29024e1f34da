// Stops the server of jest-setup.js.
const { once } = require("node:events");
const { rmSync } = require("node:fs");

module.exports = async () => {
  const { server, data } = globalThis.qrjump;
  if (server.exitCode === null) {
    server.kill();
    await once(server, "exit");
  }
  rmSync(data, { recursive: true, force: true });
};
