// Parallel coordinates: a line for each run. Dragging along an axis sets a filter of the whole page, and back.

const HEIGHT = 420;
const DRAWN = 3000; // lines; the filters hold for all runs
const AXIS_WIDTH = 105; // px; narrower pages scroll the plot, not the page
const RESULTS = ["top1", "sqnr_weight_db_min", "size_bytes", "bitops"];
const NO_WEBGL = "This drawing needs WebGL, which this browser does not have. The filter of the table does the same.";
let webgl = null; // whether there is WebGL, once it is known

function drawParallel(element) {
  const axes = parallelAxes();
  const able = view.records.filter((record) => axes.every((axis) => axis.place(axis.column.value(record)) !== null));
  const step = Math.ceil(able.length / DRAWN);
  const runs = able.filter((_, index) => index % step === 0);
  webgl ??= Boolean(document.createElement("canvas").getContext("webgl"));
  byId("note-parallel").textContent = webgl ? parallelNote(able.length, runs.length) : "";
  if (!webgl) return plot(element, [], {}, NO_WEBGL);
  if (runs.length === 0 || axes.length === 0) {
    return plot(element, [], {}, "Nothing to draw: no run has finished, or nothing differs.");
  }
  element.style.minWidth = `${axes.length * AXIS_WIDTH}px`;
  const layout = { margin: { l: 60, r: 30, t: 75, b: 25 }, height: HEIGHT, uirevision: null }; // we keep the brushes
  plot(element, [parallelTrace(axes, runs)], layout);
  if (element.dataset.listening) return;
  element.dataset.listening = "yes";
  element.on("plotly_restyle", () => brushed(element));
}

function parallelTrace(axes, runs) {
  const top1 = columns.get("metric:top1");
  const names = distinct(
    axes.map(({ column }) => column.label),
    22,
  );
  return {
    type: "parcoords",
    dimensions: axes.map((axis) => ({ ...dimensionOf(axis, runs), label: safe(names.get(axis.column.label)) })),
    line: {
      color: runs.map((record) => top1?.value(record) ?? 0),
      colorscale: lineScale(),
      showscale: Boolean(top1),
      colorbar: { title: { text: "top-1 %", font: { size: 13 } }, thickness: 12, outlinewidth: 0 },
    },
    labelfont: { size: 12 },
    labelangle: axes.length > 6 ? -12 : 0,
    tickfont: { size: 11, color: colour("--text") },
    rangefont: { size: 1, color: "rgba(0,0,0,0)" },
    unselected: { line: { color: colour("--quiet"), opacity: 0.15 } },
  };
}

function parallelNote(able, drawn) {
  const parts = [];
  const left = displayColumns().filter((column) => !hasAll(column));
  if (left.length) parts.push(`Not all runs have ${left.map((column) => column.label).join(", ")}: no axis.`);
  const lacking = view.records.length - able;
  const are = lacking === 1 ? "is" : "are";
  if (lacking) parts.push(`${plural(lacking, "run")} without all of these numbers ${are} not drawn.`);
  const some = drawn.toLocaleString("en");
  if (drawn < able) parts.push(`${some} of ${plural(able, "run")} are drawn, evenly; filters hold for all.`);
  return parts.join(" ");
}

/** From the worst to the best, strong enough for thin lines on either page. */
function lineScale() {
  const [best, worst] = palette();
  return [
    [0, worst],
    [0.5, "#999999"],
    [1, best],
  ];
}

/** The axes, in the order that the reader gave them: keys that differ, and the headline results that do. */
function parallelAxes() {
  const configs = displayColumns().filter((column) => column.ordinal?.length !== 1 && hasAll(column));
  const results = RESULTS.map((name) => columns.get(`metric:${name}`)).filter(Boolean);
  const axes = [...configs, ...results.filter((column) => varies(column) && isComplete(column))];
  const order = (column) => (state.axes.includes(column.id) ? state.axes.indexOf(column.id) : axes.length);
  axes.sort((a, b) => order(a) - order(b));
  return axes.map((column) => ({ column, place: placeOn(column) }));
}

/** Whether all runs that have not failed have a key. */
function hasAll(column) {
  return view.records.every((record) => record.status === "failed" || column.value(record) !== undefined);
}

function varies(column) {
  const values = new Set();
  for (const record of view.records) {
    const value = column.value(record);
    if (value !== undefined) values.add(value);
    if (values.size > 1) return true;
  }
  return false;
}

/** Whether all runs with an accuracy have the metric (float weights have no SQNR). */
function isComplete(column) {
  return view.records.every((record) => metric(record, "top1") === null || column.value(record) !== undefined);
}

/** A function from a value to its height on the axis; null where it has none. */
function placeOn(column) {
  if (!column.ordinal) {
    const size = column.wide ? Math.log10 : (value) => value;
    return (value) => (typeof value === "number" ? size(value) : null);
  }
  const places = new Map(column.ordinal.map((value, index) => [JSON.stringify(value), index]));
  return (value) => (value === undefined ? null : (places.get(JSON.stringify(value)) ?? null));
}

function dimensionOf({ column, place }, runs) {
  const values = runs.map((record) => place(column.value(record)));
  const [low, high] = extent(values);
  const ticks = column.ordinal ? ordinalTicks(column) : column.wide ? wideTicks(low, high) : {};
  const ranges = filterRanges(column, place, low, high);
  const brush = ranges ? { constraintrange: ranges.length ? ranges : [[high + 1, high + 2]] } : {};
  return { name: column.id, values, ...ticks, ...brush };
}

function ordinalTicks(column) {
  const count = column.ordinal.length;
  const every = Math.ceil(count / 24);
  const tickvals = [...column.ordinal.keys()].filter((index) => index % every === 0);
  const texts = distinct(column.ordinal, 16, column.text);
  const ticktext = tickvals.map((index) => texts.get(column.ordinal[index])); // drawn as plain text
  return { tickvals, ticktext, range: [-0.3, count - 0.7] };
}

function wideTicks(low, high) {
  const { tickvals, ticktext } = logTicks([10 ** low, 10 ** high]);
  const kept = tickvals.map((tick, index) => [Math.log10(tick), ticktext[index]]);
  const inside = kept.filter(([at]) => low <= at && at <= high);
  return { tickvals: inside.map((tick) => tick[0]), ticktext: inside.map((tick) => tick[1]) };
}

/** A column's filter as ranges on its axis; null where it has none. */
function filterRanges(column, place, low, high) {
  const filter = state.filters[column.id];
  if (!filter) return null;
  if (filter.values) return mergedRanges(filter.values.map(place).filter((at) => at !== null));
  return filter.ranges.map(([from, to]) => [from === null ? low : place(from), to === null ? high : place(to)]);
}

/** Places side by side as ranges around them. */
function mergedRanges(places) {
  const ranges = [];
  for (const place of [...places].sort((a, b) => a - b)) {
    if (ranges.length && place - ranges.at(-1)[1] < 1) ranges.at(-1)[1] = place + 0.25;
    else ranges.push([place - 0.25, place + 0.25]);
  }
  return ranges;
}

/** Take the brushes of the drawing over as filters, and the order of its axes. */
function brushed(element) {
  const filters = { ...state.filters };
  const { dimensions } = element.data[0];
  for (const { name, constraintrange: brush } of dimensions) {
    delete filters[name];
    if (brush?.length) filters[name] = brushFilter(columns.get(name), Array.isArray(brush[0]) ? brush : [brush]);
  }
  const axes = dimensions.map((dimension) => dimension.name);
  if (JSON.stringify([filters, axes]) === JSON.stringify([state.filters, state.axes])) return;
  figures.get("plot-parallel").fresh = true; // it shows them already
  change({ filters, axes, page: 0 });
}

function brushFilter(column, ranges) {
  const inside = (_, index) => ranges.some(([low, high]) => low <= index && index <= high);
  if (column.ordinal) return { values: column.ordinal.filter(inside) };
  return { ranges: column.wide ? ranges.map((range) => range.map((limit) => 10 ** limit)) : ranges };
}
