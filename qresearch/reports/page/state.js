// What the reader has chosen, and what follows from it. It outlives a refresh of the data and, where the browser
// keeps it, a reload of the page.

const state = {
  sweep: null, // the folder to look into; "*" all of them, null what the page thinks best
  filters: {}, // id of a column: {values: [...]} or {ranges: [[low, high], ...]}, null: no limit
  search: "",
  mode: null, // "settings" or "runs"; null: settings where there are seeds
  sort: null, // {id, down}
  page: 0,
  picks: [], // {kind: "setting" | "run", path}
  more: [], // ids of columns that the table shows besides its own
  axes: [], // ids, as the reader has ordered them
  choices: {}, // of the selects, by their id
};
// records: those of the sweep; shown: of them, what passes the filters; settings: of the shown; every: all settings;
// bySetting: the setting of a record, by its path; rows: of the table; picks, and whether the reader has chosen them
let view = {
  sweeps: [],
  records: [],
  shown: [],
  settings: [],
  every: [],
  bySetting: new Map(),
  rows: [],
  picks: [],
  chosen: false,
};

function change(patch) {
  Object.assign(state, patch);
  keepState();
  refresh();
}

function stateName() {
  return `qresearch ${data.about.folder}`;
}

function keepState() {
  try {
    sessionStorage.setItem(stateName(), JSON.stringify(state));
  } catch {
    // a page from a file may have no storage; it then forgets
  }
}

function restoreState() {
  try {
    Object.assign(state, JSON.parse(sessionStorage.getItem(stateName()) ?? "{}"));
  } catch {
    // no storage, or not ours
  }
}

/** Work out what is shown, and draw it. */
function refresh() {
  const sweeps = sweepsByTime();
  const sweep = chosenSweep(sweeps);
  const records = [...data.records.values()].filter((record) => sweep === "*" || sweepOf(record) === sweep);
  const anew = data.changed || sweep !== view.sweep;
  if (anew) buildColumns(records);
  data.changed = false;
  const shown = records.filter(passes);
  const every = settingsOf(records);
  if (anew) nameSettings(every);
  const bySetting = new Map();
  for (const setting of every) for (const record of setting.records) bySetting.set(record.path, setting);
  const settings = shown.length === records.length ? every : settingsOf(shown);
  view = { sweep, sweeps, records, shown, settings, every, bySetting, rows: [], picks: [], chosen: false };
  view.mode = state.mode ?? (every.some((setting) => setting.seeds.size > 1) ? "settings" : "runs");
  view.rows = sortedRows();
  view.picks = resolvePicks();
  drawAll();
}

/** [name, number of runs] of every sweep in the folder, the last to end first. */
function sweepsByTime() {
  const sweeps = [...Map.groupBy(data.records.values(), sweepOf)].map(([name, records]) => {
    const last = records.reduce((time, record) => ((record.finished ?? "") > time ? record.finished : time), "");
    return { name, last, runs: records.length };
  });
  return sweeps.sort((a, b) => (a.last < b.last ? 1 : -1)).map(({ name, runs }) => [name, runs]);
}

/** The reader's choice; without one a live page shows the last sweep, a report all of them. */
function chosenSweep(sweeps) {
  if (state.sweep !== null && sweeps.some(([name]) => name === state.sweep)) return state.sweep;
  return data.about.live && state.sweep === null && sweeps.length > 1 ? sweeps[0][0] : "*";
}

function passes(record) {
  for (const [id, filter] of Object.entries(state.filters)) {
    const column = columns.get(id);
    if (column && !within(filter, column.value(record))) return false;
  }
  return !state.search || haystack(record).includes(state.search.toLowerCase());
}

function within(filter, value) {
  if (filter.values) return filter.values.some((kept) => sameValue(kept, value));
  const inside = ([low, high]) => (low ?? -Infinity) <= value && value <= (high ?? Infinity);
  return typeof value === "number" && filter.ranges.some(inside);
}

function sameValue(a, b) {
  return a === b || (typeof a === "object" && JSON.stringify(a) === JSON.stringify(b));
}

function haystack(record) {
  const label = () => fullLabel(record, { seed: true });
  const texts = () => [runName(record), record.status, record.message, record.hash, label()];
  record.haystack ??= texts().join("\n").toLowerCase();
  return record.haystack;
}

/** The settings or runs of the table, in its order. */
function sortedRows() {
  const rows = view.mode === "settings" ? [...view.settings] : [...view.shown];
  const sort = state.sort ?? { id: "metric:top1", down: true };
  const column = columns.get(sort.id);
  if (!column && sort.id !== "run") return rows;
  const keyed = rows.map((row) => [sortValue(row, column), row]);
  const sign = sort.down ? -1 : 1;
  // What has no value stays at the end, whichever way the rest is sorted.
  keyed.sort(([a], [b]) =>
    a === undefined || b === undefined ? (a === undefined) - (b === undefined) : sign * compareValues(a, b),
  );
  return keyed.map((pair) => pair[1]);
}

function sortValue(row, column) {
  const record = row.runs ? row.first : row;
  if (!column) return runName(record);
  if (row.runs && column.kind === "metric") return intervalOf(row, column).mean ?? undefined;
  return column.value(record);
}
