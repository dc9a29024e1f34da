// What a script adds to every page: a button on each text that is meant to be copied.
const words = document.body.dataset;

// Browsers have no clipboard on plain HTTP to another machine: there the text is marked, and the older command takes it.
const copy = async text => {
  if (navigator.clipboard) return navigator.clipboard.writeText(text.textContent);
  getSelection().selectAllChildren(text);
  if (!document.execCommand('copy')) throw new Error('marked only');
};

const buttons = root => {
  for (const text of root.querySelectorAll('.copy')) {
    const button = document.createElement('button');
    button.type = 'button';
    button.className = 'copies';
    button.textContent = words.copy;
    button.addEventListener('click', async () => {
      try { await copy(text); } catch { return; } // it is marked, and a key copies it
      button.textContent = words.copied;
      setTimeout(() => { button.textContent = words.copy; }, 2000);
    });
    const block = text.closest('pre');
    if (!block) { text.after(' ', button); continue; }
    const around = document.createElement('div');
    around.className = 'copied';
    block.replaceWith(around);
    around.append(block, button);
  }
};
buttons(document);
// What a script adds to the page later says so.
document.addEventListener('added', event => buttons(event.target));
