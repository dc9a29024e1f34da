// Reads GS1 data with npm packages: one JSON object per line of input and of output. The response to
// {"kind":"uri"|"brackets"|"elements","text":"…"} is {"ok":true}, for element strings with the AIs, or {"ok":false,"why":"…"}.
const bwip = require("bwip-js");
const { parseBarcode } = require("gs1-barcode-parser-mod");

function read({ kind, text }) {
  if (kind === "elements") {
    return { ais: parseBarcode("]d2" + text).parsedCodeItems.map((item) => item.ai) };
  }
  bwip.raw({ bcid: kind === "uri" ? "gs1dldatamatrix" : "gs1datamatrix", text });
  return {};
}

require("node:readline").createInterface({ input: process.stdin }).on("line", (line) => {
  let answer;
  try {
    answer = { ok: true, ...read(JSON.parse(line)) };
  } catch (e) {
    answer = { ok: false, why: String(e.message ?? e).slice(0, 200) };
  }
  process.stdout.write(JSON.stringify(answer) + "\n");
});
