/* uPlot in the site's colours. Needs vendor/uplot/uPlot.iife.min.js before it.

   const chart = hubCharts.line(element, {
     x: "step", y: "loss, nats per token",
     series: [{ label: "best so far", kind: "ours", stepped: true }, { label: "this step", kind: "baseline", dots: true }],
     isLog: false, // a logarithmic y axis, where losses span decades
   });
   chart.setData([[1, 2], [3.1, 2.8], [3.1, 2.9]]);
*/
window.hubCharts = (() => {
  /* Canvas knows no light-dark(): ask the browser what a class's colour is right now. */
  const colourOf = (host, name) => {
    const probe = document.createElement("span");
    probe.className = name;
    probe.hidden = true;
    host.append(probe);
    const colour = getComputedStyle(probe).color;
    probe.remove();
    return colour;
  };

  const axis = (host, label, more) => {
    const face = getComputedStyle(host);
    const mono = `12px ${face.getPropertyValue("--font-mono")}`;
    return {
      label,
      labelFont: `13px ${face.fontFamily}`,
      font: mono,
      labelSize: 24,
      stroke: () => colourOf(host, "quiet"),
      grid: { stroke: () => colourOf(host, "plot-grid"), width: 1 },
      ticks: { show: false },
      ...more,
    };
  };

  const series = (host, { label, kind, dots = false, stepped = false }) => ({
    label,
    paths: stepped ? uPlot.paths.stepped({ align: 1 }) : undefined,
    stroke: () => colourOf(host, `series-${kind}`),
    width: dots ? 0 : 2,
    points: { show: dots, size: 5, fill: () => colourOf(host, `series-${kind}`) },
  });

  /* What is left between the paddings: a wider canvas would scroll. */
  const roomIn = (host) => {
    const { paddingLeft, paddingRight } = getComputedStyle(host);
    return host.clientWidth - parseFloat(paddingLeft) - parseFloat(paddingRight);
  };

  const LOG_ROOM = 1.15; // beyond the smallest and the largest value, as a factor

  /* A decade has a grid line and its number; what lies between has neither. */
  const decades = (_plot, values) => values.map((value) => (Number.isInteger(Math.log10(value)) ? value : null));

  const line = (host, { x, y, series: wanted, height = 256, isLog = false }) => {
    const scale = isLog
      ? { distr: 3, range: (_plot, least, most) => [least / LOG_ROOM, most * LOG_ROOM] }
      : { range: (_plot, _least, most) => [0, most ? 1.05 * most : 1] }; // a loss of 0 means something
    const options = {
      width: roomIn(host),
      height,
      scales: {
        x: { time: false },
        y: scale,
      },
      cursor: { drag: { x: false, y: false } },
      legend: { live: false }, // names the lines; its values would be blank while nobody hovers
      axes: [axis(host, x, { size: 32, labelSize: 20, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500] }), axis(host, y, { size: 48, ...(isLog && { filter: decades }) })],
      series: [{ label: x }, ...wanted.map((one) => series(host, one))],
    };
    const plot = new uPlot(options, [[], ...wanted.map(() => [])], host);
    const resizes = new ResizeObserver(() => plot.setSize({ width: roomIn(host), height }));
    const redraw = () => plot.redraw(false);
    resizes.observe(host);
    document.addEventListener("hub:theme", redraw);
    plot.hooks.destroy = [
      () => {
        resizes.disconnect();
        document.removeEventListener("hub:theme", redraw);
      },
    ];
    return plot;
  };

  return { line, colourOf };
})();
