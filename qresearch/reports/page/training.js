// Training: loss and accuracy over the steps. The mean of the seeds as a line, their range as a band.

const STAGES = new Map([
  ["baseline", "float baseline"],
  ["qat", "QAT"],
  ["diverged", "until it diverged"],
]);
const curves = { series: [], runs: {}, asked: new Set() };

/** {stage: {quantity: [...]}} of a run; undefined where the page has none (a live page then asks for them). */
function curvesOf(record) {
  const stages = curves.runs[record.path];
  if (stages) return Object.fromEntries(Object.entries(stages).map(([stage, index]) => [stage, curves.series[index]]));
  if (data.about.live) askForCurves(record.path);
  return undefined;
}

/** The settings that may have curves, in the order of the table, trained ones first. */
function trainedSettings() {
  const rows = view.mode === "settings" ? view.rows : view.settings;
  const able = rows.filter((row) => data.about.live || row.records.some((record) => curves.runs[record.path]));
  const trained = (setting) => configOf(setting.first, "method.name") === "qat";
  return [...able.filter(trained), ...able.filter((setting) => !trained(setting))];
}

/** What is drawn: the reader's picks, else the first of the settings. */
function trainedPicks() {
  if (view.chosen) return view.picks;
  const some = trainedSettings().slice(0, PICKS);
  return some.map((setting) => ({ kind: "setting", path: setting.first.path, setting, letter: "" }));
}

/** The picks with the curves of their runs and with their names. */
function trainedRuns() {
  return trainedPicks().map((pick) => {
    const records = pick.kind === "run" ? [data.records.get(pick.path)] : [...pick.setting.seeds.values()];
    const label = pick.label ?? labelOf(pick.setting.first);
    const full = pick.full ?? fullLabel(pick.setting.first);
    return {
      ...pick,
      name: pick.letter ? `${pick.letter}: ${label}` : label,
      full,
      runs: records.map(curvesOf).filter(Boolean),
    };
  });
}

function drawTraining(element) {
  const picks = trainedRuns();
  const stages = [...new Set(picks.flatMap((pick) => pick.runs.flatMap(Object.keys)))];
  stages.sort((a, b) => (a === "baseline") - (b === "baseline"));
  const stage = choice(
    "training-stage",
    stages.map((name) => [name, STAGES.get(name) ?? name]),
    stages[0],
  );
  const ofStage = (pick) => pick.runs.map((run) => run[stage]).filter(Boolean);
  const quantities = [...new Set(picks.flatMap((pick) => ofStage(pick).flatMap(Object.keys)))];
  const able = quantities.filter((name) => name !== "step" && !name.includes("/"));
  const quantity = choice(
    "training-quantity",
    able.map((name) => [name, name]),
    "loss",
  );
  const traces = picks.flatMap((pick, index) => bandTraces(ofStage(pick), quantity, pick, lineStyle(index)));
  byId("note-training").textContent = trainingNote(picks);
  const y = named(quantity, quantity === "loss" ? logAxis(traces) : {});
  const why = data.about.live ? "These runs have no curves (yet)." : "This page holds no curves of these runs.";
  const height = 390 + legendHeight(element, picks.map((pick) => ({ label: pick.name })));
  plot(element, traces, { xaxis: named("step"), yaxis: y, height }, why);
}

function trainingNote(picks) {
  const parts = [shownInWords(picks.length)];
  if (picks.some((pick) => pick.runs.length > 1)) parts.push("Line: mean of the seeds; band: lowest to highest seed.");
  const held = Object.keys(curves.runs).length;
  if (!data.about.live && held && held < data.records.size) {
    parts.push(`This page holds the curves of ${held} of ${plural(data.records.size, "run")}: those that diverged,`);
    parts.push("then trained ones evenly over the folder; `qresearch dashboard` shows those of any run.");
  }
  return parts.filter(Boolean).join(" ");
}

/** How many of the settings are drawn, and how others come here. */
function shownInWords(count) {
  const all = trainedSettings().length;
  if (view.chosen) return `The ${plural(count, "row")} picked in the table (${PICKS} at most).`;
  const how = `Pick rows of the table (${PICKS} at most) to see others.`;
  const others = count < all ? `: the first of the table, trained ones first. ${how}` : ".";
  return count && all > 1 ? `${count} of ${plural(all, "setting")}${others}` : "";
}

/** A line of the mean and a band of the range of the curves of some seeds, over the steps of the longest. */
function bandTraces(seeds, quantity, { name, full }, { color, dash }) {
  const able = seeds.filter((curve) => curve[quantity]);
  if (able.length === 0) return [];
  const steps = able.reduce((a, b) => (a.step.length >= b.step.length ? a : b)).step;
  const values = steps.map((step) => able.map((curve) => valueAt(curve, quantity, step)).filter((one) => one !== null));
  const mean = values.map((list) => meanInterval(list).mean);
  const line = {
    type: "scatter",
    mode: "lines",
    name: legendText(name),
    meta: full,
    x: steps,
    y: mean,
    line: { color, dash, width: 2 },
    text: steps.map((step, index) => hover(full, `step ${step}: ${rangeInWords(mean[index], values[index])}`)),
    hoverinfo: "text",
  };
  if (able.length === 1) return [line];
  const edge = {
    type: "scatter",
    mode: "lines",
    x: steps,
    line: { width: 0, color },
    hoverinfo: "skip",
    showlegend: false,
  };
  const [low, high] = [0, 1].map((end) => values.map((list) => (list.length ? extent(list)[end] : null)));
  return [{ ...edge, y: low }, { ...edge, y: high, fill: "tonexty", fillcolor: faint(color, 0.15) }, line];
}

function rangeInWords(mean, values) {
  if (values.length < 2) return number(mean);
  const [low, high] = extent(values);
  return `${number(mean)} (${number(low)} to ${number(high)}, ${values.length} seeds)`;
}

/** A curve's value at a step; null where it has no such step (it ended before, or was thinned to others). */
function valueAt(curve, quantity, step) {
  curve.places ??= new Map(curve.step.map((at, index) => [at, index]));
  const index = curve.places.get(step);
  return index === undefined ? null : curve[quantity][index];
}

/** A logarithmic axis with its ticks written out, where nothing on it is zero or less. */
function logAxis(traces) {
  const values = traces.flatMap((trace) => trace.y).filter((value) => value !== null);
  return values.length && values.every((value) => value > 0) ? { type: "log", ...logTicks(values) } : {};
}
