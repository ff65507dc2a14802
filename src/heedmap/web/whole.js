// Runs once for the whole page.
// Gradio's lists open at any key, also at the tab key that leaves them, and then stay open; they shall not hear of it.
window.addEventListener('keydown', (event) => {
  if (event.key === 'Tab' && event.target.matches?.('[role=combobox]')) event.stopPropagation();
}, true);
// The frame of an answer is told whether the page is light or dark: by itself it would follow the system.
const tell = (frame) => frame.contentWindow?.postMessage({scheme: document.body.classList.contains('dark') ? 'dark' : 'light'}, '*');
document.addEventListener('load', (event) => event.target.matches?.('.heedmap-result iframe') && tell(event.target), true);
new MutationObserver(() => document.querySelectorAll('.heedmap-result iframe').forEach(tell))
  .observe(document.body, {attributeFilter: ['class']});
