// Reads GS1 data with packages of npm: a JSON object a line in, one a line out. {"kind":"uri"|"brackets"|"elements","text":"…"} is
// answered {"ok":true} or {"ok":false,"why":"…"}; of element strings with the AIs that were read.
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
