// Renders each label of a ZPL stream on standard input, and writes one line per label: a PNG in Base64.
const fs = require("fs");
const { ready } = require("zpl-renderer-js");

(async () => {
  const [width, height, dots] = process.argv.slice(2).map(Number);
  const { api } = await ready;
  const labels = await api.zplToBase64MultipleAsync(fs.readFileSync(0, "latin1"), width, height, dots);
  process.stdout.write(labels.join("\n") + "\n", () => process.exit(0));
})().catch((err) => {
  console.error(err);
  process.exit(1);
});
