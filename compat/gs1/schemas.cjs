// Validates the responses of a resolver with GS1's JSON schemas: node schemas.cjs SERVER HOST PATH SCHEMA [PATH SCHEMA]…
const http = require("node:http");
const fs = require("node:fs");
const Ajv = require("ajv");

function get(server, host, path) {
  return new Promise((resolve, reject) => {
    const headers = { Host: host, Accept: "application/linkset+json, application/json" };
    http.get(new URL(path, server), { headers }, (answer) => {
      let text = "";
      answer.on("data", (chunk) => (text += chunk)).on("end", () => resolve({ status: answer.statusCode, text }));
    }).on("error", reject);
  });
}

(async () => {
  const [server, host, ...rest] = process.argv.slice(2);
  for (let i = 0; i < rest.length; i += 2) {
    const { status, text } = await get(server, host, rest[i]);
    const valid = new Ajv({ strict: false, validateFormats: false }).compile(JSON.parse(fs.readFileSync(rest[i + 1], "utf8")));
    if (status !== 200 || !valid(JSON.parse(text))) {
      console.error(rest[i], status, valid.errors, text);
      process.exitCode = 1;
    }
  }
})();
