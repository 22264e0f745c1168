/* Draws what a running composition tells: the loss by step, and the weights of the last step.
   The words above the figures come from the server as a fragment; this draws and, at the end, reloads. */
(() => {
  const POLL_MS = 500;
  const PATIENCE_MS = 5000; // between tries while the server does not answer
  const BARS_MAX = 12;
  const NEGLIGIBLE = 1e-4;

  const watched = document.querySelector("[data-watch]");
  const names = JSON.parse(document.querySelector("#module-names").textContent);
  const bars = watched.querySelector("[data-weights]");
  const stage = watched.querySelector("[data-stage]");
  const figures = watched.querySelector("[data-figures]");

  let chart = null; // made with the first step: a hidden element has no width to draw in
  let last = 0;
  let attempt = 0;
  let data = [[], [], []];

  const svg = (name, attributes) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    return element;
  };

  const bar = ({ name, weight }, zero, perUnit) => {
    const row = document.createElement("div");
    row.className = "rows__row series-ours";
    const label = document.createElement("span");
    label.className = "rows__label mono";
    label.textContent = name;
    const track = svg("svg", { class: "rows__track", "aria-hidden": "true" });
    const start = zero + Math.min(0, weight) * perUnit;
    const kind = weight < 0 ? "chart__bar chart__bar--negative" : "chart__bar";
    track.append(
      svg("rect", { class: kind, x: `${start}%`, width: `${Math.abs(weight) * perUnit}%`, y: "25%", height: "50%", rx: 2 }),
      svg("line", { class: "chart__zero", x1: `${zero}%`, x2: `${zero}%`, y1: 0, y2: "100%" }),
    );
    const value = document.createElement("span");
    value.className = "rows__value";
    value.textContent = weight.toFixed(2);
    row.append(label, track, value);
    return row;
  };

  const drawWeights = (weights) => {
    if (weights.length !== names.length) return;
    const heaviest = names
      .map((name, index) => ({ name, weight: weights[index] }))
      .filter(({ weight }) => Math.abs(weight) > NEGLIGIBLE)
      .sort((a, b) => Math.abs(b.weight) - Math.abs(a.weight))
      .slice(0, BARS_MAX);
    const low = Math.min(0, ...heaviest.map(({ weight }) => weight));
    const high = Math.max(0, ...heaviest.map(({ weight }) => weight));
    const perUnit = 100 / (high - low || 1);
    bars.replaceChildren(...heaviest.map((entry) => bar(entry, -low * perUnit, perUnit)));
  };

  const drawLoss = () => {
    figures.hidden = false;
    watched.querySelector("[data-before-figures]").hidden = true;
    chart ??= hubCharts.line(watched.querySelector("[data-loss]"), {
      x: "step",
      y: "loss, nats per token",
      series: [
        { label: "best so far", kind: "ours" },
        { label: "this step", kind: "baseline", dots: true },
      ],
    });
    chart.setData(data);
  };

  const take = (event) => {
    last = event.number;
    if (event.attempt !== attempt) {
      attempt = event.attempt; // a new worker began again
      data = [[], [], []];
    }
    if (event.kind === "stage") stage.textContent = event.detail.text; // said aloud once, not at every poll
    if (event.kind !== "step") return;
    data[0].push(event.detail.step);
    data[1].push(event.detail.best_loss);
    data[2].push(event.detail.loss);
  };

  const poll = async () => {
    try {
      const answer = await fetch(`${watched.dataset.watch}?after=${last}`, { headers: { Accept: "application/json" } });
      if (!answer.ok) throw new Error(answer.statusText);
      const news = await answer.json();
      news.events.forEach(take);
      const step = news.events.findLast((event) => event.kind === "step");
      if (step) {
        drawLoss();
        drawWeights(step.detail.weights);
      }
      if (news.is_finished) window.location.reload();
      else setTimeout(poll, POLL_MS);
    } catch {
      setTimeout(poll, PATIENCE_MS);
    }
  };

  poll();
})();
