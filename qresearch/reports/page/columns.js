// Columns: what a record can be sorted, filtered and drawn by. Keys of the configuration, metrics, and status.

const ORDINAL = 16; // a key with at most so many values has them side by side, evenly
// The keys that come first, in tables, labels and colours.
const LEAD = ["method.name", "weight.bits", "act.bits", "weight.granularity"];
const GRANULARITIES = ["tensor", "channel", "block"]; // from coarse to fine

let columns = new Map(); // by id

function buildColumns(records) {
  const told = new Set(tellingKeys(records));
  const keys = [...data.head.keys.keys()].sort((a, b) => leadOf(a) - leadOf(b) || a - b);
  const configs = keys.map((key) => configColumn(key, told.has(key)));
  const first = HEADLINE.filter((name) => Object.hasOwn(DERIVED, name) || data.head.metrics.includes(name));
  const metrics = [...new Set([...first, ...data.head.metrics])].map(metricColumn);
  const own = [
    { id: "status", label: "status", says: "how the run ended: finished, diverged or failed", text: String },
    { id: "finished", label: "finished", says: "when the run ended", text: timeInWords },
  ];
  for (const column of own) Object.assign(column, { kind: "own", value: (record) => record[column.id] });
  columns = new Map([...configs, ...metrics, ...own].map((column) => [column.id, column]));
  for (const column of [...configs, columns.get("status")]) prepareScale(column, records);
  for (const record of records) record.haystack = undefined;
}

/** The place of a key before those that are in the order of the configuration. */
function leadOf(key) {
  const place = LEAD.indexOf(data.head.keys[key]);
  return place < 0 ? LEAD.length : place;
}

/** The keys that tell the records apart: of those that always change together the first, a class last. */
function tellingKeys(records) {
  const sound = records.filter((record) => record.status !== "failed");
  const configs = sound.length ? sound : records;
  const isClass = (key) => data.head.keys[key].endsWith("_target_");
  const keys = [...data.head.keys.keys()].filter((key) => counts(data.head.keys[key]));
  const found = new Map();
  for (const key of keys.sort((a, b) => isClass(a) - isClass(b) || leadOf(a) - leadOf(b) || a - b)) {
    const seen = new Map();
    const pattern = configs.map((record) => {
      const code = codeOf(record, key);
      if (!seen.has(code)) seen.set(code, seen.size);
      return seen.get(code);
    });
    if (seen.size > 1 && !found.has(pattern.join())) found.set(pattern.join(), key);
  }
  return found.values();
}

function configColumn(key, shown) {
  const name = data.head.keys[key];
  return {
    id: `config:${name}`,
    key,
    name,
    label: keyLabel(name),
    kind: "config",
    says: `${name}, a key of the configuration; "–": the run has no such key`,
    shown,
    value: (record) => configValue(record, key),
    text: (value) => configText(name, value),
  };
}

function keyLabel(name) {
  return name.replace(/\._target_$/, "").replace(/\.name$/, "");
}

function configText(name, value) {
  if (value === undefined) return "–";
  if (value === null) return name.endsWith("bits") ? "float" : "none";
  if (typeof value === "string" && name.endsWith("_target_")) return value.split(".").pop();
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

/** "2026-11-23 23:10 UTC"; what is no time stays as it is. */
function timeInWords(iso) {
  if (!iso) return "–";
  const time = new Date(iso);
  return Number.isNaN(time.getTime()) ? String(iso) : `${time.toISOString().slice(0, 16).replace("T", " ")} UTC`;
}

/** Where values stand on an axis: side by side (`ordinal`, the values in order), by size, or by its logarithm. */
function prepareScale(column, records) {
  const values = [...new Set(records.map((record) => column.value(record)))].filter((value) => value !== undefined);
  const numbers = values.filter((value) => typeof value === "number").sort((a, b) => a - b);
  column.numeric = numbers.length > 0 && values.every((value) => value === null || typeof value === "number");
  column.wide = column.numeric && isWide(numbers);
  if (!column.numeric || values.length <= ORDINAL) column.ordinal = values.sort(orderOf(column));
}

/** Whether numbers in order are better seen by their logarithms. */
function isWide(numbers) {
  return numbers[0] > 0 && numbers.at(-1) / numbers[0] > 50;
}

/** Numbers by size, then null (no limit: float), then texts by name. */
function compareValues(a, b) {
  const rank = (value) => (value === undefined ? 3 : typeof value === "number" ? 0 : value === null ? 1 : 2);
  if (rank(a) !== rank(b)) return rank(a) - rank(b);
  if (rank(a) === 0) return a - b;
  return String(a).localeCompare(String(b), "en", { numeric: true });
}

/** How values of a column are ordered. */
function orderOf(column) {
  if (!column.name?.endsWith("granularity")) return compareValues;
  const place = (value) => (GRANULARITIES.includes(value) ? GRANULARITIES.indexOf(value) : GRANULARITIES.length);
  return (a, b) => place(a) - place(b) || compareValues(a, b);
}

function displayColumns() {
  return [...columns.values()].filter((column) => column.kind === "config" && column.shown);
}

function metricColumns() {
  return [...columns.values()].filter((column) => column.kind === "metric");
}
