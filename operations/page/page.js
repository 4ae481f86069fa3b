"use strict";
// Draws each chart of the page: medians as lines, p25 to p75 as bands, cloudy dates as circles without a line. The colours
// of lines, axes and grid can be read on light and dark paper, and by those who are blind to some colours.
const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#b0528b"];
const DASHES = [[], [7, 4], [2, 3], [9, 3, 2, 3]];
const GREY = "#808080";
const PRINTED = 640;

function shown(value) {
  return value == null ? "--" : Math.abs(value) >= 100 ? value.toFixed(0) : value.toFixed(3).replace(/0$/, "");
}

function drawn(element, chart) {
  const clear = (values) => values.map((value, i) => (chart.cloudy[i] ? null : value));
  const data = [chart.times];
  const series = [{
    label: "date (UTC)",
    value: (plot, raw, _, i) => i == null ? "--" : [new Date(chart.times[i] * 1000).toISOString().slice(0, 16).replace("T", " "),
      chart.references[i], ...(chart.cloudy[i] ? ["cloudy"] : [])].join(", "),
  }];
  const bands = [];
  chart.lines.forEach((line, n) => {
    const colour = COLOURS[(n + chart.colour) % COLOURS.length], dash = DASHES[n % DASHES.length];
    const value = (plot, raw, _, i) => {
      if (i == null || line.middle[i] == null) return "--";
      return shown(line.middle[i]) + (line.low ? ` (${shown(line.low[i])} to ${shown(line.high[i])})` : "");
    };
    data.push(clear(line.middle));
    series.push({ label: line.name, stroke: colour, width: 2, dash, spanGaps: true, value,
      points: { show: true, size: 6, fill: colour, stroke: colour } });
    if (line.low) {
      const first = series.length;
      for (const values of [line.high, line.low]) {
        data.push(clear(values));
        series.push({ label: "", stroke: "transparent", width: 0, spanGaps: true, points: { show: false } });
      }
      bands.push({ series: [first, first + 1], fill: colour + "38" });
    }
    if (chart.cloudy.some(Boolean)) {
      data.push(line.middle.map((value, i) => (chart.cloudy[i] ? value : null)));
      series.push({ label: "", stroke: colour, width: 0, paths: () => null,
        points: { show: true, size: 7, width: 1.3, fill: "transparent", stroke: colour } });
    }
  });
  const axis = { stroke: GREY, grid: { stroke: "rgba(128,128,128,.25)", width: 1 }, ticks: { stroke: GREY, width: 1 } };
  const options = {
    width: element.clientWidth, height: 240, series, bands,
    tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
    axes: [axis, { ...axis, label: chart.unit, labelSize: 22, size: 52 }],
    scales: { x: { range: (plot, low, high) => low === high ? [low - 864000, high + 864000] : [low, high] },
      ...(chart.range ? { y: { range: chart.range } } : {}) },
    cursor: { points: { size: 9 }, drag: { x: true, y: false } },
    // Of bands and circles, the line's own entry tells the values.
    hooks: { ready: [(plot) => plot.root.querySelectorAll(".u-legend .u-series").forEach((row, i) => {
      if (series[i].label === "") row.style.display = "none";
    })] },
  };
  return new uPlot(options, data, element);
}

const plots = [];
for (const element of document.querySelectorAll(".chart")) {
  const plot = drawn(element, JSON.parse(element.querySelector("script").textContent));
  plots.push([element, plot]);
}
function fit(width) {
  for (const [element, plot] of plots) plot.setSize({ width: width || element.clientWidth, height: 240 });
}
let waiting = 0;
addEventListener("resize", () => { clearTimeout(waiting); waiting = setTimeout(fit, 100); });
addEventListener("beforeprint", () => fit(PRINTED));
addEventListener("afterprint", () => fit());
