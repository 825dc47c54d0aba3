// The numbers that quantizers learn (scales, clipping values), layer by layer over the steps.

function drawScales(element) {
  const picks = trainedRuns().map((pick) => ({ ...pick, runs: pick.runs.map(learnedCurve).filter(Boolean) }));
  const able = picks.filter((pick) => pick.runs.length);
  const chosen = choice(
    "scale-pick",
    able.map((pick) => [pick.path, pick.name]),
    able[0]?.path,
  );
  const runs = able.find((pick) => pick.path === chosen)?.runs ?? [];
  const quantities = [...new Set(runs.flatMap(learnedNames))];
  const kinds = [...new Set(quantities.map(kindOf))];
  const kind = choice(
    "scale-kind",
    kinds.map((text) => [text, text]),
    kinds.find((text) => text.endsWith("weight")),
  );
  const forms = [
    ["relative", "relative to the start"],
    ["value", "as they are"],
  ];
  const relative = choice("scale-form", forms, "relative") === "relative";
  const drawn = relative ? runs.map(overStart) : runs;
  const told = quantities.filter((name) => kindOf(name) === kind);
  const traces = told.flatMap((name, at) => bandTraces(drawn, name, layerNames(name), depthStyle(at, told.length)));
  const y = relative ? named(`${kind} / its first value`) : named(kind, logAxis(traces));
  const layout = { xaxis: named("step"), yaxis: y, height: 420, showlegend: told.length <= 24 };
  plot(element, traces, layout, "No learned scales: PTQ and float runs have none.");
}

/** The curve of the stage in which something was learned besides weights. */
function learnedCurve(stages) {
  return Object.entries(stages).find(([stage, curve]) => stage !== "baseline" && learnedNames(curve).length)?.[1];
}

function learnedNames(curve) {
  return Object.keys(curve).filter((name) => name.includes("/"));
}

function layerNames(quantity) {
  const name = layerOf(quantity);
  return { name, full: name };
}

/** "scale/conv1.weight" is of the kind "scale of weight", */
function kindOf(quantity) {
  const [what, place] = quantity.split("/");
  return `${what} of ${place.slice(place.lastIndexOf(".") + 1)}`;
}

/** and of the layer "conv1". */
function layerOf(quantity) {
  const place = quantity.slice(quantity.indexOf("/") + 1);
  return place.slice(0, place.lastIndexOf("."));
}

/** A curve with every quantity over its first value that is not zero. */
function overStart(curve) {
  const over = (values) => {
    const start = values.find((value) => value);
    return values.map((value) => (value === null || !start ? value : value / start));
  };
  return { step: curve.step, ...Object.fromEntries(learnedNames(curve).map((name) => [name, over(curve[name])])) };
}

/** Few layers have the looks of lines; the colours of many go from the first layer's to the last's. */
function depthStyle(index, count) {
  if (count <= data.head.colours.length) return lineStyle(index);
  const stops = ["#0072B2", "#CC79A7", "#E69F00"].map((hex) =>
    [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16)),
  );
  const depth = (2 * index) / (count - 1);
  const [from, to] = depth < 1 ? stops.slice(0, 2) : stops.slice(1);
  const mixed = from.map((value, at) => Math.round(value + (depth - (depth < 1 ? 0 : 1)) * (to[at] - value)));
  const hex = mixed.map((value) => value.toString(16).padStart(2, "0")).join("");
  return { color: `#${hex}`, symbol: "circle", dash: DASHES[index % 4] };
}
