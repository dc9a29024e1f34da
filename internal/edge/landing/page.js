"use strict";
// Copying needs a script; without one the button is not there, and a press on the link marks it whole.
for (const button of document.querySelectorAll("button[data-copy]")) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const link = document.getElementById("link");
    let done = false;
    try {
      await navigator.clipboard.writeText(link.textContent);
      done = true;
    } catch {
      // A page of plain http has no clipboard.
      getSelection().selectAllChildren(link);
      done = document.execCommand("copy");
    }
    const said = button.parentElement.querySelector("[data-said]");
    said.textContent = done ? said.dataset.said : "";
  });
}
