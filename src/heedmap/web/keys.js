// Gradio's lists open at any key, also at the tab key that leaves them, and then stay open; they shall not hear of it.
window.addEventListener('keydown', (event) => {
  if (event.key === 'Tab' && event.target.matches?.('[role=combobox]')) event.stopPropagation();
}, true);
