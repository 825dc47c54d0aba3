// The plots of A against B: the accuracy of each seed, and the difference of each layer.

/** The accuracy of each seed on both sides, joined, and their means. */
function drawPairs(element) {
  const [a, b] = view.picks;
  const y = columns.get("metric:top1");
  const sides = a && b && y ? pairedValues(y, pairsOf(a, b)) : [[], []];
  const lines = sides[0].map((first, index) => pairTrace([first, sides[1][index]], MARKERS[index % MARKERS.length]));
  const x = {
    range: [-0.3, 1.3],
    tickmode: "array",
    tickvals: [0, 1],
    ticktext: ["A", "B"],
    showgrid: false,
    zeroline: false,
  };
  const layout = { xaxis: x, yaxis: named("top-1 %", y ? percent(y) : {}), height: 360 };
  plot(element, lines.length ? [...lines, meansTrace(sides)] : [], layout, "No pairs to draw.");
}

function pairTrace(y, symbol) {
  const color = colour("--quiet");
  const text = y.map((value) => number(value, 2));
  const looks = { line: { color, width: 1 }, marker: { color, symbol, size: 7 } };
  return { type: "scatter", mode: "lines+markers", x: [0, 1], y, text, hoverinfo: "text", showlegend: false, ...looks };
}

function meansTrace(sides) {
  const means = sides.map(meanInterval);
  const [color] = palette();
  const half = halves(means);
  return {
    type: "scatter",
    mode: "lines+markers",
    x: [-0.04, 1.04],
    y: means.map(({ mean }) => mean),
    error_y: errorBars(half, half, color, 6),
    line: { color, width: 2.5 },
    marker: { color, size: 10 },
    text: means.map((interval) => withInterval(interval, 2)),
    hoverinfo: "text",
    showlegend: false,
  };
}

/** SQNR of B less that of A for each layer, over the pairs. */
function drawDifference(element) {
  const [a, b] = view.picks;
  const tensor = choice("difference-tensor", plurals(TENSORS), "weight");
  const alike = ([first, second]) => first.network === second.network && layersOf(first).length;
  const pairs = a && b ? pairsOf(a, b).filter(alike) : [];
  const layers = pairs.length ? layersOf(pairs[0][0]) : [];
  const differences = meanByLayer(pairs, ([first, second]) => {
    const [x, y] = [sqnrOf(first, tensor), sqnrOf(second, tensor)];
    return x.map((value, layer) => (value === null || y[layer] === null ? null : y[layer] - value));
  });
  const half = halves(differences);
  const [better, worse] = palette();
  const trace = {
    type: "bar",
    orientation: "h",
    y: layers.map((_, layer) => layer),
    x: differences.map(({ mean }) => mean),
    error_x: errorBars(half, half, colour("--text"), 3),
    marker: { color: differences.map(({ mean }) => (mean < 0 ? worse : better)) },
    text: layers.map((name, layer) => hover(`${name}: ${withInterval(differences[layer], 1)} dB`)),
    hoverinfo: "text",
    textposition: "none",
  };
  const x = named("SQNR of B − A, dB", { zeroline: true, zerolinecolor: colour("--quiet") });
  const layout = { xaxis: x, yaxis: layerAxis(layers), height: Math.max(360, layers.length * 20 + 90) };
  const able = differences.some(({ mean }) => mean !== null);
  plot(element, able ? [trace] : [], layout, "No layers that both have.");
}
