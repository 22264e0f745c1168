/* The API browser keeps a dark dress of its own under another name. */
(() => {
  const root = document.documentElement;
  const follow = () => root.classList.toggle("dark-mode", root.dataset.theme === "dark");
  document.addEventListener("hub:theme", follow);
  follow();
})();
