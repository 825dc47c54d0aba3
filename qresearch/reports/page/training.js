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

/** What is drawn: the reader's picks, else the first settings of the table that have curves, trained ones first. */
function trainedPicks() {
  if (view.chosen) return view.picks;
  const rows = view.mode === "settings" ? view.rows : view.settings;
  const able = rows.filter((row) => data.about.live || row.records.some((record) => curves.runs[record.path]));
  const trained = (setting) => configOf(setting.first, "method.name") === "qat";
  const order = [...able.filter(trained), ...able.filter((setting) => !trained(setting))];
  return order.slice(0, PICKS).map((setting) => ({ kind: "setting", path: setting.first.path, setting, letter: "" }));
}

/** The picks with the curves of their runs and with their names. */
function trainedRuns() {
  return trainedPicks().map((pick) => {
    const records = pick.kind === "run" ? [data.records.get(pick.path)] : [...pick.setting.seeds.values()];
    const label = pick.label ?? labelOf(pick.setting.first);
    return {
      ...pick,
      name: pick.letter ? `${pick.letter}: ${label}` : label,
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
  const traces = picks.flatMap((pick, index) => bandTraces(ofStage(pick), quantity, pick.name, lineStyle(index)));
  byId("note-training").textContent = trainingNote();
  const y = named(quantity, quantity === "loss" ? logAxis(traces) : {});
  const why = data.about.live ? "These runs have no curves (yet)." : "This page holds no curves of these runs.";
  plot(element, traces, { xaxis: named("step"), yaxis: y, height: 420 }, why);
}

function trainingNote() {
  const parts = ["Line: mean of the seeds; band: lowest to highest seed."];
  const held = Object.keys(curves.runs).length;
  if (!data.about.live && held && held < data.records.size) {
    parts.push(`This page holds the curves of ${held} of ${plural(data.records.size, "run")}: those that diverged,`);
    parts.push("then trained ones evenly over the folder; `qresearch dashboard` shows those of any run.");
  }
  if (!view.chosen) parts.push("Pick rows of the table to choose the runs.");
  return parts.join(" ");
}

/** A line of the mean and a band of the range of the curves of some seeds, over the steps of the longest. */
function bandTraces(seeds, quantity, label, { color, dash }) {
  const able = seeds.filter((curve) => curve[quantity]);
  if (able.length === 0) return [];
  const steps = able.reduce((a, b) => (a.step.length >= b.step.length ? a : b)).step;
  const values = steps.map((step) => able.map((curve) => valueAt(curve, quantity, step)).filter((one) => one !== null));
  const mean = values.map((list) => meanInterval(list).mean);
  const line = {
    type: "scatter",
    mode: "lines",
    name: safe(short(label, narrow() ? 34 : 60)),
    x: steps,
    y: mean,
    line: { color, dash, width: 2 },
    text: steps.map((step, index) => hover(label, `step ${step}: ${rangeInWords(mean[index], values[index])}`)),
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
