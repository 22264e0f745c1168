/* The compose form: a grid to type, paste and drop into. What is typed is kept, checked and weighed by the
   server (htmx sends the form as it changes); the form works without any of it. */
(() => {
  const form = document.querySelector("[data-compose]");
  if (!form) return;
  const grid = form.querySelector("[data-grid]");
  const body = grid.tBodies[0];
  const template = document.querySelector("#grid-row");
  const shotsMax = Number(form.querySelector("[data-shots-max]").dataset.shotsMax);

  /* ---------- rows ---------- */

  const cellsOf = (row) => [...row.querySelectorAll("textarea")];
  const isBlank = (row) => cellsOf(row).every((cell) => !cell.value.trim());
  const addRow = () => {
    const row = body.appendChild(template.content.firstElementChild.cloneNode(true));
    number();
    return row;
  };

  /* Each row says which one it is, to whoever does not see it, and is tied to its note. */
  const number = () => {
    for (const row of body.rows) {
      const place = row.rowIndex;
      const note = row.querySelector(".grid__note");
      const [input, output] = cellsOf(row);
      input.ariaLabel = `Input of example ${place}`;
      output.ariaLabel = `Output of example ${place}`;
      row.querySelector("[data-remove] .visually-hidden").textContent = `Remove example ${place}`;
      note.id = `note-${place}`;
      for (const cell of [input, output]) {
        if (note.hidden) cell.removeAttribute("aria-describedby");
        else cell.setAttribute("aria-describedby", note.id);
      }
    }
  };

  /* The last row is always an empty one to write in. */
  const keepAnEmptyRow = () => {
    if (body.rows.length === 0 || (!isBlank(body.rows[body.rows.length - 1]) && body.rows.length < shotsMax)) addRow();
  };

  let takeBack = null; // undoes what a paste or a file has brought

  const changed = () => {
    takeBack = null;
    keepAnEmptyRow();
    form.dispatchEvent(new CustomEvent("hub:kept"));
  };

  const removeRow = (row) => {
    const next = row.nextElementSibling ?? row.previousElementSibling;
    row.remove();
    number();
    changed();
    (next?.isConnected ? next : body.rows[0]).querySelector("textarea").focus();
  };

  form.addEventListener("click", (event) => {
    if (event.target.closest("[data-add]")) cellsOf(addRow())[0].focus();
    const remove = event.target.closest("[data-remove]");
    if (remove) removeRow(remove.closest("tr"));
  });

  body.addEventListener("input", () => {
    takeBack = null;
    keepAnEmptyRow();
  });

  const firstFree = () => {
    const written = [...body.rows].filter((row) => !isBlank(row));
    return written.length ? written.at(-1).nextElementSibling : body.rows[0];
  };

  /* ---------- moving, as in a spreadsheet ---------- */

  const go = (cell, rows, columns) => {
    const row = cell.closest("tr");
    const places = [...body.rows].flatMap(cellsOf);
    const target = places[places.indexOf(cell) + 2 * rows + columns] ?? (rows > 0 && !isBlank(row) ? cellsOf(addRow())[0] : null);
    if (!target) return false;
    target.focus();
    target.setSelectionRange(columns > 0 || rows > 0 ? 0 : target.value.length, columns > 0 || rows > 0 ? 0 : target.value.length);
    return true;
  };

  const atStart = (cell) => cell.selectionStart === 0 && cell.selectionEnd === 0;
  const atEnd = (cell) => cell.selectionStart === cell.value.length;
  const onFirstLine = (cell) => !cell.value.slice(0, cell.selectionStart).includes("\n");
  const onLastLine = (cell) => !cell.value.slice(cell.selectionEnd).includes("\n");

  const MOVES = {
    Enter: (cell) => go(cell, 1, 0),
    ArrowDown: (cell) => onLastLine(cell) && go(cell, 1, 0),
    ArrowUp: (cell) => onFirstLine(cell) && go(cell, -1, 0),
    ArrowRight: (cell) => atEnd(cell) && go(cell, 0, 1),
    ArrowLeft: (cell) => atStart(cell) && go(cell, 0, -1),
  };

  body.addEventListener("keydown", (event) => {
    if (event.isComposing || !event.target.matches("textarea")) return;
    if (event.key === "z" && (event.ctrlKey || event.metaKey) && takeBack) {
      event.preventDefault();
      takeBack();
    } else if (event.key === "Delete" && event.ctrlKey) {
      event.preventDefault();
      removeRow(event.target.closest("tr"));
    } else if (event.key in MOVES && !event.shiftKey && !event.altKey && !event.ctrlKey && !event.metaKey) {
      if (MOVES[event.key](event.target) || event.key === "Enter") event.preventDefault();
    }
  });

  /* ---------- pasting and dropping ---------- */

  const say = (level, text) => document.dispatchEvent(new CustomEvent("hub:toast", { detail: { level, text } }));

  const openAround = (field) => {
    for (let part = field.closest("details"); part; part = part.parentElement.closest("details")) part.open = true;
  };

  const write = (rows, first, column = 0) => {
    let row = first;
    for (const cells of rows) {
      row ??= addRow();
      cells.forEach((cell, index) => {
        cellsOf(row)[column + index].value = cell;
      });
      row = row.nextElementSibling;
    }
    changed();
  };

  /* What a paste or a file brings is one step: Ctrl+Z takes it back, as long as nothing else was changed. */
  const fill = (rows, first, column) => {
    const before = [...body.rows].map((row) => cellsOf(row).map((cell) => cell.value));
    const heldOut = form.elements.held_out_text.value;
    write(rows, first, column);
    takeBack = () => {
      while (body.rows.length > before.length) body.rows[before.length].remove();
      form.elements.held_out_text.value = heldOut;
      write(before, body.rows[0]);
    };
  };

  /* More than a composition can read: the rest measures. */
  const take = ({ rows, notes }, source, first) => {
    const free = Math.max(0, shotsMax - (first?.sectionRowIndex ?? body.rows.length));
    const rest = rows.slice(free);
    fill(rows.slice(0, free), first);
    if (rest.length) {
      const heldOut = form.elements.held_out_text;
      heldOut.value += rest.map(([input, output]) => `${JSON.stringify({ input, output })}\n`).join("");
      openAround(heldOut);
    }
    for (const note of notes) say("info", note);
    const told = rest.length ? `, and ${rest.length} more are held out to measure` : "";
    const taken = rows.length - rest.length;
    say("success", `${taken} ${taken === 1 ? "example" : "examples"} from ${source} ${taken === 1 ? "is" : "are"} in the grid${told}.`);
  };

  /* What could not be read goes into the box for many examples, to mend it or to choose its columns there. */
  const mendBelow = (text) => {
    const box = form.elements.shots_text;
    if (!text || box.value.trim()) return;
    box.value = text;
    openAround(box);
    form.dispatchEvent(new CustomEvent("hub:kept"));
    box.scrollIntoView({ block: "center" });
    box.focus({ preventScroll: true });
  };

  /* What a text means, the server alone reads; nothing if the answer does not come. */
  const read = async (file, source) => {
    const sent = new FormData();
    sent.append("file", file);
    sent.append("csrfmiddlewaretoken", form.elements.csrfmiddlewaretoken.value);
    try {
      return await (await fetch(drop.dataset.url, { method: "POST", body: sent })).json();
    } catch {
      say("danger", `${source} could not be sent. It may be too large, or the connection failed.`);
      return {};
    }
  };

  const refuse = ({ problems }, source) => {
    if (problems) say("danger", `${source} was not added. ${problems.slice(0, 3).join(" ")}`);
  };

  const isSeveralCells = (text) => /[\t\r\n]/.test(text.replace(/[\r\n]+$/, ""));

  /* JSON on one line: examples, or the text of one cell. The server tells. */
  const isJson = (text) => {
    try {
      return /^\s*[[{]/.test(text) && Boolean(JSON.parse(text));
    } catch {
      return false;
    }
  };

  /* As the browser pastes; JSON that is no examples may be meant as an answer. */
  const pasteIntoOne = (text, cell, { problems }) => {
    if (!cell.isConnected) return;
    const { value, selectionStart, selectionEnd } = cell;
    const row = cell.closest("tr");
    fill([[value.slice(0, selectionStart) + text.trim() + value.slice(selectionEnd)]], row, cellsOf(row).indexOf(cell));
    if (problems) say("info", `Pasted as the text of one cell; the JSON holds no examples. ${problems[0]}`);
  };

  const paste = async (text, cell) => {
    const source = "the pasted text";
    const answer = await read(new File([text], "pasted.txt"), "The pasted text");
    const row = cell.isConnected ? cell.closest("tr") : firstFree();
    if (answer.rows) take(answer, source, row);
    else if (answer.column) fill(answer.column.map((value) => [value]), row, cellsOf(row).indexOf(cell));
    else if (!isSeveralCells(text)) pasteIntoOne(text, cell, answer);
    else {
      refuse(answer, "The pasted text");
      mendBelow(text);
    }
  };

  body.addEventListener("paste", (event) => {
    const text = event.clipboardData.getData("text/plain");
    if (!isSeveralCells(text) && !isJson(text)) return; // one cell: the browser's own paste is right
    event.preventDefault();
    paste(text, event.target);
  });

  const takeFile = async (file) => {
    const answer = await read(file, `“${file.name}”`);
    if (answer.rows) take(answer, `“${file.name}”`, firstFree());
    else {
      refuse(answer, `“${file.name}”`);
      mendBelow(answer.text);
    }
  };

  const drop = form.querySelector("[data-drop]");
  const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
  let depth = 0; // a child is entered before its parent is left

  const over = (change) => {
    depth = Math.max(0, depth + change);
    drop.classList.toggle("is-over", depth > 0);
  };

  drop.addEventListener("dragenter", (event) => hasFiles(event) && over(1));
  drop.addEventListener("dragleave", (event) => hasFiles(event) && over(-1));
  drop.addEventListener("dragover", (event) => hasFiles(event) && event.preventDefault());
  drop.addEventListener("drop", async (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    over(-depth);
    for (const file of [...event.dataTransfer.files]) await takeFile(file);
  });

  /* ---------- what the server says of it ---------- */

  const showNotes = () => {
    const notes = new Map();
    for (const line of form.querySelector("#row-notes").dataset.notes.split("\n")) {
      const [row, level, text] = line.split("\t");
      if (text) notes.set(Number(row), { level, text });
    }
    for (const row of body.rows) {
      const { level, text = "" } = notes.get(row.rowIndex - 1) ?? {};
      const note = row.querySelector(".grid__note");
      note.hidden = !text;
      note.classList.toggle("grid__note--error", level === "error");
      note.querySelector("[data-note]").textContent = text;
    }
    number();
  };

  /* Where the server asks which columns are meant, they can be chosen without another click. */
  const openColumns = () => {
    for (const asks of form.querySelectorAll("[data-asks-columns]")) {
      asks.closest(".form").querySelector("details").open = true;
    }
  };

  /* ---------- kept, or not ---------- */

  let isSending = false;
  let changes = 0; // counted, so that an answer confirms what it was asked for and nothing typed since
  let confirmed = 0; // of them, those the server has said that it keeps
  let beaconed = 0;
  const sentWith = new WeakMap(); // changes, by request
  const isDirty = () => confirmed < changes;

  const notKept = (word) => {
    const told = document.querySelector("#not-kept").content.cloneNode(true);
    told.querySelector("[data-word]").textContent = `Not saved: ${word}`;
    document.querySelector("#draft-status").replaceChildren(told);
  };

  /* The links to sign in and up lead back to the draft. */
  const comeBackToDraft = () => {
    for (const link of document.querySelectorAll("a[href*='?next=']")) {
      const { pathname } = new URL(link.href);
      const draft = `${form.getAttribute("action")}?draft=${form.elements.form_key.value}`;
      link.href = `${pathname}?next=${encodeURIComponent(draft)}`;
    }
  };

  form.addEventListener("htmx:afterRequest", (event) => {
    if (event.target !== form || !event.detail.successful) return;
    const { pathname } = new URL(event.detail.xhr.responseURL);
    if (pathname === form.getAttribute("hx-post")) {
      if (event.detail.xhr.getResponseHeader("HX-Replace-Url")) confirmed = sentWith.get(event.detail.xhr) ?? confirmed;
      showNotes();
      openColumns();
    } else notKept("you are signed out. Sign in in another tab, then go on here.");
  });

  form.addEventListener("htmx:responseError", (event) => {
    if (event.target === form) notKept(`the server answered ${event.detail.xhr.status}.`);
  });

  form.addEventListener("htmx:sendError", (event) => {
    if (event.target !== form) return;
    event.stopPropagation(); // said here, once, and not with every pause in typing
    notKept("the server does not answer. It is tried again when you are online, or go on typing.");
  });

  window.addEventListener("online", () => isDirty() && form.dispatchEvent(new CustomEvent("hub:kept")));

  form.addEventListener("htmx:beforeRequest", (event) => {
    if (event.target !== form) return;
    if (isSending) event.preventDefault();
    else sentWith.set(event.detail.xhr, changes);
  });

  for (const name of ["input", "change", "hub:kept"]) {
    form.addEventListener(name, () => {
      if (changes === 0) comeBackToDraft();
      changes += 1;
    });
  }

  /* A request in flight does not count: leaving the page aborts it. */
  const keepBeforeLeaving = () => {
    if (!isDirty() || isSending || beaconed === changes) return;
    const kept = new FormData(form);
    for (const name of ["shots_file", "held_out_file"]) kept.delete(name);
    if (navigator.sendBeacon(form.getAttribute("hx-post"), kept)) beaconed = changes;
  };

  document.addEventListener("visibilitychange", () => document.visibilityState === "hidden" && keepBeforeLeaving());
  window.addEventListener("pagehide", keepBeforeLeaving);

  /* What is discarded is not kept once more on the way. */
  document.querySelector("#discard").addEventListener("submit", () => {
    isSending = true;
  });

  /* ---------- choices ---------- */

  /* Only the searches that the method has, and its own fields. */
  const offerWhatFits = () => {
    const method = form.querySelector("input[name=method]:checked");
    const fitting = (method?.dataset.searches ?? "").split(" ");
    const { search, batch_size: batchSize, budget } = form.elements;
    for (const option of search.options) {
      option.hidden = !fitting.includes(option.value);
      option.disabled = option.hidden;
    }
    if (search.selectedOptions[0]?.disabled) search.value = "auto";
    batchSize.closest(".field").hidden = method?.value !== "lorahub";
    budget.placeholder = method?.dataset.budget ?? "";
  };

  form.addEventListener("change", offerWhatFits);

  /* A module that is picked goes above the list, and back into it when it is not any more. */
  const chooser = form.querySelector("[data-chooser]");
  chooser.addEventListener("change", ({ target }) => {
    if (target.name !== "modules") return;
    const list = chooser.querySelector(target.checked ? "#chooser-picked" : "#chooser-list");
    list[target.checked ? "append" : "prepend"](target.closest("li"));
    target.focus({ preventScroll: true });
  });

  /* Enter in the search would send the form. */
  form.querySelector("[data-find]").addEventListener("keydown", (event) => {
    if (event.key === "Enter") event.preventDefault();
  });

  /* ---------- sending ---------- */

  /* A second click while the first is on its way; the server would give the same composition anyway. */
  form.addEventListener("submit", () => {
    isSending = true; // a draft that is kept from now on would be one of what is composed already
    htmx.trigger(form, "htmx:abort");
    // The way back then leads to a copy of what this becomes, or to the draft if it was refused.
    history.replaceState(history.state, "", `?draft=${form.elements.form_key.value}`);
    const button = form.querySelector(".summary button[type=submit]");
    setTimeout(() => {
      button.disabled = true;
    });
  });
  window.addEventListener("pageshow", () => {
    isSending = false;
    form.querySelector(".summary button[type=submit]").disabled = false;
    offerWhatFits();
    keepAnEmptyRow();
  });
})();
