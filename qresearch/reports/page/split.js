// Clipping or rounding: what makes the squared error of each layer, for the first two picks side by side.

function drawSplit(element) {
  const tensor = choice("split-tensor", plurals(SPLIT), "input");
  const sides = view.picks.slice(0, 2).map((pick) => splitOf(pick, tensor));
  const able = sides.filter(({ shares }) => shares.some(({ mean }) => mean !== null));
  byId("split-names").replaceChildren(sideList(able.map((side) => side.pick)));
  if (able.length === 0) return plot(element, [], {}, "No quantized layers to split: pick two rows of the table.");
  const most = extent(able.map(({ layers }) => layers.length))[1];
  const layout = {
    barmode: "stack",
    bargap: 0.25,
    height: Math.max(240, most * 22 + 150),
    legend: { y: 1.08 },
    annotations: [],
  };
  for (const [index, side] of able.entries()) placeSide(layout, side, index, able.length);
  plot(element, able.flatMap(sideTraces), layout);
}

function splitOf(pick, tensor) {
  return {
    pick,
    layers: pick.runs.length ? layersOf(pick.runs[0]) : [],
    shares: meanByLayer(pick.runs, (record) => clipShareOf(record, tensor)),
    sqnr: meanByLayer(pick.runs, (record) => sqnrOf(record, tensor)),
  };
}

/** Give a side its half of the drawing, its axes and its letter. */
function placeSide(layout, { pick, layers }, index, sides) {
  const n = index === 0 ? "" : "2";
  const domain = sides === 1 ? [0, 1] : index === 0 ? [0, 0.46] : [0.54, 1];
  const [x, y] = [baseLayout().xaxis, baseLayout().yaxis];
  layout[`xaxis${n}`] = { ...x, ...named("% of squared error"), domain, anchor: `y${n}`, range: [0, 100] };
  layout[`yaxis${n}`] = { ...y, ...layerAxis(layers), anchor: `x${n}`, showticklabels: index === 0 };
  layout.annotations.push({
    text: `<b>${pick.letter}</b>`,
    showarrow: false,
    xref: "paper",
    yref: "paper",
    x: domain[0],
    xanchor: "left",
    y: 1,
    yanchor: "bottom",
  });
}

function sideTraces({ pick, layers, shares, sqnr }, index) {
  const axes = index === 0 ? {} : { xaxis: "x2", yaxis: "y2" };
  const y = layers.map((_, layer) => layer);
  const clip = shares.map(({ mean }) => (mean === null ? null : 100 * mean));
  const text = layers.map((name, layer) => {
    const clipped = shareInWords(shares[layer]);
    return hover(
      name,
      `clipping ${clipped} of the squared error`,
      `SQNR ${withInterval(sqnr[layer], 1)} dB`,
      pick.label,
    );
  });
  const bar = { type: "bar", orientation: "h", y, text, hoverinfo: "text", textposition: "none", ...axes };
  const [rounding, clipping] = palette();
  const pattern = { shape: "/", solidity: 0.25, fgcolor: colour("--panel"), fillmode: "overlay" };
  const shown = { showlegend: index === 0 };
  const half = halves(shares, 100);
  return [
    { ...bar, ...shown, name: "clipping", x: clip, marker: { color: clipping, pattern } },
    {
      ...bar,
      ...shown,
      name: "rounding",
      x: clip.map((value) => (value === null ? null : 100 - value)),
      marker: { color: rounding },
    },
    // the intervals, over both bars
    {
      type: "scatter",
      mode: "markers",
      x: clip,
      y,
      error_x: errorBars(half, half, colour("--text"), 3),
      marker: { size: 1, color: colour("--text") },
      showlegend: false,
      hoverinfo: "skip",
      ...axes,
    },
  ];
}

function shareInWords({ mean, half }) {
  return mean === null ? "–" : `${withInterval({ mean: 100 * mean, half: half && 100 * half }, 1)} %`;
}
