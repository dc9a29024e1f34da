// A button on each block copies it. Everything else works without a script.
const words = document.body.dataset;
if (navigator.clipboard) {
  for (const block of document.querySelectorAll("main pre")) {
    const around = document.createElement("div");
    around.className = "copied";
    block.replaceWith(around);
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = words.copy;
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(block.textContent);
      button.textContent = words.copied;
      setTimeout(() => { button.textContent = words.copy; }, 2000);
    });
    around.append(block, button);
  }
}
