// A qrjump server for Jest, as globalSetup; jest-teardown.js is its globalTeardown. It requires the program qrjump in PATH.
// Tests find its address in process.env.QRJUMP_SERVER.
const { spawn, spawnSync } = require("node:child_process");
const { mkdtempSync } = require("node:fs");
const { createServer } = require("node:net");
const { tmpdir } = require("node:os");
const { join } = require("node:path");

module.exports = async () => {
  const port = await new Promise((resolve) => {
    const free = createServer().listen(0, "127.0.0.1", () => {
      const { port } = free.address();
      free.close(() => resolve(port));
    });
  });
  const data = mkdtempSync(join(tmpdir(), "qrjump-"));
  const server = spawn("qrjump", ["serve", "--dev", "--listen", `127.0.0.1:${port}`, "--data", data], { stdio: "inherit" });
  globalThis.qrjump = { server, data };
  process.env.QRJUMP_SERVER = `http://127.0.0.1:${port}`;
  // Returns immediately if the server has exited.
  const ready = spawnSync("qrjump", ["health", "--wait", "60s", "--pid", String(server.pid)], { stdio: "inherit" });
  if (ready.status !== 0) throw new Error("qrjump did not start");
};
