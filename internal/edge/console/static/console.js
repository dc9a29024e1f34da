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

// The rows that a page shows are put in the order of a column by a click on its head, and by a second one the other way round.
const worth = cell => {
  const time = cell?.querySelector('time[datetime]');
  if (time) return time.dateTime;
  const text = cell?.textContent.trim() ?? '';
  const number = cell?.classList.contains('num') ? parseFloat(text.replaceAll(',', '')) : NaN;
  return Number.isNaN(number) ? text : number;
};
const ordered = new Intl.Collator(document.documentElement.lang, { numeric: true });
const compare = (a, b) => typeof a === 'number' && typeof b === 'number' ? a - b : ordered.compare(String(a), String(b));
const sortable = table => {
  const heads = [...table.querySelectorAll('thead th')], body = table.tBodies[0];
  if (!body || body.rows.length < 2 || body.querySelector('[colspan], [rowspan]') || table.querySelector('a.sorts') || table.id === 'calls') return;
  heads.forEach((head, i) => {
    const name = head.textContent.trim();
    if (!name || head.querySelector('.hide')) return; // a column of boxes
    const button = document.createElement('button');
    button.type = 'button';
    button.className = 'sorts';
    button.textContent = name;
    button.title = document.body.dataset.sort;
    head.replaceChildren(button);
    button.addEventListener('click', () => {
      const down = head.getAttribute('aria-sort') === 'ascending';
      heads.forEach(one => one.removeAttribute('aria-sort'));
      head.setAttribute('aria-sort', down ? 'descending' : 'ascending');
      body.append(...[...body.rows].map(row => [worth(row.cells[i]), row])
        .sort(([a], [b]) => down ? compare(b, a) : compare(a, b)).map(([, row]) => row));
    });
  });
};

// Details of a row come in a drawer beside the list; a click with a key, or without scripts, opens them as the page that they are.
document.addEventListener('click', async event => {
  const link = event.target.closest?.('a[data-drawer]');
  if (!link || event.button !== 0 || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey || !window.HTMLDialogElement) return;
  event.preventDefault();
  try {
    const answer = await fetch(link.href);
    if (!answer.ok || answer.redirected) throw new Error(answer.status);
    const main = new DOMParser().parseFromString(policy.createHTML(await answer.text()), 'text/html').getElementById('main');
    const drawer = document.createElement('dialog'), top = document.createElement('p'), shut = document.createElement('button');
    const whole = document.createElement('a');
    drawer.className = 'drawer';
    top.className = 'row';
    shut.textContent = document.body.dataset.shut;
    shut.addEventListener('click', () => drawer.close());
    whole.href = link.href;
    whole.textContent = document.body.dataset.whole;
    top.append(shut, ' ', whole);
    const title = main.querySelector('h1');
    title.id = 'drawer-title';
    for (const one of main.querySelectorAll('[id]')) { // no two of one page have one id
      if (!document.getElementById(one.id)) continue;
      main.querySelectorAll(`[for="${CSS.escape(one.id)}"]`).forEach(label => { label.htmlFor = `drawer-${one.id}`; });
      one.id = `drawer-${one.id}`;
    }
    drawer.setAttribute('aria-labelledby', title.id);
    drawer.append(top, ...main.childNodes);
    enhance([drawer]);
    drawer.addEventListener('close', () => { drawer.remove(); link.focus(); });
    drawer.addEventListener('click', at => { if (at.target === drawer) drawer.close(); });
    document.body.append(drawer);
    drawer.dispatchEvent(new Event('added', { bubbles: true }));
    drawer.showModal();
  } catch { location.assign(link.href); }
});

// What takes a while comes after the page, in the place of the link to it.
const bring = link => {
  const place = link.parentElement;
  place.setAttribute('aria-busy', 'true');
  (async () => {
    try {
      const answer = await fetch(link.href);
      if (!answer.ok || answer.redirected) throw new Error(answer.status);
      const page = new DOMParser().parseFromString(policy.createHTML(await answer.text()), 'text/html');
      const came = page.querySelector('#main .later');
      if (place.contains(document.activeElement)) throw new Error('somebody is there');
      const nodes = [...came.childNodes];
      place.replaceWith(...nodes);
      enhance(nodes);
    } catch { place.removeAttribute('aria-busy'); } // the link stays
  })();
};

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
  const offer = async field => {
    // Of several, the one that is being typed is picked, and those before it stay.
    const before = 'several' in field.dataset ? field.value.replace(/[^\s,;，；、]*$/, '') : '';
    const text = field.value.slice(before.length);
    if (asked === field.value) return;
    asked = field.value;
    try {
      const answer = await fetch(`${choices.dataset.from}?${new URLSearchParams({ q: text })}`);
      if (!answer.ok || answer.redirected || asked !== field.value) return;
      choices.replaceChildren(...(await answer.json()).map(([name, appid]) => new Option(name, before + appid)));
    } catch { /* it can be typed all the same */ }
  };
  for (const field of document.querySelectorAll('input[list="account-options"]')) {
    field.addEventListener('focus', () => offer(field));
    field.addEventListener('input', () => { clearTimeout(wait); wait = setTimeout(() => offer(field), 200); });
  }
}

// The tab of the part that is shown is the current one.
const current = () => document.querySelectorAll('.tabs a[href^="#"]').forEach(tab => {
  if (document.getElementById(tab.hash.slice(1))?.checkVisibility()) tab.setAttribute('aria-current', 'true');
  else tab.removeAttribute('aria-current');
});
addEventListener('hashchange', current);
current();

// What scripts add to a part of a page: once for the page, and again for each part that comes later.
const enhance = parts => {
  for (const part of parts) {
    if (part.nodeType !== Node.ELEMENT_NODE) continue;
    const all = selector => [...part.querySelectorAll(selector), ...part.matches(selector) ? [part] : []];
    all('.wrap > table').forEach(table => { cards(table); sortable(table); });
    all('.later > a').forEach(bring);
    all('.print').forEach(button => { button.hidden = false; button.addEventListener('click', () => print()); });
    for (const every of all('.every')) { // one box selects every row of its form
      every.hidden = false;
      every.addEventListener('change', event => {
        every.closest('form').querySelectorAll('input[type="checkbox"][name]').forEach(box => { box.checked = event.target.checked; });
      });
    }
  }
};
enhance([document.body]);

// A filter applies while somebody types: what follows its form comes anew, and the address says what is shown.
for (const form of document.querySelectorAll('form.filters')) {
  let wait = 0, asking = null;
  const apply = async () => {
    clearTimeout(wait);
    asking?.abort();
    asking = new AbortController();
    const address = new URL(form.action);
    address.search = new URLSearchParams([...new FormData(form)].filter(([name, value]) => value !== '' || name === 'by'));
    form.setAttribute('aria-busy', 'true');
    try {
      const answer = await fetch(address, { signal: asking.signal });
      if (!answer.ok || answer.redirected) return; // such as half an AppID
      const page = new DOMParser().parseFromString(policy.createHTML(await answer.text()), 'text/html');
      const came = [];
      for (let next = page.querySelector('form.filters').nextSibling; next; next = next.nextSibling) came.push(next);
      while (form.nextSibling) form.nextSibling.remove();
      form.after(...came);
      enhance(came);
      came.forEach(one => one.dispatchEvent(new Event('added', { bubbles: true })));
      history.replaceState(null, '', address);
    } catch { /* asked again meanwhile, or no answer: the list stays */ } finally { form.removeAttribute('aria-busy'); }
  };
  form.addEventListener('input', () => { clearTimeout(wait); wait = setTimeout(apply, 250); });
  form.addEventListener('submit', event => { event.preventDefault(); apply(); });
  form.addEventListener('keydown', event => {
    if (event.key === 'Enter' && event.target.tagName === 'INPUT') { event.preventDefault(); apply(); }
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
