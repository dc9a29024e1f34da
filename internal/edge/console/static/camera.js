// The camera of this page: now and then a frame goes to the server, which reads the code on it and keeps nothing.

const room = document.getElementById('camera');
const [button, view, said] = ['camera-switch', 'camera-view', 'camera-said'].map(id => document.getElementById(id));
const form = document.getElementById('scan-form');
const words = room.dataset;
const side = 640; // of a frame, in pixels
const rest = 400; // between an answer and the next frame, in milliseconds
const most = 2 * 60 * 1000; // that the camera is on while no code is seen

let on = null; // while the camera is on, or asked for

const say = text => { if (said.textContent !== text) said.textContent = text; };

const off = text => {
  if (!on) return;
  on.over.abort();
  on.stream?.getTracks().forEach(track => track.stop());
  clearTimeout(on.end);
  on = null;
  view.srcObject = null;
  view.hidden = true;
  button.textContent = words.start;
  say(text);
};

// What a person can do about it: the browser's own words are for programs.
const reason = error => ({
  NotAllowedError: words.denied, SecurityError: words.denied,
  NotFoundError: words.none, OverconstrainedError: words.none,
  NotReadableError: words.used, AbortError: words.used,
}[error.name] ?? words.failed);

const frame = () => {
  const scale = Math.min(1, side / Math.max(view.videoWidth, view.videoHeight));
  const canvas = document.createElement('canvas');
  canvas.width = Math.round(view.videoWidth * scale);
  canvas.height = Math.round(view.videoHeight * scale);
  canvas.getContext('2d').drawImage(view, 0, 0, canvas.width, canvas.height);
  return new Promise(done => canvas.toBlob(done, 'image/jpeg', 0.85));
};

// One frame at a time, as long as the camera is on; returns the text of the code.
const look = async mine => {
  for (;;) {
    const picture = await frame();
    if (mine.over.signal.aborted) return null;
    if (picture) {
      const sent = new FormData();
      sent.set('picture', picture, 'frame.jpg');
      const answer = await fetch(form.action, { method: 'POST', body: sent, headers: { Accept: 'application/json' },
        signal: mine.over.signal });
      if (answer.status === 401) throw new Error(words.ended);
      if (!answer.ok) throw new Error(words.lost);
      const { text, fault, says } = await answer.json();
      if (text) return text;
      if (fault !== 'code' && fault !== 'busy') throw new Error(says);
    }
    await new Promise(next => setTimeout(next, rest));
    if (mine.over.signal.aborted) return null;
  }
};

const start = async () => {
  const mine = on = { over: new AbortController(), stream: null, end: 0 };
  button.textContent = words.stop;
  say(words.asking);
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ audio: false, video: { facingMode: 'environment' } });
  } catch (error) {
    if (on === mine) off(reason(error));
    return;
  }
  if (on !== mine) { // switched off while the browser asked
    stream.getTracks().forEach(track => track.stop());
    return;
  }
  mine.stream = stream;
  mine.end = setTimeout(() => off(words.long), most);
  for (const track of stream.getTracks()) track.addEventListener('ended', () => { if (on === mine) off(words.gone); });
  view.srcObject = stream;
  view.hidden = false;
  try {
    await view.play();
    say(words.looking);
    const text = await look(mine);
    if (on !== mine || text === null) return;
    off(words.found);
    document.getElementById('text').value = text;
    form.requestSubmit();
  } catch (error) {
    if (on === mine) off(error instanceof TypeError ? words.lost : error instanceof DOMException ? reason(error) : error.message);
  }
};

room.hidden = false;
if (!window.isSecureContext) {
  say(words.insecure);
} else if (!navigator.mediaDevices) {
  room.hidden = true;
} else {
  button.hidden = false;
  button.addEventListener('click', () => on ? off(words.stopped) : start());
  document.addEventListener('visibilitychange', () => { if (document.hidden) off(words.unseen); });
  window.addEventListener('pagehide', () => off(''));
}
