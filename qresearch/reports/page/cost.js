// Accuracy against what it costs: a point for each setting and each float network, and the Pareto front.

const BARS = 150;
const FEW_TICKS = 5; // a range from a value to so many times as much
const COSTS = {
  size: {
    choices: [
      ["size_bytes", "computed"],
      ["file_bytes", "packed file"],
      ...Object.entries(RUNTIMES).map(([runtime, name]) => [`${runtime}_bytes`, `file for ${name}`]),
    ],
  },
  bitops: { choices: [["bitops", "BitOps"]] },
  latency: { choices: Object.entries(RUNTIMES).map(([runtime, name]) => [`${runtime}_latency_ms`, name]) },
  energy: {
    choices: [
      ["energy_uj_estimate", "arithmetic and memory"],
      ["energy_arithmetic_uj_estimate", "arithmetic"],
      ["energy_memory_uj_estimate", "memory"],
    ],
    says: "estimate (45 nm table of Horowitz 2014)",
  },
};

function drawCost(element, kind) {
  const [x, y] = [chosenCost(kind), columns.get("metric:top1")];
  const points = x && y ? costPoints(x, y) : [];
  const floats = points.length ? floatPoints(x, points) : [];
  const all = [...points, ...floats];
  const front = paretoFront(all);
  const drawn = thinnedPoints(points, front);
  byId(`note-${kind}`).textContent = points.length ? costNote({ points, floats, drawn, front, x }) : "";
  if (points.length === 0) return plot(element, [], {}, emptyCost(kind, x));
  const bars = new Set(points.length <= BARS ? points : front);
  const styles = new Map(styledLines().lines.flatMap((line) => line.settings.map((setting) => [setting, line.style])));
  const groups = Map.groupBy(drawn, (point) => styles.get(point.setting));
  const traces = [...groups].map(([style, group]) => costTrace(style, group, x, y, bars));
  const layout = {
    xaxis: costAxis(
      x,
      COSTS[kind].says,
      all.map((point) => point.cost),
    ),
    yaxis: named(y.label, percent(y)),
    height: 400,
    showlegend: false,
  };
  plot(element, [frontTrace(front), ...traces, ...(floats.length ? [floatTrace(floats, x, y)] : [])], layout);
}

/** The column of the metric that the reader has chosen for a kind of cost, of those that some record has. */
function chosenCost(kind) {
  const able = COSTS[kind].choices.filter(([name]) => {
    const { value } = metricColumn(name);
    return view.records.some((record) => value(record) !== undefined);
  });
  const select = byId(`cost-${kind}`);
  if (select) select.closest(".controls").hidden = able.length < 2;
  const name = select && able.length ? choice(`cost-${kind}`, able, able[0][0]) : able[0]?.[0];
  return name && metricColumn(name);
}

function emptyCost(kind, x) {
  if (kind !== "latency") return "No run that is shown has both numbers.";
  const place = x ? ` in ${runtimeOf(x.name)}` : "";
  return `No run that is shown was measured${place}: the command \`qresearch deploy RUNS\` does that.`;
}

function costAxis(x, says, costs) {
  const low = extent(costs)[0];
  const title = { text: hover(x.label, ...(says ? [says] : [])), font: { size: 13 }, standoff: 10 };
  return { title, ...(low > 0 ? { type: "log", ...logTicks(costs) } : {}) };
}

function costTrace({ color, symbol }, group, x, y, bars) {
  const spreads = group.map((point) => (bars.has(point) ? spreadOf(point.setting, y) : { up: 0, down: 0 }));
  return {
    type: "scatter",
    mode: "markers",
    x: group.map((point) => point.cost),
    y: group.map((point) => point.gain),
    error_y: errorBars(
      spreads.map((spread) => spread.up),
      spreads.map((spread) => spread.down),
      color,
      3,
    ),
    marker: { color, symbol, size: group.length > 100 ? 5 : 8 },
    text: group.map(({ setting }) =>
      settingHover(setting, y, costWords(x, intervalOf(setting, x)), executed(x, setting)),
    ),
    hoverinfo: "text",
  };
}

function costWords(x, interval) {
  return `${x.label}: ${withInterval(interval, x.digits)}`;
}

/** The accuracy where the cost was measured: that of the network as the runtime executes it. */
function executed(x, setting) {
  const top1 = metricColumn(x.name.replace(/_(latency_ms|bytes)$/, "_top1"));
  const interval = runtimeOf(top1.name) ? intervalOf(setting, top1) : { mean: null };
  return interval.mean === null ? null : costWords(top1, interval);
}

function floatTrace(floats, x, y) {
  const several = floats.length > 1;
  const text = ({ setting, cost, top1, seeds }) =>
    hover(
      several ? `float network of ${fullLabel(setting.first)}` : "float network",
      costWords(y, top1),
      `${x.label}: ${number(cost, x.digits)}`,
      plural(seeds, "seed"),
    );
  return {
    type: "scatter",
    mode: "markers",
    name: "float",
    x: floats.map((point) => point.cost),
    y: floats.map((point) => point.gain),
    marker: { color: colour("--text"), symbol: "star", size: 11 },
    text: floats.map(text),
    hoverinfo: "text",
  };
}

function frontTrace(front) {
  return {
    type: "scatter",
    mode: "lines",
    name: "Pareto front",
    x: front.map((point) => point.cost),
    y: front.map((point) => point.gain),
    line: { shape: "hv", color: colour("--text"), width: 1.2, dash: "dot" },
    hoverinfo: "skip",
  };
}

/** Ticks at 1, 2 and 5 times powers of ten, written out; where hardly one of them would be in sight, even ones. */
function logTicks(values) {
  const [low, high] = extent(values);
  const ticks = high / low < FEW_TICKS ? evenTicks(low, high) : [];
  const steps = ticks.length ? [] : high / low > 100 ? [1] : [1, 2, 5];
  for (let power = Math.floor(Math.log10(low)) - 1; power <= Math.log10(high) + 1; power++) {
    ticks.push(...steps.map((step) => step * 10 ** power));
  }
  return { tickmode: "array", tickvals: ticks, ticktext: ticks.map((tick) => number(tick)) };
}

/** Three to eight multiples of a round number about a narrow range; of a single value, the value. */
function evenTicks(low, high) {
  if (low === high) return [low];
  const half = (high - low) / 2;
  const power = 10 ** Math.floor(Math.log10(half));
  const step = power * ([5, 2].find((times) => times * power <= half) ?? 1);
  const first = Math.floor(low / step);
  return Array.from({ length: Math.ceil(high / step) - first + 1 }, (_, index) => (first + index) * step);
}

function costNote({ points, floats, drawn, front, x }) {
  const all = [plural(points.length, "setting"), ...(floats.length ? [plural(floats.length, "float network")] : [])];
  const parts = [`On the front: ${front.length.toLocaleString("en")} of ${all.join(" and ")}.`];
  const some = drawn.length.toLocaleString("en");
  if (drawn.length < points.length) parts.push(`${some} of them are drawn: the front and an even choice.`);
  if (points.length > BARS) parts.push("Bars on the front alone.");
  if (x.name === "bitops") parts.push("BitOps: multiply-accumulates times the bits of both operands, for one image.");
  if (x.name.startsWith("energy")) parts.push("For one image, summed over the layers.");
  const float = floats.length || points.some(({ setting }) => isFloat(setting));
  if (!float) parts.push("Not among them: the float networks, of which these records have no such figure.");
  return [...parts, ...(runtimeOf(x.name) ? measuredNotes(points, x) : [])].join(" ");
}

/** What was measured, and where: latencies of two machines do not compare. */
function measuredNotes(points, x) {
  const able = view.settings.filter((setting) => setting.runs.length).length;
  const parts = [];
  if (points.length < able) {
    parts.push(`Measured: ${points.length} of ${plural(able, "setting")}; \`qresearch deploy RUNS\` measures others.`);
  }
  if (!x.name.endsWith("_latency_ms")) return parts;
  const runs = points.flatMap(({ setting }) => setting.runs.filter((record) => x.value(record) !== undefined));
  const devices = new Set(runs.map((record) => data.head.machines[record.machine]?.device ?? "an unknown device"));
  if (devices.size > 1) parts.push(`These runs are of different devices: ${[...devices].join(", ")}.`);
  parts.push(
    "Batch 1. Latencies compare where machine and threads are the same; each result.json says both (deployment).",
  );
  return parts;
}
