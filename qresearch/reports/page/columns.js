// Columns: what a record can be sorted, filtered and drawn by. Keys of the configuration, metrics, and status.

const ORDINAL = 16; // a key with at most so many values has them side by side, evenly
// label, factor, digits, and whether more is better (undefined: neither)
const METRICS = {
  top1: ["top-1 %", 1, 2, true],
  top1_float: ["float %", 1, 2],
  top1_lost: ["against float", 1, 2, true],
  sqnr_weight_db: ["SQNR w dB", 1, 1, true],
  sqnr_weight_db_min: ["SQNR worst weights dB", 1, 1, true],
  sqnr_input_db: ["SQNR inputs dB", 1, 1, true],
  sqnr_output_db: ["SQNR outputs dB", 1, 1, true],
  size_bytes: ["size kB", 1e-3, 1, false],
  bitops: ["BitOps M", 1e-6, 2, false],
  sqnr_input_db_min: ["SQNR worst inputs dB", 1, 1, true],
  sqnr_output_db_min: ["SQNR worst outputs dB", 1, 1, true],
  loss: ["loss", 1, undefined, false],
  seconds: ["seconds", 1, 1],
};
const HEADLINE = ["top1", "top1_lost", "sqnr_weight_db", "size_bytes", "bitops", "seconds"];

// What is worked out from the metrics of a record; null where one is lacking.
const DERIVED = {
  top1_lost: (record) => {
    const [top1, float] = [metric(record, "top1"), metric(record, "top1_float")];
    return top1 === null || float === null ? null : top1 - float;
  },
};

let columns = new Map(); // by id

function buildColumns(records) {
  const told = new Set(tellingKeys(records));
  const configs = [...data.head.keys.keys()].map((key) => configColumn(key, told.has(key)));
  const first = HEADLINE.filter((name) => Object.hasOwn(DERIVED, name) || data.head.metrics.includes(name));
  const metrics = [...new Set([...first, ...data.head.metrics])].map(metricColumn);
  const own = [
    { id: "status", label: "status", kind: "own", value: (record) => record.status, text: String },
    { id: "finished", label: "finished", kind: "own", value: (record) => record.finished, text: shortTime },
  ];
  columns = new Map([...configs, ...metrics, ...own].map((column) => [column.id, column]));
  for (const column of [...configs, columns.get("status")]) prepareScale(column, records);
  for (const record of records) record.haystack = undefined;
}

/** The keys that tell the records apart: of those that always change together the first, a class last. */
function tellingKeys(records) {
  const sound = records.filter((record) => record.status !== "failed");
  const configs = sound.length ? sound : records;
  const isClass = (key) => data.head.keys[key].endsWith("_target_");
  const keys = [...data.head.keys.keys()].filter((key) => counts(data.head.keys[key]));
  const found = new Map();
  for (const key of keys.sort((a, b) => isClass(a) - isClass(b) || a - b)) {
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
    shown,
    value: (record) => configValue(record, key),
    text: (value) => configText(name, value),
  };
}

function metricColumn(name) {
  const known = Object.hasOwn(METRICS, name);
  const [label, factor, digits, better] = known ? METRICS[name] : [name, 1, undefined, undefined];
  const found = Object.hasOwn(DERIVED, name) ? DERIVED[name] : (record) => metric(record, name);
  const value = (record) => (found(record) === null ? undefined : found(record) * factor);
  return {
    id: `metric:${name}`,
    name,
    label,
    kind: "metric",
    known,
    shown: HEADLINE.includes(name),
    digits,
    better,
    value,
    text: (shown) => number(shown, digits),
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

function shortTime(iso) {
  return iso ? iso.slice(0, 16).replace("T", " ") : "–";
}

/** Where values stand on an axis: side by side (`ordinal`, the values in order), by size, or by its logarithm. */
function prepareScale(column, records) {
  const values = [...new Set(records.map((record) => column.value(record)))].filter((value) => value !== undefined);
  const numbers = values.filter((value) => typeof value === "number").sort((a, b) => a - b);
  column.numeric = numbers.length > 0 && values.every((value) => value === null || typeof value === "number");
  column.wide = column.numeric && isWide(numbers);
  if (!column.numeric || values.length <= ORDINAL) column.ordinal = values.sort(compareValues);
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

function displayColumns() {
  return [...columns.values()].filter((column) => column.kind === "config" && column.shown);
}

function metricColumns() {
  return [...columns.values()].filter((column) => column.kind === "metric");
}
