// The points of accuracy against cost: settings, the float networks that they come from, and the Pareto front.

const POINTS = 1500; // beyond which those that lie far from the front are thinned
const FLOAT_BITOPS = 32 * 32; // of a multiply-accumulate

/** {setting, cost, gain} of the settings that are shown and have both means. */
function costPoints(x, y) {
  const points = view.settings.map((setting) => {
    return { setting, cost: intervalOf(setting, x).mean, gain: intervalOf(setting, y).mean };
  });
  return points.filter(({ cost, gain }) => cost !== null && gain !== null);
}

/** {setting, cost, gain, seeds, of} of the float networks, each once; `points` may hold some already (method=float). */
function floatPoints(x, points) {
  const known = (record) => floatCost(record, x.name) !== null && metric(record, "top1_float") !== null;
  const able = view.settings.map((setting) => ({ setting, runs: setting.runs.filter(known) }));
  const costs = Map.groupBy(
    able.flatMap(({ runs }) => runs),
    floatName,
  );
  const drawn = points.filter(({ setting }) => isFloat(setting));
  const seen = new Set(drawn.flatMap(({ setting }) => setting.runs.map(floatName)));
  const found = [];
  for (const { setting, runs } of able.sort((a, b) => b.runs.length - a.runs.length)) {
    const names = runs.map(floatName);
    if (names.every((name) => seen.has(name))) continue;
    for (const name of names) seen.add(name);
    const told = names.flatMap((name) => costs.get(name)).map((record) => floatCost(record, x.name));
    const gain = meanInterval(runs.map((record) => metric(record, "top1_float")));
    found.push({ setting, cost: meanInterval(told).mean * x.factor, gain: gain.mean, top1: gain, seeds: runs.length });
  }
  return found;
}

function isFloat(setting) {
  return configOf(setting.first, "method.name") === "float";
}

/** What the float network of a record costs, in the unit of the records; null where they do not say. */
function floatCost(record, name) {
  const over = (value, other) => (value === null || !other ? null : value / other);
  if (name === "energy_uj_estimate") return sumOf(ENERGY_PARTS.map((part) => metric(record, `${part}_float`)));
  if (name.endsWith("_latency_ms")) return over(metric(record, name), metric(record, name.replace(/ms$/, "ratio")));
  const macs = name === "bitops" ? metric(record, "macs") : null;
  return macs === null ? metric(record, `${name}_float`) : macs * FLOAT_BITOPS;
}

/** Tells float networks apart, as far as records do. */
function floatName(record) {
  return [seedOf(record), metric(record, "top1_float"), metric(record, "size_bytes_float")].join();
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
