// Draws a chart again with uPlot, so that people can point at values, drag to zoom, and switch series off in the legend. Without this
// script, and on narrow screens, the drawing of the server stays.
const plotted = new WeakSet();

// axis returns multiples of 1, 2 or 5 times a power of ten up to the first one that reaches limit, at most five.
const axis = limit => {
  let step = 1;
  for (let i = 0; 5 * step < limit; i++) step *= [2, 2.5, 2][i % 3];
  return Array.from({ length: Math.max(1, Math.ceil(limit / step)) + 1 }, (_, i) => i * step);
};

const plot = data => {
  const figure = data.previousElementSibling;
  const drawing = figure.querySelector('svg.wide');
  if (plotted.has(figure) || figure?.tagName !== 'FIGURE' || !window.uPlot || !drawing || figure.clientWidth < 480) return;
  plotted.add(figure);
  const { labels, ticks, series, marks, period } = JSON.parse(data.textContent);
  const links = [...figure.parentElement.querySelectorAll('td > a:has(> time)')].map(link => link.href); // of the table beside it
  const look = (name, property, fallback) => {
    const part = drawing.querySelector(name);
    return part ? getComputedStyle(part)[property] : fallback;
  };
  const text = look('text', 'fill'), grid = { stroke: look('.grid', 'stroke'), width: 1 }, ink = getComputedStyle(figure).color;
  const accent = look('.all', 'stroke'), fill = look('.all', 'fill'), number = value => value?.toLocaleString('en-US') ?? '–';
  const bars = uPlot.paths.bars({ size: [0.76, 80] }), steps = uPlot.paths.stepped({ align: 1 });
  const font = `12px ${getComputedStyle(figure).fontFamily}`, last = labels.length - 1;
  const styles = { all: { stroke: accent, fill, paths: bars }, first: { stroke: accent, fill: accent, paths: bars },
    before: { stroke: ink, dash: [5, 3], paths: steps, fill: undefined } };
  const box = document.createElement('div');
  box.className = 'plot';
  figure.classList.add('plotted');
  const chart = new uPlot({
    width: figure.clientWidth, height: 260, padding: [12, 24, 0, 0],
    cursor: { y: false, drag: { x: true, y: false }, points: { size: 6 } },
    scales: {
      x: { time: false, range: (_, from, to) => [Math.max(-0.5, Math.floor(from) - 0.5), Math.min(last + 0.5, Math.ceil(to) + 0.5)] },
      y: { range: (_, low, high) => [0, axis(high ?? 1).at(-1)] },
    },
    axes: [
      { stroke: text, font, grid: { show: false }, ticks: { show: false }, space: 72, size: 28,
        splits: (u, _, from, to, step) => {
          const list = [], by = Math.max(1, Math.ceil(step));
          for (let i = Math.max(0, Math.ceil(from)); i <= Math.min(last, to); i += by) list.push(i);
          return list;
        },
        values: (_, list) => list.map(i => ticks[i]) },
      { stroke: text, font, grid, ticks: { show: false }, size: 56, splits: (u, _, from, to) => axis(to), values: (_, list) => list.map(number) },
    ],
    series: [{ label: period, value: (_, i) => labels[i] ?? '–' },
      ...series.map(({ name, kind }) => ({ label: name, width: 1, points: { show: false }, value: (_, n) => number(n), ...styles[kind] }))],
    hooks: { draw: [u => {
      u.ctx.fillStyle = look('.sign', 'fill', ink);
      for (const i of marks ?? []) {
        u.ctx.beginPath();
        u.ctx.arc(u.valToPos(i, 'x', true), u.bbox.top - 5 * devicePixelRatio, 4 * devicePixelRatio, 0, 7);
        u.ctx.fill();
      }
    }] },
  }, [labels.map((_, i) => i), ...series.map(one => one.values)], box);
  chart.root.querySelector('.u-wrap').setAttribute('role', 'img');
  chart.root.querySelector('.u-wrap').setAttribute('aria-label', drawing.getAttribute('aria-label'));
  let down = 0; // a click without a drag opens the period
  chart.over.addEventListener('mousedown', event => { down = event.clientX; });
  chart.over.addEventListener('click', event => {
    const to = links.length === labels.length && links[chart.cursor.idx];
    if (to && Math.abs(event.clientX - down) < 3 && event.detail === 1 && !event.shiftKey) {
      opening = setTimeout(() => location.assign(to), 250); // a double click shows the whole chart again
    }
  });
  let opening = 0;
  chart.over.addEventListener('dblclick', () => clearTimeout(opening));
  drawing.before(box);
  new ResizeObserver(() => { if (figure.clientWidth > 0) chart.setSize({ width: figure.clientWidth, height: 260 }); }).observe(figure);
};

addEventListener('hashchange', () => charts(document)); // a chart in a part that was hidden
const charts = part => part.querySelectorAll?.('.plots').forEach(plot);
charts(document);
document.addEventListener('added', event => charts(event.target.parentElement ?? document));
