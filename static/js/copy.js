/* <button data-copy>: copies the code of the snippet around it and says so;
   with data-copy="#some-id" it copies that element's text. */
(() => {
  const say = (button, words) => {
    const label = button.querySelector("[data-copy-label]") ?? button;
    const before = label.textContent;
    label.textContent = words;
    button.disabled = true;
    setTimeout(() => {
      label.textContent = before;
      button.disabled = false;
    }, 1500);
  };

  /* The clipboard API needs https or localhost; elsewhere select the text, so that one key copies it. */
  const select = (element) => {
    const range = document.createRange();
    range.selectNodeContents(element);
    const selection = window.getSelection();
    selection.removeAllRanges();
    selection.addRange(range);
  };

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    const source = button.dataset.copy
      ? document.querySelector(button.dataset.copy)
      : button.closest(".snippet").querySelector("pre");
    try {
      await navigator.clipboard.writeText(source.textContent.trim());
      say(button, "Copied");
    } catch {
      select(source);
      say(button, "Selected: press Ctrl+C");
    }
  });
})();
