/* The report: print it, and say in the list of its panels which one is shown. */
(() => {
  document.addEventListener("click", (event) => {
    if (event.target.closest("[data-print]")) window.print();
  });

  const list = document.querySelector("[data-panels] ul");
  const links = [...list.querySelectorAll("a")];

  /* As the style sheet has it: the panel that the address names or that holds what it names, else the first. */
  const tell = () => {
    const named = document.getElementById(location.hash.slice(1))?.closest(".panel");
    const shown = links.find((link) => link.hash === `#${named?.id}`) ?? links[0];
    for (const link of links) link.removeAttribute("aria-current");
    shown.setAttribute("aria-current", "true");
    list.scrollLeft = shown.offsetLeft - (list.clientWidth - shown.offsetWidth) / 2;
  };
  window.addEventListener("hashchange", tell);
  tell();
})();
