/* Follows a running composition: draws the loss and the weights, keeps the log, and asks the server for
   its words anew when there is news. It listens to server-sent events; where none come, it asks every
   second. Either way an event is taken once and in order: each has a number, and `last` is the one we have. */
(() => {
  const POLL_MS = 1000;
  const HIDDEN_MS = 10_000; // a page that nobody sees holds no connection open: a browser has six of them
  const PATIENCE_MS = 5000; // between tries while the server does not answer
  const SILENCE_MS = 5000; // a stream that says nothing for so long at its start is held back by a proxy
  const BARS_MAX = 12;
  const NEGLIGIBLE = 1e-4;
  const LOG_FROM = 20; // largest / smallest loss; from here on the small ones would lie together at zero
  const LOST = "The connection is lost. Trying again; nothing is missed.";

  const watched = document.querySelector("[data-watch]");
  const bars = watched.querySelector("[data-weights]");
  const aloud = watched.querySelector("[data-aloud]");
  const link = watched.querySelector("[data-link]");
  const log = watched.querySelector("[data-log]");
  const table = watched.querySelector("[data-steps]");
  const plot = watched.querySelector("[data-loss]");

  let last = 0;
  let names = [];
  let weights = [];
  let losses = [[], [], []]; // steps, lowest loss, loss
  let baseLoss = null; // of the base alone, in nats per token
  let chart = null;
  let isDrawn = true;
  let ended = false;
  let streamFails = !window.EventSource;
  let source = null;
  let timer = 0;
  let lossTimer = 0; // a stream that ends and comes back within a moment is not lost
  let runs = 0; // an answer to an earlier run comes too late

  // --- what is drawn -----------------------------------------------------------

  const svg = (name, attributes) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    return element;
  };

  const element = (name, className, text = "") => {
    const made = document.createElement(name);
    made.className = className;
    made.textContent = text;
    return made;
  };

  const rows = new Map(); // by module: kept, so that its bar grows instead of being drawn anew

  const rowOf = (name) => {
    if (!rows.has(name)) {
      const row = element("div", "rows__row series-ours");
      const track = svg("svg", { class: "rows__track", "aria-hidden": "true" });
      const bar = svg("rect", { class: "chart__bar", y: "25%", height: "50%", rx: 2 });
      const zero = svg("line", { class: "chart__zero", y1: 0, y2: "100%" });
      const value = element("span", "rows__value");
      track.append(bar, zero);
      row.append(element("span", "rows__label mono", name), track, value);
      rows.set(name, { row, bar, zero, value });
    }
    return rows.get(name);
  };

  const drawWeights = () => {
    if (weights.length !== names.length) return;
    const heaviest = names
      .map((name, index) => ({ name, weight: weights[index] }))
      .filter(({ weight }) => Math.abs(weight) > NEGLIGIBLE)
      .sort((a, b) => Math.abs(b.weight) - Math.abs(a.weight))
      .slice(0, BARS_MAX);
    const low = Math.min(0, ...heaviest.map(({ weight }) => weight));
    const high = Math.max(0, ...heaviest.map(({ weight }) => weight));
    const perUnit = 100 / (high - low || 1);
    const zero = `${-low * perUnit}%`;
    const shown = heaviest.map(({ name, weight }) => {
      const drawn = rowOf(name);
      drawn.bar.setAttribute("class", weight < 0 ? "chart__bar chart__bar--negative" : "chart__bar");
      drawn.bar.setAttribute("x", `${(Math.min(0, weight) - low) * perUnit}%`);
      drawn.bar.setAttribute("width", `${Math.abs(weight) * perUnit}%`);
      drawn.zero.setAttribute("x1", zero);
      drawn.zero.setAttribute("x2", zero);
      drawn.value.textContent = weight.toFixed(2).replace("-", "−"); // as the server writes it
      return drawn.row;
    });
    const holder = element("div", "rows");
    holder.append(...shown);
    const room = Math.min(names.length, BARS_MAX) - shown.length; // as high as with all bars
    for (let i = 0; i < room; i += 1) holder.append(element("div", "rows__row"));
    bars.replaceChildren(holder);
  };

  /* Drawn anew when the losses come to span decades. */
  const chartOfLosses = (shown) => {
    const all = shown.slice(1).flat();
    const least = all.reduce((a, b) => Math.min(a, b));
    const most = all.reduce((a, b) => Math.max(a, b));
    const isLog = least > 0 && most / least > LOG_FROM;
    if (chart?.isLog === isLog) return chart.drawn;
    chart?.drawn.destroy();
    plot.replaceChildren();
    const series = [
      { label: "lowest so far", kind: "ours" },
      { label: "this step", kind: "baseline", dots: true },
    ];
    if (baseLoss !== null) series.push({ label: "base alone", kind: "reference" });
    chart = { isLog, drawn: hubCharts.line(plot, { x: "step", y: "loss, nats per token", series, isLog }) };
    return chart.drawn;
  };

  const drawLoss = () => {
    const shown = baseLoss === null ? losses : [...losses, losses[0].map(() => baseLoss)];
    chartOfLosses(shown).setData(shown);
    const written = table.childElementCount;
    for (let i = written; i < losses[0].length; i += 1) {
      const row = element("tr", "");
      row.append(
        element("th", "num", losses[0][i]),
        element("td", "num", losses[2][i].toFixed(4)),
        element("td", "num", losses[1][i].toFixed(4)),
      );
      row.firstChild.scope = "row";
      table.prepend(row); // the newest first
    }
  };

  /* The words that move with every step; all others come from the server. */
  const countSteps = () => {
    const bar = watched.querySelector("[data-steps-bar]");
    if (!bar || !losses[0].length) return;
    const done = losses[0].at(-1);
    bar.max = Math.max(bar.max, done); // a step may be one more than was planned
    bar.value = done;
    bar.setAttribute("aria-label", `Step ${done} of ${bar.max}`);
    watched.querySelector("[data-steps-done]").textContent = done;
    watched.querySelector("[data-steps-planned]").textContent = bar.max;
    const best = watched.querySelector("[data-best-loss]");
    if (best) best.textContent = losses[1].at(-1).toFixed(3);
  };

  const draw = () => {
    isDrawn = true;
    if (!losses[0].length) return;
    drawLoss();
    drawWeights();
    countSteps();
  };

  const drawSoon = () => {
    if (isDrawn) requestAnimationFrame(draw);
    isDrawn = false;
  };

  // --- what is told ---------------------------------------------------------------

  const askForWords = () => document.body.dispatchEvent(new CustomEvent("hub:news"));

  const takers = {
    stage: ({ detail }) => {
      names = detail.modules ?? names;
      aloud.textContent = detail.text; // said aloud once, not at every step
      askForWords();
    },
    step: ({ detail }) => {
      losses[0].push(detail.step);
      losses[1].push(detail.best_loss);
      losses[2].push(detail.loss);
      weights = detail.weights;
      if (detail.step === 1) askForWords(); // from now on there are steps to count
    },
    base: ({ detail }) => {
      baseLoss = detail.loss_nats;
    },
    alone: askForWords,
    baseline: askForWords,
    adapter: askForWords,
  };

  const take = (event) => {
    if (event.number <= last) return; // we have it
    last = event.number;
    const line = element("li", "");
    line.append(element("time", "quiet", event.at.slice(11, 19)), ` ${event.said}`);
    log.append(line);
    takers[event.kind]?.(event);
    drawSoon();
  };

  const finish = (status) => {
    ended = true;
    stop();
    draw(); // a tab in the background gets no animation frame to draw the last steps in
    plot.closest(".watch-figures").hidden = !losses[0].length; // nothing more will be drawn there
    document.title = `${status === "done" ? "Done" : "Ended"}: ${document.title}`;
    aloud.textContent = status === "done" ? "Done. The verdict is above the charts." : "Ended.";
    askForWords();
  };

  // --- how it comes ---------------------------------------------------------------

  const isBack = () => {
    clearTimeout(lossTimer);
    lossTimer = 0;
    link.textContent = "";
  };

  const stop = () => {
    runs += 1;
    clearTimeout(timer);
    source?.close();
    source = null;
    isBack();
  };

  const later = (what, wait_ms) => {
    clearTimeout(timer);
    timer = setTimeout(what, wait_ms);
  };

  const listen = () => {
    source = new EventSource(`${watched.dataset.stream}?after=${last}`);
    later(giveUpStream, SILENCE_MS); // until its first word
    source.onmessage = ({ data }) => {
      clearTimeout(timer);
      take(JSON.parse(data));
    };
    source.addEventListener("standing", ({ data }) => {
      clearTimeout(timer);
      isBack();
      const { status, is_finished: isFinished } = JSON.parse(data);
      if (isFinished) finish(status);
      else askForWords();
    });
    source.onerror = () => {
      clearTimeout(timer);
      if (source?.readyState === EventSource.CLOSED) giveUpStream();
      else lossTimer ||= setTimeout(() => (link.textContent = LOST), PATIENCE_MS / 2); // it comes back by itself
    };
  };

  const giveUpStream = () => {
    stop();
    streamFails = true;
    poll();
  };

  const poll = async () => {
    const run = runs;
    try {
      const answer = await fetch(`${watched.dataset.events}?after=${last}`, { headers: { Accept: "application/json" } });
      if (answer.redirected) return window.location.reload(); // signed out
      if (!answer.ok) throw new Error(answer.statusText);
      const news = await answer.json();
      if (run !== runs) return undefined; // meanwhile it comes another way
      isBack();
      news.events.forEach(take);
      if (news.is_finished) finish(news.status);
      else later(poll, document.hidden ? HIDDEN_MS : POLL_MS);
    } catch {
      if (run !== runs) return undefined;
      link.textContent = LOST;
      later(poll, PATIENCE_MS);
    }
    return undefined;
  };

  const follow = () => {
    stop();
    if (ended) return;
    if (streamFails || document.hidden) poll();
    else listen();
  };

  /* A fragment that comes anew keeps what its reader had opened. */
  let opened = [];
  document.addEventListener("htmx:beforeSwap", () => {
    opened = [...watched.querySelectorAll("#found details[open]")].map(({ id }) => id);
  });
  document.addEventListener("htmx:afterSettle", () => {
    for (const id of opened) document.getElementById(id)?.setAttribute("open", "");
    countSteps();
  });

  document.addEventListener("visibilitychange", follow);
  window.addEventListener("pagehide", stop);
  window.addEventListener("pageshow", ({ persisted }) => persisted && follow());

  log.replaceChildren(); // the events tell it from the beginning
  follow();
})();
