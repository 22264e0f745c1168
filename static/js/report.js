/* The report: print it, and say in the list of its sections which one is being read. */
(() => {
  document.addEventListener("click", (event) => {
    if (event.target.closest("[data-print]")) window.print();
  });

  const list = document.querySelector("[data-jumps] ul");
  const linkOf = new Map([...list.querySelectorAll("a")].map((link) => [document.querySelector(link.hash), link]));
  const read = new Set();

  const tell = () => {
    const current = [...linkOf.keys()].find((section) => read.has(section));
    for (const link of linkOf.values()) link.removeAttribute("aria-current");
    const link = linkOf.get(current);
    if (!link) return;
    link.setAttribute("aria-current", "location");
    list.scrollLeft = link.offsetLeft - (list.clientWidth - link.offsetWidth) / 2;
  };

  /* A section is being read when it crosses a line a quarter down the window. */
  const observer = new IntersectionObserver(
    (entries) => {
      for (const { target, isIntersecting } of entries) read[isIntersecting ? "add" : "delete"](target);
      tell();
    },
    { rootMargin: "-25% 0px -75% 0px" },
  );
  for (const section of linkOf.keys()) observer.observe(section);
})();
