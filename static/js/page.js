/* What every page does: close toasts, close menus, show a toast a response asked for. */
(() => {
  document.addEventListener("click", (event) => {
    event.target.closest("[data-close]")?.closest(".toast")?.remove();
    for (const menu of document.querySelectorAll("details.menu[open]")) {
      if (!menu.contains(event.target)) menu.open = false;
    }
  });

  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    const suggestions = document.activeElement.closest(".search__box")?.querySelector(".suggestions");
    suggestions?.replaceChildren();
    const menu = document.querySelector("details.menu[open]");
    if (!menu) return;
    menu.open = false;
    menu.querySelector("summary").focus();
  });

  /* A response may carry HX-Trigger: {"hub:toast": {"level": "success", "text": "…"}} */
  document.addEventListener("hub:toast", (event) => {
    const { level = "info", text } = event.detail;
    const toast = document.querySelector("#toast-template").content.firstElementChild.cloneNode(true);
    toast.classList.add(`notice--${level}`);
    toast.querySelector("[data-text]").textContent = text;
    document.querySelector(".toasts").append(toast);
  });

  let unanswered; // the toast that says so, until an answer comes

  /* A fragment that the server refuses is said aloud instead of swallowed; once, however often it is asked for. */
  document.addEventListener("htmx:sendError", () => {
    if (document.querySelector(".toasts .notice--danger")) return;
    document.dispatchEvent(
      new CustomEvent("hub:toast", {
        detail: { level: "danger", text: "The server did not answer. Check your connection and try again." },
      }),
    );
    unanswered = document.querySelector(".toasts").lastElementChild;
  });

  document.addEventListener("htmx:beforeOnLoad", () => unanswered?.remove());
})();
