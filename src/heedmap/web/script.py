"""The page's own style and script: what is pressed in a map, by mouse or keyboard, is told to the server."""

STYLE = """
body:not(.dark) { --body-text-color-subdued: #5c5c66; --input-placeholder-color: #5c5c66; }
#ask { background: #40346e; color: #fff; }
#ask:hover { background: #2f2553; }
.heedmap-error { border: 2px solid #a4262c; border-radius: .4rem; padding: .5rem .8rem; color: #7a1418; background: #fff3f3; }
#message:not(:has(.heedmap-error)), #answer:not(:has(.heedmap)) { display: none; }
.heedmap-columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(17rem, 1fr)); gap: 1rem; }
.heedmap-files a { display: inline-block; margin-inline-end: .6rem; padding: .3rem .9rem; border: 1px solid #40346e;
  border-radius: .4rem; color: #40346e; background: #fff; text-decoration: none; }
.heedmap-files a:hover, .heedmap-files a:focus-visible { background: #40346e; color: #fff; }
.heedmap-result h2, .heedmap-result h3 { font-weight: 700; }
.heedmap-result { background: #fff; color: #1d1d1f; border-radius: .5rem; }
.heedmap-result > *, .heedmap-hint { margin: 0; padding: .3rem 1rem; }
.heedmap-hint button { padding: .2rem .7rem; border: 1px solid #40346e; border-radius: .4rem; color: #40346e; background: #fff; }
.heedmap-hint button:hover, .heedmap-hint button:focus-visible { background: #40346e; color: #fff; }
.heedmap [role=button] { cursor: pointer; }
.heedmap [role=button]:hover, .heedmap [role=button]:focus-visible { outline: 2px solid #0a6f54; outline-offset: 1px; }
.heedmap .said [role=button] { display: inline-block; border: 1px solid #c9c9cf; border-radius: .35em; padding: .05em .35em;
  margin: .1em; white-space: pre; min-width: 1.2em; text-align: center; }
.heedmap .said [aria-pressed=true] { box-shadow: 0 0 0 2px #0a6f54; }
.heedmap .patches { position: absolute; display: grid; }
.heedmap .patches > b, .heedmap .frames > b { display: block; }
.heedmap .patches > b:hover, .heedmap .patches > b:focus-visible, .heedmap .frames > b:hover,
.heedmap .frames > b:focus-visible { outline: 2px solid #40e0ff; outline-offset: -2px; box-shadow: 0 0 0 1px #000; z-index: 1; }
.heedmap .frames { position: absolute; inset: 0; }
.heedmap .frames > b { position: absolute; }
.heedmap .frames > .box { box-shadow: 0 0 0 1px #000, inset 0 0 0 1px #000; }
"""

SCRIPT = """
const BUTTON = '[data-start],[data-choice]';
let pressed = null;
const press = (event) => {
  const button = event.target.closest(BUTTON);
  if (!button || !element.contains(button)) return;
  event.preventDefault();
  pressed = button.dataset.start;
  trigger('select', {start: button.dataset.start ?? '', choice: button.dataset.choice ?? ''});
};
const move = (button, step) => {
  const all = [...button.closest('[role=group],table').querySelectorAll(BUTTON)];
  const next = all[all.indexOf(button) + step];
  if (!next) return;
  button.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
};
element.addEventListener('click', press);
element.addEventListener('keydown', (event) => {
  const button = event.target.closest('[role=button]');
  if (!button || !button.matches(BUTTON)) return;
  if (event.key === 'Enter' || event.key === ' ') return press(event);
  const across = Number(button.parentElement.dataset.columns ?? 1);
  const step = {ArrowRight: 1, ArrowLeft: -1, ArrowDown: across, ArrowUp: -across}[event.key];
  if (!step) return;
  event.preventDefault();
  move(button, step);
});
watch('value', () => {
  const again = pressed === null ? null : element.querySelector(`[role=button][data-start="${CSS.escape(pressed)}"]`);
  pressed = null;
  if (!again || document.activeElement !== document.body) return;
  for (const one of again.closest('[role=group],table').querySelectorAll(BUTTON)) one.tabIndex = -1;
  again.tabIndex = 0;
  again.focus();
});
"""
"""Runs once for an element of Gradio's; ``element``, ``trigger`` and ``watch`` are its. Arrow keys go from button to button
within a group, as in a toolbar; after a press the same button has the focus again."""

KEYS = """
window.addEventListener('keydown', (event) => {
  if (event.key === 'Tab' && event.target.matches?.('[role=combobox]')) event.stopPropagation();
}, true);
"""
"""Gradio's lists open at any key, also at the tab key that leaves them, and then stay open; they shall not hear of it."""
