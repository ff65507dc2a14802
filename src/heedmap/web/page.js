// Runs once for an element of Gradio's; `element`, `trigger` and `watch` are its. Arrow keys go from button to button
// within a group, as in a toolbar; after a press the same button has the focus again.
const BUTTON = '[data-start],[data-choice],[data-sample],[data-row]';
let pressed = null;
const press = (event) => {
  const button = event.target.closest(BUTTON);
  if (!button || !element.contains(button)) return;
  event.preventDefault();
  const {start, choice, sample, row} = button.dataset;
  pressed = start;
  if (sample ?? row) for (const each of element.querySelectorAll('[aria-pressed]')) each.ariaPressed = String(each === button);
  trigger('select', {start: start ?? '', choice: choice ?? '', sample: sample ?? '', row: row ?? ''});
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
