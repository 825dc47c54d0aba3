// The top of the page: what was run, and what came out, in a glance.

const NEAR = 1; // percentage points below float that count as next to no loss

function drawHeader() {
  const { title, folder } = data.about;
  byId("title").textContent = title;
  document.title = `${title} – qresearch`;
  byId("where").textContent = folder;
  const box = ([value, text, kind, title]) =>
    make("li", { class: kind, title }, make("strong", {}, value), make("span", {}, text));
  byId("tiles").replaceChildren(...tiles().map(box));
  const same = sharedConfiguration();
  byId("same").replaceChildren(factList(same));
  byId("same-box").hidden = Object.keys(same).length === 0;
  byId("origin").textContent = origin();
  byId("nothing").hidden = view.records.length > 0;
  byId("nothing").textContent = data.about.reading
    ? "Reading the records; a folder of thousands takes some seconds the first time."
    : "No run has ended here yet. This page shows each one as it ends.";
  document.querySelector("main").hidden = view.records.length === 0;
  hideEmpty();
}

/** Leave out the sections that say nothing of a single setting. */
function hideEmpty() {
  const several = view.every.length > 1;
  const hidden = { accuracy: !several, cost: !several, compare: !several, explore: view.records.length < 2 };
  for (const [id, away] of Object.entries(hidden)) {
    byId(id).hidden = away;
    document.querySelector(`nav a[href="#${id}"]`).hidden = away;
  }
}

/** What all runs that are looked at have in common. */
function sharedConfiguration() {
  const sound = view.records.filter((record) => record.status !== "failed");
  const found = { ...data.head.constant };
  for (const [key, name] of sound.length ? data.head.keys.entries() : []) {
    const value = configValue(sound[0], key);
    const same = sound.every((record) => record.codes[key] === sound[0].codes[key]);
    if (same && value !== undefined) found[name] = value;
  }
  return found;
}

/** [number, what it counts, class, what stands under the pointer] of the boxes under the title. */
function tiles() {
  const count = (status) => view.records.filter((record) => record.status === status).length;
  const wrong = ["diverged", "failed"].filter(count).map((status) => `${count(status).toLocaleString("en")} ${status}`);
  const finished = `of ${[plural(view.records.length, "run") + " finished", ...wrong].join(", ")}`;
  const found = [[count("finished").toLocaleString("en"), finished, wrong.length ? "bad" : null]];
  const seeds = view.every.map((setting) => setting.seeds.size);
  const [fewest, most] = extent(seeds);
  const many = fewest === most ? `${plural(most, "seed")} each` : `${fewest} to ${most} seeds`;
  const word = seeds.length === 1 ? "setting" : "settings";
  if (seeds.length > 1 || most > 1) found.push([seeds.length.toLocaleString("en"), `${word}, ${many}`]);
  return [...found, ...resultTiles()];
}

/** The float accuracy, and the smallest setting that keeps it. */
function resultTiles() {
  const told = ["top1", "top1_float", "size_bytes"].map((name) => columns.get(`metric:${name}`));
  const [top1, float, size] = told;
  const complete = (setting) => told.every((column) => column && intervalOf(setting, column).mean !== null);
  const able = view.every.filter(complete);
  if (able.length === 0) return [];
  const floats = able.flatMap((setting) => setting.runs.map((record) => float.value(record)));
  const [low, high] = extent(floats);
  const range = low === high ? number(low, 2) : `${number(low, 1)}–${number(high, 1)}`;
  const found = [[`${range} %`, "top-1 of the float networks"]];
  const shrinks = ({ first }) => metric(first, "size_bytes") < metric(first, "size_bytes_float");
  const keeps = (setting) => intervalOf(setting, top1).mean >= intervalOf(setting, float).mean - NEAR;
  const near = able.filter((setting) => shrinks(setting) && keeps(setting));
  if (near.length === 0) return [...found, ["none", `smaller and within ${NEAR} point of float`]];
  const best = near.reduce((a, b) => (intervalOf(b, size).mean < intervalOf(a, size).mean ? b : a));
  const saved = metric(best.first, "size_bytes_float") / metric(best.first, "size_bytes");
  const top = withInterval(intervalOf(best, top1), 2);
  const text = `${labelOf(best.first)}: ${top} %, the smallest within ${NEAR} point of float`;
  return [...found, [`${number(saved, 1)}× smaller`, text, null, fullLabel(best.first)]];
}

function factList(facts) {
  const pair = ([name, value]) => [make("dt", {}, name), make("dd", {}, plainValue(value))];
  return make("dl", {}, ...Object.entries(facts).flatMap(pair));
}

/** How long it took, when it ended, on what, from which code. */
function origin() {
  const machines = [...new Set(view.records.map((record) => record.machine))].map((index) => data.head.machines[index]);
  const seconds = view.records.reduce((sum, record) => sum + (metric(record, "seconds") ?? 0), 0);
  const last = view.records.reduce((time, record) => ((record.finished ?? "") > time ? record.finished : time), "");
  const devices = [...new Set(machines.map((machine) => machine.device).filter(Boolean))];
  const code = (machine) => machine.git_commit.slice(0, 7) + (machine.git_dirty ? " with changes" : "");
  const commits = [...new Set(machines.filter((machine) => machine.git_commit).map(code))];
  const parts = [
    seconds ? `${duration(seconds)} of computing` : null,
    last ? `last ended ${timeInWords(last)}` : null,
    devices.join(", ") || null,
    commits.length ? `commit ${commits.slice(0, 3).join(", ")}${commits.length > 3 ? ", ..." : ""}` : null,
  ];
  return parts
    .filter(Boolean)
    .map((part) => ` · ${part}`)
    .join("");
}

function duration(seconds) {
  if (seconds < 120) return `${number(seconds, 0)} s`;
  return seconds < 7200 ? `${number(seconds / 60, 0)} min` : `${number(seconds / 3600, 1)} h`;
}
