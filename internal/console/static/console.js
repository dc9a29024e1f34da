// What scripts add to pages that work without them: a live list, rows as cards, dropping a picture.

// Rows come from this server as HTML that its templates escaped; nothing else becomes HTML here.
const policy = window.trustedTypes?.createPolicy('qrjump', { createHTML: text => text }) ?? { createHTML: text => text };

// On a narrow screen a row of a table is a card (console.css): each value stands beside its head, and what lost the display of a table
// keeps the roles of one.
const cards = table => {
  const heads = [...table.querySelectorAll('thead th')];
  if (heads.length === 0) return;
  table.classList.add('stacks');
  table.setAttribute('role', 'table');
  table.querySelectorAll('thead, tbody').forEach(part => part.setAttribute('role', 'rowgroup'));
  table.querySelectorAll('tr').forEach(row => row.setAttribute('role', 'row'));
  heads.forEach(head => head.setAttribute('role', 'columnheader'));
  for (const row of table.querySelectorAll('tbody tr')) {
    [...row.cells].forEach((cell, i) => {
      cell.setAttribute('role', cell.tagName === 'TH' ? 'rowheader' : 'cell');
      if (cell.colSpan === 1 && heads[i]) cell.dataset.head = heads[i].textContent.trim();
    });
  }
};
document.querySelectorAll('.wrap > table').forEach(cards);

// The key / leads to the field that finds anything, where nobody is typing.
document.addEventListener('keydown', event => {
  if (event.key !== '/' || event.ctrlKey || event.metaKey || event.altKey || event.target.closest?.('input, textarea, select')) return;
  const field = document.getElementById('find'), link = document.querySelector('.find-link');
  event.preventDefault();
  if (field?.checkVisibility()) field.focus();
  else link?.click();
});

// The choices of a field in which an AppID is typed come from the server, for what is typed so far.
const choices = document.getElementById('account-options');
if (choices) {
  let wait = 0, asked = null;
  const bring = async text => {
    if (asked === text) return;
    asked = text;
    try {
      const answer = await fetch(`${choices.dataset.from}?${new URLSearchParams({ q: text })}`);
      if (!answer.ok || answer.redirected || asked !== text) return;
      choices.replaceChildren(...(await answer.json()).map(([name, appid]) => new Option(name, appid)));
    } catch { /* it can be typed all the same */ }
  };
  for (const field of document.querySelectorAll('input[list="account-options"]')) {
    field.addEventListener('focus', () => bring(field.value));
    field.addEventListener('input', () => { clearTimeout(wait); wait = setTimeout(() => bring(field.value), 200); });
  }
}

// One box selects every row of its table.
for (const every of document.querySelectorAll('input.every')) {
  every.hidden = false;
  every.addEventListener('change', () => {
    every.closest('table').querySelectorAll('input[name="selected"]').forEach(box => { box.checked = every.checked; });
  });
}

// Back from the provider of a sign-in.
document.getElementById('goes-on')?.requestSubmit();

const pictures = document.getElementById('picture-form');
if (pictures) {
  const field = document.getElementById('picture');
  const take = list => {
    if (!list || list.length === 0) return false;
    field.files = list;
    pictures.requestSubmit();
    return true;
  };
  document.addEventListener('dragover', event => event.preventDefault());
  document.addEventListener('drop', event => { event.preventDefault(); take(event.dataTransfer.files); });
  document.addEventListener('paste', event => { if (take(event.clipboardData.files)) event.preventDefault(); });
}

// One stream for a page that is seen: browsers have few connections to one server.
const live = document.getElementById('live');
if (live?.dataset.stream && window.EventSource) {
  const most = 200, rows = document.querySelector('#calls tbody');
  const state = document.getElementById('live-state'), pause = document.getElementById('live-pause');
  const address = new URL(live.dataset.stream, location.href);
  let stream = null, paused = false, held = [], over = false;
  const say = text => { if (state.textContent !== text) state.textContent = text; };
  const put = html => {
    const table = new DOMParser().parseFromString(policy.createHTML(`<table><tbody>${html}</tbody></table>`), 'text/html');
    rows.prepend(...table.querySelectorAll('tbody > tr'));
    while (rows.rows.length > most) rows.lastElementChild.remove();
    cards(rows.parentElement);
    document.getElementById('empty')?.remove();
  };
  const open = () => {
    if (stream || over || document.hidden) return;
    stream = new EventSource(address);
    stream.onopen = () => say(live.dataset.opened);
    stream.onerror = () => {
      say(live.dataset.off);
      if (stream?.readyState === EventSource.CLOSED) { close(); setTimeout(open, 3000); }
    };
    stream.addEventListener('calls', event => {
      address.searchParams.set('after', event.lastEventId);
      const { html, count } = JSON.parse(event.data);
      if (!paused) { put(html); return; }
      held.push({ html, count });
      say(`${held.reduce((sum, one) => sum + one.count, 0)} ${live.dataset.waiting}`);
    });
    stream.addEventListener('over', () => { over = true; close(); say(live.dataset.over); });
  };
  const close = () => { stream?.close(); stream = null; };
  pause.addEventListener('click', () => {
    paused = !paused;
    pause.setAttribute('aria-pressed', String(paused));
    if (paused) return;
    held.forEach(one => put(one.html));
    held = [];
    say(live.dataset.opened);
  });
  document.addEventListener('visibilitychange', () => document.hidden ? close() : open());
  live.hidden = false;
  open();
}

// A form that says what it would do is asked again as it is typed into: the answer is
// this page's own part, from its templates.
const tries = document.querySelector('form[data-tries]');
if (tries) {
  const shown = document.getElementById(tries.dataset.tries);
  let wait = 0, asking = null;
  const ask = async () => {
    asking?.abort();
    asking = new AbortController();
    const asked = new URLSearchParams(new FormData(tries));
    asked.set('part', 'tried');
    try {
      const answer = await fetch(`${tries.getAttribute('action')}?${asked}`, { signal: asking.signal });
      if (!answer.ok || answer.redirected) return; // what it says, the button says as a page
      const part = new DOMParser().parseFromString(policy.createHTML(await answer.text()), 'text/html');
      shown.replaceChildren(...part.body.childNodes);
    } catch { /* asked again meanwhile, or no answer: the button is there */ }
  };
  tries.addEventListener('input', () => { clearTimeout(wait); wait = setTimeout(ask, 300); });
}
