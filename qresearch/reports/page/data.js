// The records: rows of numbers as qresearch/reports/report_data.py writes them, read into objects.

const TENSORS = ["weight", "input", "output"];
const SPLIT = ["weight", "input"];
const SQNR_STEP = 0.01;
const CLIP_STEPS = 250;
const NO_SQNR = -32768;
const NO_CLIP = 255;

const data = {
  about: {},
  head: { keys: [], values: [], constant: {}, metrics: [], networks: [], unhashed: [], machines: [], colours: [] },
  records: new Map(),
  changed: true,
};

/** Take in a document: all there is, or what is new since the last one. */
function readDocument(content) {
  const { rows, head, removed, whole, ...about } = content;
  data.about = { ...data.about, ...about };
  if (head) data.head = head;
  data.changed ||= Boolean(head);
  if (whole) data.records.clear();
  for (const path of removed ?? []) data.records.delete(path);
  for (const row of rows ?? []) data.records.set(row[0], readRow(row));
}

function readRow(row) {
  const [path, status, message, hash, group, overrides, finished, machine, codes, metrics, network, sqnr, clip] = row;
  return { path, status, message, hash, group, overrides, finished, machine, codes, metrics, network, sqnr, clip };
}

/** The folder of a record, as it is called inside the folder that the page shows. */
function runName(record) {
  return record.path.replace(/\/?result\.json$/, "") || ".";
}

/** The folder in which a run's folder lies: the name of its sweep; "." for one that lies in the page's own folder. */
function sweepOf(record) {
  const name = runName(record);
  return name.includes("/") ? name.slice(0, name.lastIndexOf("/")) : ".";
}

/** Whether a key of the configuration can change a number. */
function counts(name) {
  return !data.head.unhashed.includes(name.split(".")[0]);
}

/** The value of a key that differs; undefined where the configuration of the record lacks it. */
function configValue(record, key) {
  const code = record.codes[key];
  return code === undefined || code < 0 ? undefined : data.head.values[key][code];
}

/** A number for the value of a key; a key that is lacking counts as null. */
function codeOf(record, key) {
  const code = record.codes[key] ?? -1;
  return code < 0 ? data.head.values[key].indexOf(null) : code;
}

/** The value of any key, by its name. */
function configOf(record, name) {
  const key = data.head.keys.indexOf(name);
  return key < 0 ? data.head.constant[name] : configValue(record, key);
}

function metric(record, name) {
  return record.metrics[data.head.metrics.indexOf(name)] ?? null;
}

function seedOf(record) {
  return configOf(record, "seed");
}

function layersOf(record) {
  return data.head.networks[record.network] ?? [];
}

/** SQNR of a tensor in dB for every layer; null where there is none. */
function sqnrOf(record, tensor) {
  record.sqnrNumbers ??= new Int16Array(bytes(record.sqnr).buffer);
  const offset = TENSORS.indexOf(tensor);
  return layersOf(record).map((_, layer) => {
    const number = record.sqnrNumbers[layer * TENSORS.length + offset];
    return number === NO_SQNR ? null : number * SQNR_STEP;
  });
}

/** The share of a tensor's squared error that clipping makes, for every layer; null where there is none. */
function clipShareOf(record, tensor) {
  record.clipNumbers ??= bytes(record.clip);
  const offset = SPLIT.indexOf(tensor);
  return layersOf(record).map((_, layer) => {
    const number = record.clipNumbers[layer * SPLIT.length + offset];
    return number === NO_CLIP ? null : number / CLIP_STEPS;
  });
}

function bytes(text) {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}
