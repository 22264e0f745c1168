/* The compose form: rows to add and remove, paste from a spreadsheet, a summary that keeps up.
   The form works without any of it. */
(() => {
  const form = document.querySelector("[data-compose]");
  if (!form) return;
  const body = form.querySelector("[data-grid] tbody");
  const template = document.querySelector("#grid-row");
  const columnNames = JSON.parse(document.querySelector("#column-names").textContent);

  /* ---------- rows ---------- */

  const addRow = () => body.appendChild(template.content.firstElementChild.cloneNode(true));
  const cellsOf = (row) => [...row.querySelectorAll("textarea")];

  form.addEventListener("click", (event) => {
    if (event.target.closest("[data-add]")) cellsOf(addRow())[0].focus();
    const remove = event.target.closest("[data-remove]");
    if (!remove) return;
    const row = remove.closest("tr");
    const next = row.nextElementSibling ?? row.previousElementSibling;
    row.remove();
    (next ?? addRow()).querySelector("textarea").focus();
    summarise();
  });

  /* What Excel and Sheets put on the clipboard: tabs between cells, quotes around a cell with lines in it. */
  const parseTable = (text) => {
    const rows = [[""]];
    let quoted = false;
    for (let i = 0; i < text.length; i += 1) {
      const character = text[i];
      const row = rows.at(-1);
      if (quoted && character === '"' && text[i + 1] === '"') {
        row[row.length - 1] += '"';
        i += 1;
      } else if (character === '"' && (quoted || row.at(-1) === "")) {
        quoted = !quoted;
      } else if (character === "\t" && !quoted) {
        row.push("");
      } else if (character === "\n" && !quoted) {
        rows.push([""]);
      } else {
        row[row.length - 1] += character;
      }
    }
    return rows.filter((row) => row.some((cell) => cell.trim()));
  };

  /* A first row “input, output”, or what else data sets call the two, names the columns. */
  const withoutHeader = (rows) => {
    const names = rows[0].map((cell) => cell.trim().toLowerCase());
    const pair = columnNames.find((wanted) => wanted.every((name) => names.includes(name)));
    return pair ? rows.slice(1).map((cells) => pair.map((name) => cells[names.indexOf(name)] ?? "")) : rows;
  };

  body.addEventListener("paste", (event) => {
    const text = event.clipboardData.getData("text/plain").replace(/\r\n?/g, "\n").replace(/\n+$/, "");
    if (!/[\t\n]/.test(text)) return; // one cell: the browser's own paste is right
    event.preventDefault();
    let row = event.target.closest("tr");
    const column = cellsOf(row).indexOf(event.target);
    const pasted = parseTable(text);
    for (const cells of pasted.length && column === 0 ? withoutHeader(pasted) : pasted) {
      row ??= addRow();
      cells.slice(0, 2 - column).forEach((cell, index) => {
        cellsOf(row)[column + index].value = cell;
      });
      row = row.nextElementSibling;
    }
    summarise();
  });

  /* ---------- choosing modules by hand ---------- */

  const chooser = form.querySelector("[data-chooser]");
  const chosen = () => [...chooser.querySelectorAll("input[name=modules]:checked")].length;

  chooser.querySelector("[data-filter]")?.addEventListener("input", (event) => {
    const words = event.target.value.toLowerCase().split(/\s+/);
    for (const item of chooser.querySelectorAll("li")) {
      item.hidden = !words.every((word) => item.textContent.toLowerCase().includes(word));
    }
  });

  /* Enter in the filter would send the form. */
  chooser.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && event.target.matches("[data-filter]")) event.preventDefault();
  });

  /* ---------- the summary ---------- */

  const checked = (name) => form.querySelector(`input[name=${name}]:checked`);
  const show = (name, text) => {
    form.querySelector(`[data-sum=${name}]`).textContent = text;
  };

  const lines = (name) => form.elements[name].value.split("\n").filter((line) => line.trim()).length;
  const withFile = (count, name) => (form.elements[name].files.length ? `${count || ""} + file`.trim() : count || "none");

  /* Only the searches that the method has, and its own fields. */
  const offerWhatFits = (method) => {
    const fitting = (method?.dataset.searches ?? "").split(" ");
    const { search, batch_size: batchSize } = form.elements;
    for (const option of search.options) {
      option.hidden = !fitting.includes(option.value);
      option.disabled = option.hidden;
    }
    if (search.selectedOptions[0]?.disabled) search.value = "auto";
    batchSize.closest(".field").hidden = method?.value !== "lorahub";
  };

  const summarise = () => {
    const rows = [...body.rows].filter((row) => cellsOf(row).some((cell) => cell.value.trim())).length;
    const kept = checked("held_out_from");
    const all = checked("method")?.dataset.fitting ?? "–";
    const selection = checked("selection")?.value ?? "all";
    show("shots", withFile(rows + lines("shots_text"), "shots_file"));
    show("held-out", withFile((kept ? Number(kept.dataset.count) : 0) + lines("held_out_text"), "held_out_file"));
    const counted = (field) => form.elements[field].value || "–";
    const taken = {
      all,
      screen: counted("screen_count"),
      random: counted("random_count"),
      chosen: String(chosen()),
      steps: counted("steps"),
    };
    show("modules", taken[selection]);
    show("method", checked("method")?.value ?? "–");
    form.elements.budget.placeholder = checked("method")?.dataset.budget ?? "";
    chooser.hidden = selection !== "chosen" && !(selection === "steps" && form.elements.steps.value.startsWith("chosen"));
    offerWhatFits(checked("method"));
  };

  form.addEventListener("input", summarise);
  form.addEventListener("change", summarise);

  /* A second click while the first is on its way; the server would give the same composition anyway. */
  form.addEventListener("submit", () => {
    const button = form.querySelector("button[type=submit]");
    setTimeout(() => {
      button.disabled = true;
    });
  });
  window.addEventListener("pageshow", () => {
    form.querySelector("button[type=submit]").disabled = false;
    summarise();
  });

  summarise();
})();
