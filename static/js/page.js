/* What every page does: close toasts, close menus, show a toast a response asked for. */
(() => {
  document.addEventListener("click", (event) => {
    event.target.closest("[data-close]")?.closest(".toast")?.remove();
    for (const menu of document.querySelectorAll("details.menu[open]")) {
      if (!menu.contains(event.target)) menu.open = false;
    }
  });

  const isLetter = ({ key, ctrlKey, metaKey, altKey }) => key.length === 1 && !ctrlKey && !metaKey && !altKey;

  /* Up and down go from the field through its suggestions and back; a letter goes on typing. */
  const walkSuggestions = (event) => {
    const box = event.target.closest(".search__box");
    const links = [...(box?.querySelectorAll(".suggestions a") ?? [])];
    if (links.length === 0) return;
    const field = box.querySelector("input");
    const stops = [field, ...links];
    const here = stops.indexOf(event.target);
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) {
      stops.at((here + step) % stops.length).focus();
      event.preventDefault();
    } else if (here > 0 && isLetter(event)) {
      field.focus();
    }
  };

  const closeSuggestions = (event) => {
    const box = event.target.closest(".search__box");
    if (!box) return;
    box.querySelector("input").focus();
    box.querySelector(".suggestions").replaceChildren();
  };

  document.addEventListener("keydown", (event) => {
    walkSuggestions(event);
    if (event.key !== "Escape") return;
    closeSuggestions(event);
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
