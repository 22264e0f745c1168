/* Loaded before the page is painted, so that a chosen theme never flashes.
   "system" follows the reader's settings; the choice stays in this browser. */
(() => {
  const root = document.documentElement;
  const dark = window.matchMedia("(prefers-color-scheme: dark)");

  const stored = () => {
    try {
      return localStorage.getItem("theme");
    } catch {
      return null; // storage is forbidden here: follow the system
    }
  };

  const remember = (theme) => {
    try {
      localStorage.setItem("theme", theme);
    } catch {
      // The choice then lasts for this page only.
    }
  };

  const show = () => {
    const wanted = stored();
    root.dataset.theme = wanted === "light" || wanted === "dark" ? wanted : dark.matches ? "dark" : "light";
    document.dispatchEvent(new CustomEvent("hub:theme"));
  };

  root.classList.add("js");
  show();
  dark.addEventListener("change", show);

  document.addEventListener("click", (event) => {
    if (!event.target.closest("[data-theme-switch]")) return;
    const next = root.dataset.theme === "dark" ? "light" : "dark";
    remember(next);
    root.dataset.theme = next;
    document.dispatchEvent(new CustomEvent("hub:theme"));
  });
})();
