// Accuracy against what it costs: a point for each setting, and the Pareto front, where less cost is less accuracy.

const POINTS = 1500; // beyond which those that lie far from the front are thinned
const BARS = 150;

function drawCost(element, name) {
  const [x, y] = [columns.get(`metric:${name}`), columns.get("metric:top1")];
  const points = x && y ? costPoints(x, y) : [];
  const front = paretoFront(points);
  const drawn = thinnedPoints(points, front);
  byId(`note-${name}`).textContent = points.length ? costNote(points, drawn, front, x) : "";
  if (points.length === 0) return plot(element, [], {}, "No run that is shown has both numbers.");
  const bars = new Set(points.length <= BARS ? points : front);
  const styles = new Map(styledLines().lines.flatMap((line) => line.settings.map((setting) => [setting, line.style])));
  const groups = Map.groupBy(drawn, (point) => styles.get(point.setting));
  const traces = [...groups].map(([style, group]) => costTrace(style, group, y, bars));
  const layout = {
    xaxis: named(x.label, { type: "log", ...logTicks(points.map((point) => point.cost)) }),
    yaxis: named(y.label, percent(y)),
    height: 400,
    showlegend: false,
  };
  plot(element, [frontTrace(front), ...traces], layout);
}

/** {setting, cost, gain} of the settings that are shown and have both means. */
function costPoints(x, y) {
  const points = view.settings.map((setting) => {
    return { setting, cost: intervalOf(setting, x).mean, gain: intervalOf(setting, y).mean };
  });
  return points.filter(({ cost, gain }) => cost !== null && gain !== null);
}

/** The points that no other beats in both, from the cheapest. */
function paretoFront(points) {
  const front = [];
  for (const point of [...points].sort((a, b) => a.cost - b.cost || b.gain - a.gain)) {
    if (front.length === 0 || point.gain > front.at(-1).gain) front.push(point);
  }
  return front;
}

function thinnedPoints(points, front) {
  if (points.length <= POINTS) return points;
  const step = Math.ceil(points.length / POINTS);
  const kept = new Set(front);
  return points.filter((point, index) => index % step === 0 || kept.has(point));
}

function costTrace({ color, symbol }, group, y, bars) {
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
    text: group.map((point) => settingHover(point.setting, y)),
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

/** Ticks at 1, 2 and 5 times powers of ten, written out. */
function logTicks(values) {
  const [low, high] = extent(values);
  const steps = high / low > 100 ? [1] : [1, 2, 5];
  const ticks = [];
  for (let power = Math.floor(Math.log10(low)) - 1; power <= Math.log10(high) + 1; power++) {
    ticks.push(...steps.map((step) => step * 10 ** power));
  }
  return { tickmode: "array", tickvals: ticks, ticktext: ticks.map((tick) => number(tick)) };
}

function costNote(points, drawn, front, x) {
  const parts = [`Dotted: the Pareto front, ${front.length} of ${plural(points.length, "setting")}.`];
  const some = drawn.length.toLocaleString("en");
  if (drawn.length < points.length) parts.push(`${some} of them are drawn: the front and an even choice.`);
  if (points.length > BARS) parts.push("Bars on the front alone.");
  if (x.name === "bitops") parts.push("BitOps: multiply-accumulates times the bits of both operands, for one image.");
  return parts.join(" ");
}
