/* The report: print it, with everything on paper that the page folds away. */
document.addEventListener("click", (event) => {
  if (event.target.closest("[data-print]")) window.print();
});
