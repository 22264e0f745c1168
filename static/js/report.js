/* The report: print it, and say in the list of its panels which one is shown. */
(() => {
  document.addEventListener("click", (event) => {
    if (event.target.closest("[data-print]")) window.print();
  });

  const list = document.querySelector("[data-panels] ul");
  const links = [...list.querySelectorAll("a")];

  /* Which panel is shown, the style sheet decides by the address. */
  const tell = () => {
    for (const link of links) {
      const isShown = getComputedStyle(document.querySelector(link.hash)).display !== "none";
      if (isShown) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
      if (isShown) list.scrollLeft = link.offsetLeft - (list.clientWidth - link.offsetWidth) / 2;
    }
  };
  window.addEventListener("hashchange", tell);
  tell();
})();
