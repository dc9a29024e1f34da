// A button on each block copies it. Everything else works without a script.
const words = document.documentElement.lang.startsWith("zh") ? ["复制", "已复制"] : ["Copy", "Copied"];
if (navigator.clipboard) {
  for (const block of document.querySelectorAll("main pre")) {
    const around = document.createElement("div");
    around.className = "copied";
    block.replaceWith(around);
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = words[0];
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(block.textContent);
      button.textContent = words[1];
      setTimeout(() => { button.textContent = words[0]; }, 2000);
    });
    around.append(block, button);
  }
}
