/* A loss curve that never changes, to look at. */
(() => {
  const steps = Array.from({ length: 40 }, (_, index) => index + 1);
  const losses = steps.map((step) => 0.1 + 1.9 * Math.exp(-step / 9) * (1 + 0.35 * Math.sin(step * 2.1)));
  const best = losses.map((_, index) => Math.min(...losses.slice(0, index + 1)));
  const chart = hubCharts.line(document.querySelector("#specimen-plot"), {
    x: "step",
    y: "loss, nats per token",
    series: [
      { label: "best so far", kind: "ours", stepped: true },
      { label: "this step", kind: "baseline", dots: true },
    ],
  });
  chart.setData([steps, best, losses]);
})();
