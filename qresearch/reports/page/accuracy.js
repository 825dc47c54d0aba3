// A result against bits (or any other key): a line for each kind of cell, with 95 % intervals.

const DOTS = 600; // of single seeds, beyond which they are left out

function drawAccuracy(element) {
  const { x, lines, best } = styledLines();
  const y = chosenColumn("accuracy-y", metricColumns(), "metric:top1");
  if (!y || lines.length === 0) {
    byId("note-accuracy").textContent = "";
    return plot(element, [], {}, "No run that is shown has finished.");
  }
  const axis = keyAxis(
    x,
    lines.flatMap((line) => line.settings.map((setting) => x?.value(setting.first))),
  );
  const drawn = lines.map((line) => ({ ...line, settings: bestAlong(line, x, y) }));
  const traces = drawn.flatMap((line, index) =>
    lineTraces(line, y, x, axis, (index - (lines.length - 1) / 2) * axis.nudge),
  );
  const reference = floatReference(y, axis);
  byId("note-accuracy").textContent = accuracyNote(drawn, best, y);
  const layout = {
    xaxis: named(x?.label ?? "", axis.layout),
    yaxis: named(y.label, percent(y)),
    shapes: reference.shapes,
    height: (narrow() ? 390 : 430) + legendHeight(element, lines),
  };
  plot(element, [...reference.traces, ...traces], layout);
}

/** An interval may pass 0 and 100 %; the axis does not. */
function percent(column) {
  return column.name === "top1" ? { autorangeoptions: { clipmin: -1, clipmax: 101 } } : {};
}

/** Where values of a key stand on the axis, and its ticks: numbers by size, no limit (float) behind them. */
function keyAxis(column, given) {
  const values = [...new Set(given)].sort(compareValues);
  const numbers = values.filter((value) => typeof value === "number");
  const numeric = numbers.length > 0 && values.every((value) => value === null || typeof value === "number");
  const wide = numeric && isWide(numbers);
  const size = (value) => (wide ? Math.log10(value) : value);
  const span = numeric ? size(numbers.at(-1)) - size(numbers[0]) || 1 : Math.max(1, values.length - 1);
  const beyond = numeric ? size(numbers.at(-1)) + span / 6 : 0;
  const place = (value) =>
    numeric ? (value === null ? beyond : size(value)) : values.findIndex((other) => sameValue(other, value));
  const ticks =
    values.length <= ORDINAL || !numeric
      ? values
      : values.filter((_, index) => index % Math.ceil(values.length / 8) === 0);
  const texts = distinct(ticks, 24, (value) => (column ? column.text(value) : ""));
  const layout = {
    tickmode: "array",
    tickvals: ticks.map(place),
    ticktext: ticks.map((value) => safe(texts.get(value))),
  };
  const [low, high] = [place(values[0]), place(values.at(-1))];
  if (low === high) layout.range = [low - 1, high + 1];
  return { place, nudge: span * 0.006, span, low, high, layout };
}

function lineTraces(line, y, x, axis, nudge) {
  const points = [...line.settings].sort((a, b) => axis.place(x?.value(a.first)) - axis.place(x?.value(b.first)));
  const at = points.map((setting) => axis.place(x?.value(setting.first)) + nudge);
  const spreads = points.map((setting) => spreadOf(setting, y));
  const { color, symbol, dash } = line.style;
  const main = {
    type: "scatter",
    mode: "lines+markers",
    name: legendText(line.label),
    meta: line.full,
    x: at,
    y: points.map((setting) => intervalOf(setting, y).mean),
    error_y: errorBars(
      spreads.map((spread) => spread.up),
      spreads.map((spread) => spread.down),
      color,
    ),
    line: { color, dash, width: 2 },
    marker: { color, symbol, size: 8 },
    text: points.map((setting) => settingHover(setting, y)),
    hoverinfo: "text",
  };
  const dots = points.flatMap((setting, index) => seedDots(setting, at[index] + axis.nudge * 0.6, y));
  if (dots.length === 0 || dots.length * view.settings.length > DOTS * points.length) return [main];
  const seeds = {
    type: "scatter",
    mode: "markers",
    x: dots.map((dot) => dot.at),
    y: dots.map((dot) => dot.value),
    marker: { color, size: 4, opacity: 0.45 },
    showlegend: false,
    text: dots.map((dot) => dot.text),
    hoverinfo: "text",
  };
  return [seeds, main];
}

/** The single seeds of a setting that has several. */
function seedDots(setting, at, y) {
  if (setting.runs.length < 2) return [];
  return setting.runs.map((record) => {
    const value = y.value(record);
    return { at, value, text: hover(`seed ${seedOf(record)}: ${number(value, y.digits)}`) };
  });
}

/** A setting, its mean of a column and the spread of that, and lines of more; null ones are left out. */
function settingHover(setting, column, ...more) {
  const interval = intervalOf(setting, column);
  const { up, down, rule } = spreadOf(setting, column);
  const [low, high] = [interval.mean - down, interval.mean + up].map((value) => number(value, column.digits));
  const mean = withInterval(interval, column.digits);
  const text = rule === "images" ? `${mean} (${low} to ${high})` : mean;
  const lines = [`${column.label}: ${text}`, ...more.filter(Boolean), seedsInWords(setting)];
  return hover(fullLabel(setting.first), ...lines);
}

/** The accuracy of the float network of every seed; null where a seed has several (more than one model, say). */
function floatBySeed() {
  const column = columns.get("metric:top1_float");
  const bySeed = new Map();
  for (const record of column ? view.settings.flatMap((setting) => setting.runs) : []) {
    const [seed, value] = [String(seedOf(record)), column.value(record)];
    if (value === undefined || (bySeed.has(seed) && bySeed.get(seed) !== value)) return null;
    bySeed.set(seed, value);
  }
  return bySeed.size ? [...bySeed.values()] : null;
}

/** A line at the mean accuracy of the float networks, in a band of its interval. */
function floatReference(y, axis) {
  const values = y.name === "top1" ? floatBySeed() : null;
  if (!values) return { traces: [], shapes: [] };
  const { mean, half } = meanInterval(values);
  const edge = axis.span * 0.04;
  const trace = {
    type: "scatter",
    mode: "lines",
    name: `float ${number(mean, 2)}`,
    x: [axis.low - edge, axis.high + edge],
    y: [mean, mean],
    line: { color: colour("--quiet"), dash: "dot", width: 1.5 },
    hoverinfo: "name",
  };
  const place = { type: "rect", xref: "paper", x0: 0, x1: 1, y0: mean - half, y1: mean + half, layer: "below" };
  const band = { ...place, fillcolor: colour("--quiet"), opacity: 0.12, line: { width: 0 } };
  return { traces: [trace], shapes: half === null ? [] : [band] };
}

function accuracyNote(lines, best, y) {
  const rules = new Set(lines.flatMap((line) => line.settings.map((setting) => spreadOf(setting, y).rule)));
  const parts = [];
  if (rules.has("seeds")) parts.push("Bars: 95 % interval of the mean over seeds (Student t); small dots: the seeds.");
  if (rules.has("images")) parts.push("A single run's bar: Wilson's 95 % interval over its test images.");
  if (rules.size === 1 && rules.has(null)) parts.push("One run each: no spread is known.");
  const diverged = lines.some((line) => line.settings.some((setting) => setting.diverged));
  if (diverged) parts.push("Means leave out seeds that diverged; the table counts them.");
  const names = best.map((column) => column.label).join(", ");
  if (best.length) parts.push(`Each point is the best of the settings that differ in ${names}; filter to see others.`);
  return parts.join(" ");
}
