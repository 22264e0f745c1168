/* The upload form: takes a whole folder, asks the server what it says of it, and sends the files with their
   progress on a page that stays. Which files are a module's, and what is wrong with them, the server tells.
   The form works without any of it. */
(() => {
  const form = document.querySelector("[data-upload]");
  if (!form) return;
  const reads = JSON.parse(document.querySelector("#upload-reads").textContent);
  const drop = form.querySelector("[data-drop]");
  const picker = form.querySelector("[data-picker]");
  const told = form.querySelector("[data-told]");
  const alert = form.querySelector("[data-alert]");
  const said = form.querySelector("[data-said]");
  const progress = form.querySelector("[data-progress]");
  const button = form.querySelector("button:not([type=button])");
  const pathsMax = Number(form.dataset.pathsMax);
  const fileFields = ["config_file", "weights_file", "card_file"];
  const checkedFields = ["namespace", "name", "base", "licence", ...fileFields];
  const fields = form.elements;
  drop.hidden = false;

  /* ---------- what is wrong, beside its field ---------- */

  const shownField = (name) => (fields[name]?.type === "hidden" ? null : fields[name]?.closest(".field"));

  const showError = (name, messages) => {
    const box = shownField(name);
    if (!box) return;
    const control = fields[name];
    box.querySelector(".field__error")?.remove();
    box.classList.toggle("field--error", messages.length > 0);
    const describedBy = [box.querySelector(".field__help")?.id];
    if (messages.length) {
      const error = document.querySelector("#field-error").content.firstElementChild.cloneNode(true);
      error.id = `${control.id}_error`;
      error.querySelector("ul").append(...messages.map((text) => element("li", text)));
      box.append(error);
      control.setAttribute("aria-invalid", "true");
      describedBy.push(error.id);
    } else control.removeAttribute("aria-invalid");
    control.setAttribute("aria-describedby", describedBy.filter(Boolean).join(" "));
  };

  const fail = (text) => {
    const notice = document.querySelector("#upload-failure").content.firstElementChild.cloneNode(true);
    notice.querySelector("[data-text]").textContent = text;
    alert.replaceChildren(notice);
  };

  const element = (kind, text) => {
    const made = document.createElement(kind);
    made.textContent = text;
    return made;
  };

  /* ---------- what the server says of the files before they are sent ---------- */

  let folder = { name: "", files: [] }; // of the last one that was taken: {path, file}
  let turn = 0;

  /* The header of a safetensors file is as long as its first eight bytes say; another file's beginning tells its kind. */
  const beginningOf = async (file) => {
    const start = new DataView(await file.slice(0, 8).arrayBuffer());
    const length = start.byteLength === 8 ? Number(start.getBigUint64(0, true)) : 0;
    return file.slice(0, length <= reads.header ? Math.max(8 + length, reads.beginning) : reads.beginning);
  };

  const base64Of = (blob) =>
    new Promise((resolve, reject) => {
      const reader = new FileReader();
      reader.addEventListener("load", () => resolve(reader.result.split(",")[1] ?? ""));
      reader.addEventListener("error", () => reject(reader.error));
      reader.readAsDataURL(blob);
    });

  /* How weights begin that are not where an adapter's are: their tensors tell whose format they have. */
  const samplesOf = async (files) => {
    const weights = files.filter(({ path }) => path.endsWith(".safetensors"));
    if (weights.some(({ path }) => path === "adapter_model.safetensors")) return {};
    const depth = ({ path }) => path.split("/").length;
    const first = weights.sort((one, other) => depth(one) - depth(other)).slice(0, reads.samples_max);
    return Object.fromEntries(await Promise.all(first.map(async ({ path, file }) => [path, await base64Of(file.slice(0, reads.sample))])));
  };

  const ask = async (parts) => {
    const sent = new FormData();
    for (const name of ["csrfmiddlewaretoken", "namespace", "name", "base", "licence"]) sent.append(name, fields[name]?.value ?? "");
    sent.append("paths", JSON.stringify(folder.files.map(({ path }) => path)));
    sent.append("samples", JSON.stringify(await samplesOf(folder.files)));
    sent.append("folder", folder.name);
    for (const [name, part] of Object.entries(parts)) sent.append(name, part);
    const answer = await fetch(form.dataset.check, { method: "POST", body: sent, headers: { Accept: "application/json" } });
    return answer.json();
  };

  const chosenParts = async () => {
    const parts = {};
    for (const name of ["config_file", "card_file"]) {
      const [file] = fields[name].files;
      if (file) parts[name] = file.slice(0, reads[name]);
    }
    const [weights] = fields.weights_file.files;
    if (weights) Object.assign(parts, { beginning: await beginningOf(weights), weights_size: weights.size });
    return parts;
  };

  const tell = ({ taken = {}, left_out: leftOut, notices = [] }) => {
    const lines = [];
    const names = Object.values(taken);
    if (names.length) lines.push(element("p", `Selected${folder.name && ` from “${folder.name}”`}: ${names.join(", ")}.`));
    if (leftOut) lines.push(element("p", `${leftOut}.`));
    if (notices.length) {
      const list = document.createElement("ul");
      list.append(...notices.map((text) => element("li", text)));
      lines.push(element("p", "What happens to the files:"), list);
    }
    told.replaceChildren(...lines);
  };

  const showAnswer = (answer) => {
    tell(answer);
    for (const name of checkedFields) showError(name, answer.errors?.[name] ?? []);
    if (answer.errors?.paths) fail(answer.errors.paths.join(" "));
  };

  /* Only into fields that are still empty: what a person typed stays. */
  const prefill = (suggestions = {}) => {
    for (const [name, text] of Object.entries(suggestions)) {
      if (fields[name] && !fields[name].value.trim()) fields[name].value = text;
    }
  };

  const check = async () => {
    turn += 1;
    const mine = turn;
    try {
      const answer = await ask(await chosenParts());
      if (mine !== turn) return; // something was changed meanwhile
      const before = fields.name?.value;
      prefill(answer.suggestions);
      showAnswer(answer);
      if (fields.name?.value !== before) await check(); // is the name that was filled in free?
    } catch {
      if (mine === turn) told.replaceChildren(element("p", "The files could not be checked in advance. You can still upload them."));
    }
  };

  /* ---------- a folder ---------- */

  const put = (field, file) => {
    const list = new DataTransfer();
    if (file) list.items.add(file);
    field.files = list.files;
  };

  const take = async (name, files) => {
    alert.replaceChildren();
    if (files.length > pathsMax) {
      fail(`“${name}” holds more than ${pathsMax.toLocaleString("en")} files. Choose the folder that peft wrote, or the files one by one.`);
      return;
    }
    turn += 1;
    folder = { name, files };
    fields.paths.value = JSON.stringify(files.map(({ path }) => path));
    try {
      const answer = await ask({});
      showAnswer(answer);
      if (Object.keys(answer.errors).some((field) => fileFields.includes(field))) return; // the files chosen before stay
      for (const field of fileFields) put(fields[field], files.find(({ path }) => path === answer.taken[field])?.file);
      await check();
    } catch {
      fail("The folder could not be read. Check your connection, or choose the files one by one.");
    }
  };

  form.querySelector("[data-choose]").addEventListener("click", () => picker.click());

  picker.addEventListener("change", () => {
    const files = [...picker.files].map((file) => ({ path: file.webkitRelativePath.split("/").slice(1).join("/"), file }));
    const [name] = picker.files[0]?.webkitRelativePath.split("/") ?? [""];
    picker.value = ""; // so that the same folder can be chosen again
    if (files.length) take(name, files);
  });

  const read = (call) => new Promise((resolve, reject) => call(resolve, reject));

  const entriesOf = async (directory) => {
    const reader = directory.createReader();
    const found = [];
    for (let some = await read((...on) => reader.readEntries(...on)); some.length; some = await read((...on) => reader.readEntries(...on))) found.push(...some);
    return found;
  };

  /* All files below these entries, each with its path; one more than the most at the latest it stops. */
  const filesBelow = async (entries, above = "", found = []) => {
    for (const entry of entries) {
      if (found.length > pathsMax) break;
      const path = above + entry.name;
      if (entry.isDirectory) await filesBelow(await entriesOf(entry), `${path}/`, found);
      else found.push({ path, file: await read((...on) => entry.file(...on)) });
    }
    return found;
  };

  const hasFiles = (event) => event.dataTransfer?.types.includes("Files") && !event.target.matches?.("input[type=file]");
  let depth = 0; // a child is entered before its parent is left

  const over = (change) => {
    depth = Math.max(0, depth + change);
    drop.classList.toggle("is-over", depth > 0);
  };

  document.addEventListener("dragenter", (event) => hasFiles(event) && over(1));
  document.addEventListener("dragleave", (event) => hasFiles(event) && over(-1));
  document.addEventListener("dragover", (event) => hasFiles(event) && event.preventDefault());
  document.addEventListener("drop", async (event) => {
    over(-depth);
    if (!hasFiles(event)) return;
    event.preventDefault(); // anywhere on the page: a browser would open the file in its place
    const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry()).filter(Boolean);
    const [first] = entries;
    try {
      if (entries.length === 1 && first.isDirectory) await take(first.name, await filesBelow(await entriesOf(first)));
      else if (first) await take("", await filesBelow(entries));
    } catch {
      fail("The folder could not be read. Choose it with the button, or its files one by one.");
    }
  });

  /* A file that is chosen by itself is not of the folder any more. */
  form.addEventListener("change", (event) => {
    const { name } = event.target;
    if (fileFields.includes(name)) {
      folder = { name: "", files: [] };
      fields.paths.value = "[]";
    }
    if (checkedFields.includes(name)) check();
  });

  form.addEventListener("input", (event) => {
    if (!checkedFields.includes(event.target.name)) showError(event.target.name, []);
  });

  /* ---------- sending ---------- */

  let request = null;

  const megabytes = (bytes) => (bytes / 1e6).toFixed(1);

  const showBytes = ({ loaded, total }) => {
    const bar = progress.querySelector("progress");
    const percent = total ? Math.floor((100 * loaded) / total) : 0;
    bar.value = total ? loaded / total : 0;
    progress.querySelector("[data-bytes]").textContent =
      loaded < total ? `${megabytes(loaded)} of ${megabytes(total)} MB` : "Uploaded. The files are being checked.";
    progress.querySelector("[data-stop]").hidden = loaded === total; // from here on the server decides
    const step = `${percent - (percent % 25)} percent sent`;
    if (said.textContent !== step) said.textContent = step;
  };

  const stopSending = () => {
    request = null;
    progress.hidden = true;
    button.disabled = false;
  };

  const showRefusal = (errors) => {
    for (const field of form.querySelectorAll("[name]")) showError(field.name, errors[field.name] ?? []);
    const elsewhere = Object.keys(errors).filter((name) => !shownField(name));
    fail(["Nothing was published. Your input is still here.", ...elsewhere.flatMap((name) => errors[name])].join(" "));
    form.querySelector("[aria-invalid]")?.focus();
  };

  const understand = (xhr) => {
    try {
      return JSON.parse(xhr.responseText);
    } catch {
      const isSignedOut = new URL(xhr.responseURL).pathname !== location.pathname;
      return {
        error: {
          message: isSignedOut
            ? "You are signed out. Sign in in another tab, then reload this page."
            : `The server answered ${xhr.status}. Try again. If you have signed in again since, reload this page.`,
        },
      };
    }
  };

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (request) return;
    alert.replaceChildren();
    turn += 1; // an answer about the beginning comes too late now
    request = new XMLHttpRequest();
    request.open("POST", location.pathname);
    request.setRequestHeader("Accept", "application/json");
    request.upload.addEventListener("progress", showBytes);
    request.upload.addEventListener("load", showBytes);
    request.addEventListener("load", ({ target }) => {
      const { address, errors, error } = understand(target);
      if (address) {
        location.assign(address);
        return;
      }
      stopSending();
      if (errors) showRefusal(errors);
      else fail(error.message);
    });
    request.addEventListener("error", () => {
      stopSending();
      fail("The files could not be sent. Check your connection; choose a file again if it has changed. Your input is still here.");
    });
    request.addEventListener("abort", () => {
      stopSending();
      said.textContent = "Stopped. Nothing was published.";
    });
    button.disabled = true;
    progress.hidden = false;
    showBytes({ loaded: 0, total: 1 });
    request.send(new FormData(form));
  });

  form.querySelector("[data-stop]").addEventListener("click", () => {
    request?.abort();
    button.focus();
  });

  window.addEventListener("pageshow", stopSending);
})();
