/* "/" goes to the search: that of the page's content where there is one, else that of the header.
   A button in the footer switches it off, for who speaks to the browser; the choice stays in this browser. */
(() => {
  const button = document.querySelector("[data-search-key]");
  let isOn = true;

  try {
    isOn = localStorage.getItem("search-key") !== "off";
  } catch {
    // Storage is forbidden here: the choice lasts for this page only.
  }

  const show = () => button.setAttribute("aria-pressed", String(isOn));

  button.addEventListener("click", () => {
    isOn = !isOn;
    show();
    try {
      localStorage.setItem("search-key", isOn ? "on" : "off");
    } catch {
      // As above.
    }
  });

  document.addEventListener("keydown", (event) => {
    if (!isOn || event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("input, textarea, select, [contenteditable]")) return;
    const fields = [...document.querySelectorAll("main input[type=search], .site-header input[type=search]")];
    const seen = fields.filter((field) => field.checkVisibility());
    const field = seen.find((each) => each.closest("main")) ?? seen[0];
    if (!field) return;
    event.preventDefault();
    field.focus();
    field.select();
  });

  show();
})();
