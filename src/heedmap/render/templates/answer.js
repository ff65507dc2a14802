'use strict';
// What is chosen of the answer decides what is drawn: relevance of a phrase is the mean over its tokens, as Explanation.span's.
const data = JSON.parse(document.getElementById('data').textContent);
const said = document.getElementById('said');
const buttons = [...said.querySelectorAll('button')];
const apart = document.getElementById('apart');
const shared = document.getElementById('shared');
const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
const sheet = document.querySelector('.heedmap');
const painters = [];
/** The theme in which the page is seen, told by its ground. */
const theme = () => getComputedStyle(sheet).backgroundColor.match(/\d+/g).reduce((sum, level) => sum + Number(level), 0) < 384 ? 'dark' : 'light';
const short = (value) => String(Number(value.toPrecision(3)));
const percent = (part) => part > 0 && part < 0.001 ? '< 0.1\u00a0%' : part < 1 && part > 0.999 ? '> 99.9\u00a0%' : (100 * part).toFixed(1) + '\u00a0%';
const INTEGERS = 32767;
const MOST_BARS = 50;
const STRIP = 48;
const MOST_CELLS = 4000;

for (const segment of data.segments) {
  segment.integers = new Int16Array(bytes(segment.values).buffer);
  delete segment.values;
}

/** Relevance of each token of a segment for the tokens of the answer from `start` to before `end`. */
function relevance(segment, start, end) {
  const sums = new Float64Array(segment.width);
  for (let step = start; step < end; step++) {
    const unit = segment.most[step] / INTEGERS / (end - start);
    const row = step * segment.width;
    if (unit) for (let i = 0; i < sums.length; i++) sums[i] += segment.integers[row + i] * unit;
  }
  return sums;
}

/** The same of each word, box or frame, the sum of its tokens. */
const parts = (segment, values) => segment.parts.map(([, tokens]) => tokens.reduce((sum, i) => sum + values[i], 0));

/** The greatest magnitude that sets the colours: special tokens, and what is left out of the scale, only where nothing else is. */
function reach(segment, values) {
  const magnitude = (kept) => values.reduce((most, value, n) => kept(n) ? Math.max(most, Math.abs(value)) : most, 0);
  const left = (n) => segment.parts[n][2] && (!apart || apart.checked);
  return magnitude((n) => !left(n)) || magnitude(() => true);
}

const wholeReach = new Map();
function scaleOf(segment, values) {
  if (!shared.checked) return reach(segment, values);
  const key = segment.name + (apart ? apart.checked : '');
  if (!wholeReach.has(key)) {
    const each = data.words.map(([, start, end]) => reach(segment, parts(segment, relevance(segment, start, end))));
    wholeReach.set(key, Math.max(...each, 0));
  }
  return wholeReach.get(key);
}

const level = (value, most) => most ? Math.max(-data.levels, Math.min(data.levels, Math.round(value / most * data.levels))) : 0;
const className = (n) => n > 0 ? 's' + n : n < 0 ? 'n' + -n : '';
const signedly = (values) => values.some((value) => value < 0);

/** Patches as a small picture; what matters less lets more of what lies under it through. */
function paint(canvas, segment, values, over) {
  const [rows, columns] = segment.grid;
  canvas.width = columns;
  canvas.height = rows;
  const signed = signedly(values);
  let low = Infinity, high = -Infinity;
  values.forEach((value, i) => { if (!segment.taken || segment.taken[i]) { low = Math.min(low, value); high = Math.max(high, value); } });
  const most = Math.max(Math.abs(low), Math.abs(high));
  if (signed) { low = -most; high = most; }
  const table = bytes(data.colours[theme()][signed ? 'signed' : 'map'][over ? 1 : 0]);
  const pixels = new ImageData(columns, rows);
  values.forEach((value, i) => {
    const share = high > low ? Math.min(1, Math.max(0, (value - low) / (high - low))) : signed ? 0.5 : 0;
    const place = Math.round(share * 255) * 3;
    const strength = signed ? Math.abs(share - 0.5) * 2 : share;
    pixels.data.set([table[place], table[place + 1], table[place + 2], over ? Math.round(strength * 217) : 255], i * 4);
  });
  canvas.getContext('2d').putImageData(pixels, 0, 0);
}

function drawSound(canvas, segment, values, most) {
  const width = canvas.width = Math.max(300, canvas.clientWidth);
  const height = canvas.height, foot = 18, context = canvas.getContext('2d');
  const last = Number.parseFloat(segment.parts.at(-1)[0]) || 0;
  const step = segment.parts.length > 1 ? last / (segment.parts.length - 1) : 1;
  const end = segment.heard ? Math.min(segment.heard, last + step) : last + step;
  const x = (time) => time / end * width;
  const {color, borderTopColor} = getComputedStyle(canvas);
  context.clearRect(0, 0, width, height);
  if (segment.wave) {
    context.fillStyle = color;
    context.globalAlpha = 0.25;
    segment.wave.forEach(([low, high], i) => {
      const middle = (height - foot) / 2, left = i / segment.wave.length * width;
      context.fillRect(left, middle - high * middle, Math.max(1, width / segment.wave.length), Math.max(1, (high - low) * middle));
    });
  }
  context.fillStyle = borderTopColor;
  context.globalAlpha = 0.7;
  values.forEach((value, i) => {
    const tall = most ? Math.min(1, Math.abs(value) / most) * (height - foot) : 0;
    if (i * step < end) context.fillRect(x(i * step), height - foot - tall, Math.max(1, x(step)), tall);
  });
  context.fillStyle = color;
  context.globalAlpha = 1;
  context.font = '12px system-ui, sans-serif';
  const every = [0.1, 0.25, 0.5, 1, 2, 5, 10, 30].find((gap) => x(gap) > 60) ?? 60;
  for (let time = 0; time < end; time += every) {
    context.fillRect(x(time), height - foot, 1, 4);
    context.fillText(short(time) + ' s', Math.min(x(time) + 2, width - 30), height - 3);
  }
}

function drawBars(body, segment, values, most) {
  const order = values.map((value, n) => n).sort((a, b) => values[b] - values[a]).slice(0, MOST_BARS);
  body.replaceChildren(...order.map((n) => {
    const row = document.createElement('tr'), head = document.createElement('th'), bar = document.createElement('div');
    head.scope = 'row';
    head.dir = 'auto';
    head.textContent = segment.parts[n][0];
    bar.className = 'bar ' + (className(level(values[n], most)) || 's0');
    bar.style.width = (most ? Math.abs(values[n]) / most * 100 : 0) + '%';
    row.append(head, row.insertCell(), row.insertCell());
    row.cells[1].append(bar);
    row.cells[2].textContent = short(values[n]);
    return row;
  }));
}

const about = (segment, most) => most === 0 ? 'nothing to show: all of it is 0' : 'from 0 to ' + short(most);

/** The most relevant parts of a segment in words, which is also what a map says of itself. */
function strongest(segment, values, count) {
  const order = values.map((value, n) => n).filter((n) => values[n] > 0 && !segment.parts[n][2]);
  return order.sort((a, b) => values[b] - values[a]).slice(0, count).map((n) => segment.parts[n][0]);
}

function drawSegment(figure, start, end) {
  const segment = data.segments[figure.dataset.segment];
  const tokens = relevance(segment, start, end), values = parts(segment, tokens), most = scaleOf(segment, values);
  figure.querySelector('.scale').textContent = about(segment, most);
  if (segment.kind === 'text') {
    for (const word of figure.querySelectorAll('[data-part]')) {
      const value = values[word.dataset.part];
      word.className = className(level(value, most));
      word.title = short(value);
    }
  } else if (segment.kind === 'image') {
    const canvas = figure.querySelector('.map canvas');
    paint(canvas, segment, [...tokens], canvas.previousElementSibling);
    const [best] = values.map((value, n) => n).sort((a, b) => values[b] - values[a]);
    canvas.ariaLabel = `map of the picture, most relevant: row ${Math.floor(best / segment.grid[1]) + 1}, column ${best % segment.grid[1] + 1}`;
  } else if (segment.kind === 'audio') {
    const canvas = figure.querySelector('.sound');
    drawSound(canvas, segment, values, most);
    canvas.ariaLabel = 'relevance over time, most relevant: ' + strongest(segment, values, 3).join(', ');
  } else {
    drawBars(figure.querySelector('tbody'), segment, values, most);
  }
}

// -- what is chosen --------------------------------------------------------------------------------------------------

let anchor = null, first = 0, last = Math.max(0, data.words.length - 1);
const figures = [...document.querySelectorAll('figure[data-segment]')];

function tellTarget(start, end) {
  const target = document.getElementById('target'), odds = document.getElementById('odds');
  const tokens = data.tokens.slice(start, end);
  const words = data.words.slice(first, last + 1).map(([text, , , , spaced]) => (spaced ? ' ' : '') + text).join('').trim();
  if (tokens.length === 1) target.textContent = tokens[0].target;
  else target.textContent = (anchor === null ? 'the whole answer' : `“${words}”`) + rather(tokens)
    + (anchor === null ? '' : `, ${tokens.length} tokens of the answer, by their mean`);
  const all = tokens.map((token) => token.probability);
  if (tokens.length > 12) odds.textContent = `said with ${percent(Math.min(...all))} to ${percent(Math.max(...all))} each`;
  else if (tokens.length > 1) odds.textContent = `said with ${all.map(percent).join(', ')}`;
  else odds.textContent = tokens.map(odd).join('');
}

/** What several tokens are set against, where each of them is; tokens of other words are no text together. */
function rather(tokens) {
  const others = tokens.map((token) => token.other);
  if (!others.every((other) => other !== undefined)) return '';
  return first === last ? ` rather than “${others.join('').trim()}”` : ', each token rather than another';
}

/** How probable a token was, and what else was. */
function odd({probability, top}) {
  const others = top.filter(([label]) => label !== top[0][0] || probability !== top[0][1]).slice(0, 3);
  const likely = others.map(([label, odds]) => `“${label}” ${percent(odds)}`).join(', ');
  return `said with ${percent(probability)}; also: ${likely}`;
}

function show() {
  const start = data.words[first]?.[1] ?? 0, end = data.words[last]?.[2] ?? data.steps;
  for (const [n, button] of buttons.entries()) {
    button.ariaPressed = String(n >= first && n <= last);
    button.tabIndex = n === (anchor ?? 0) ? 0 : -1;
  }
  for (const small of document.querySelectorAll('.strip button'))
    small.ariaPressed = String(first === last && Number(small.dataset.word) === first);
  tellTarget(start, end);
  for (const figure of figures) drawSegment(figure, start, end);
}

/** Everything in the colours of the theme. */
function repaint() {
  for (const draw of painters) draw();
  show();
}

function choose(from, to) {
  anchor = from;
  [first, last] = from <= to ? [from, to] : [to, from];
  show();
}

function whole() {
  anchor = null;
  [first, last] = [0, Math.max(0, data.words.length - 1)];
  show();
}

const numberOf = (element) => element.closest?.('button[data-word]') ? Number(element.closest('button[data-word]').dataset.word) : null;
let dragged = false;
said.addEventListener('pointerdown', (event) => {
  const n = numberOf(event.target);
  if (n === null) return;
  event.target.releasePointerCapture?.(event.pointerId);
  dragged = true;
  choose(event.shiftKey && anchor !== null ? anchor : n, n);
});
said.addEventListener('pointerover', (event) => {
  const n = numberOf(event.target);
  if (dragged && n !== null && anchor !== null) choose(anchor, n);
});
window.addEventListener('pointerup', () => { dragged = false; });
said.addEventListener('click', (event) => {
  const n = numberOf(event.target);
  if (n !== null && event.detail === 0) choose(n, n);
});
said.addEventListener('keydown', (event) => {
  const n = numberOf(event.target);
  if (n === null) return;
  if (event.key === 'Escape') return whole();
  const moved = {ArrowRight: n + 1, ArrowDown: n + 1, ArrowLeft: n - 1, ArrowUp: n - 1, Home: 0, End: buttons.length - 1}[event.key];
  if (moved === undefined || !buttons[moved]) return;
  event.preventDefault();
  choose(event.shiftKey && anchor !== null ? anchor : moved, moved);
  buttons[moved].focus();
});
apart?.addEventListener('change', show);
shared.addEventListener('change', show);

// -- all words at once -----------------------------------------------------------------------------------------------

function strip(figure) {
  const segment = data.segments[figure.dataset.segment], picture = figure.querySelector('.map img');
  const canvas = figure.querySelector('.map canvas');
  for (const [n, [text, start, end, special]] of data.words.entries()) {
    if (special || figure.querySelector('.strip').children.length >= STRIP) continue;
    const small = document.createElement('button'), stack = document.createElement('div'), label = document.createElement('span');
    const map = document.createElement('canvas');
    small.type = 'button';
    small.dataset.word = n;
    stack.className = 'stack map';
    stack.style.aspectRatio = figure.querySelector('.map').style.aspectRatio;
    map.style.cssText = canvas.style.cssText;
    if (picture) stack.append(Object.assign(new Image(), {src: picture.src, alt: ''}));
    stack.append(map);
    label.textContent = text;
    label.dir = 'auto';
    small.append(stack, label);
    small.addEventListener('click', () => choose(n, n));
    figure.querySelector('.strip').append(small);
    painters.push(() => paint(map, segment, [...relevance(segment, start, end)], picture));
  }
}

function matrix(figure) {
  const segment = data.segments[figure.dataset.segment], place = figure.querySelector('.scroll');
  const rows = data.words.map(([, start, end]) => parts(segment, relevance(segment, start, end)));
  place.append(rows.length * segment.parts.length > MOST_CELLS ? pixels(figure, segment, rows) : cells(segment, rows));
}

/** A few words, as a table with their names. */
function cells(segment, rows) {
  const table = document.createElement('table'), head = table.createTHead().insertRow();
  table.className = 'matrix';
  head.insertCell();
  const name = (text, scope) => Object.assign(document.createElement('th'), {scope, textContent: text, dir: 'auto'});
  head.append(...segment.parts.map(([text]) => name(text, 'col')));
  const body = table.createTBody();
  rows.forEach((values, y) => {
    const row = body.insertRow(), most = reach(segment, values);
    row.append(name(data.words[y][0], 'row'));
    for (const value of values) Object.assign(row.insertCell(), {className: className(level(value, most)), title: short(value)});
    row.addEventListener('click', () => choose(y, y));
  });
  return table;
}

/** Many words, a pixel each: what lies under the pointer is told below. */
function pixels(figure, segment, rows) {
  const across = segment.parts.length, down = rows.length, canvas = document.createElement('canvas');
  canvas.className = 'pixels';
  canvas.role = 'img';
  canvas.ariaLabel = `a row for each word of the answer, a column for each part of ${segment.called}`;
  canvas.width = across;
  canvas.height = down;
  canvas.style.width = across * Math.max(1, Math.min(12, Math.floor(900 / across))) + 'px';
  canvas.style.height = down * Math.max(1, Math.min(12, Math.floor(600 / down))) + 'px';
  const draw = () => {
    const image = new ImageData(across, down), table = ramp();
    rows.forEach((values, y) => {
      const most = reach(segment, values);
      values.forEach((value, x) => image.data.set([...table(level(value, most)), 255], (y * across + x) * 4));
    });
    canvas.getContext('2d').putImageData(image, 0, 0);
  };
  painters.push(draw);
  draw();
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    const share = (from, length, count) => Math.max(0, Math.min(count - 1, Math.floor(from / length * count)));
    return [share(event.clientX - box.left, box.width, across), share(event.clientY - box.top, box.height, down)];
  };
  canvas.addEventListener('pointermove', (event) => {
    const [x, y] = at(event);
    figure.querySelector('.cell').textContent = `${data.words[y][0]} ← ${segment.parts[x][0]}: ${short(rows[y][x])}`;
  });
  canvas.addEventListener('click', (event) => { const [, y] = at(event); choose(y, y); });
  return canvas;
}

/** The colours of words, read from the page's own style as it is seen. */
function ramp() {
  const known = new Map();
  return (n) => {
    if (!known.has(n)) {
      const probe = document.createElement('div');
      probe.className = 'bar ' + (className(n) || 's0');
      sheet.append(probe);
      known.set(n, getComputedStyle(probe).backgroundColor.match(/\d+/g).slice(0, 3).map(Number));
      probe.remove();
    }
    return known.get(n);
  };
}

for (const [n, [, start, end]] of data.words.entries()) {
  const odds = data.tokens.slice(start, end).map((token) => token.probability);
  buttons[n].style.setProperty('--doubt', 1 - Math.min(...odds, 1));
  buttons[n].title = odds.map(percent).join(' · ');
}
for (const picture of document.querySelectorAll('img[data-same]')) picture.src = figures[picture.dataset.same].querySelector('.map img').src;
for (const figure of figures) {
  if (data.segments[figure.dataset.segment].kind === 'image') strip(figure);
  figure.querySelector('details.table')?.addEventListener('toggle', () => matrix(figure), {once: true});
}
// What holds the frame may be light or dark by a choice of its own, of which a frame hears nothing.
window.addEventListener('message', ({data: told}) => {
  if (!['light', 'dark'].includes(told?.scheme)) return;
  document.documentElement.style.colorScheme = told.scheme;
  repaint();
});
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', repaint);
window.addEventListener('resize', show);
repaint();
