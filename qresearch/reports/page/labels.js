// Labels: a setting in words, short, and never two settings in the same ones. What most have is left out, and so is
// what the rest tells already; the whole stands under the pointer.

const USUAL = 0.75; // a value that more of the settings have goes without saying,
const MANY = 5; // where there are at least so many
const MAIN = ["method.name", "weight.bits"]; // always said
const VALUE_LENGTH = 40;

let naming = { labels: new Map(), usual: new Map(), left: "" }; // labels: by the key of a setting

/** Find the labels of all settings that the page looks at. */
function nameSettings(settings) {
  const records = settings.map((setting) => setting.first);
  const usual = usualValues(records);
  const needed = neededColumns(records, keyColumns());
  const labels = uniqueLabels(records, needed, usual);
  const left = [...usual.keys()].filter((column) => usual.get(column) !== null);
  naming = {
    usual,
    labels: new Map(settings.map(({ key }, index) => [key, labels[index]])),
    left: left.map((column) => `${column.label} ${column.text(usual.get(column))}`).join(", "),
  };
}

/** The value of each column that most settings have, where most have one. */
function usualValues(records) {
  const found = new Map();
  for (const column of records.length < MANY ? [] : keyColumns()) {
    if (MAIN.includes(column.name)) continue;
    const groups = Map.groupBy(records, (record) => codeOf(record, column.key));
    const [most] = [...groups.values()].sort((a, b) => b.length - a.length);
    if (most.length > USUAL * records.length) found.set(column, column.value(most[0]) ?? null);
  }
  return found;
}

/** Of some columns those that records cannot be told apart without; the first are kept before the last. */
function neededColumns(records, able) {
  const codes = new Map(able.map((column) => [column, records.map((record) => codeOf(record, column.key))]));
  const count = (kept) => {
    const lists = kept.map((column) => codes.get(column));
    return new Set(records.map((_, index) => lists.map((list) => list[index]).join())).size;
  };
  const all = count(able);
  let kept = able;
  for (const column of [...able].reverse()) {
    const rest = kept.filter((other) => other !== column);
    if (!MAIN.includes(column.name) && count(rest) === all) kept = rest;
  }
  return kept;
}

/** A label for each record: without what is usual, as far as no other of them then has the same. */
function uniqueLabels(records, told, usual = naming.usual) {
  const isUsual = (column, record) => usual.has(column) && sameValue(column.value(record) ?? null, usual.get(column));
  const labels = records.map((record) => inWords(record, told.filter((column) => !isUsual(column, record))));
  for (const group of alike(labels)) {
    const differing = told.filter(differs(group.map((index) => records[index])));
    for (const index of group) {
      const said = told.filter((column) => differing.includes(column) || !isUsual(column, records[index]));
      labels[index] = inWords(records[index], said.length ? said : told);
    }
  }
  for (const group of alike(labels)) {
    for (const index of group) labels[index] = [labels[index], runName(records[index])].filter(Boolean).join(", ");
  }
  return labels;
}

/** The places of labels that several have, and of those that say nothing: [[0, 3], ...]. */
function alike(labels) {
  const places = Map.groupBy(labels.keys(), (index) => labels[index]);
  return [...places].filter(([label, indices]) => !label || indices.length > 1).map(([, indices]) => indices);
}

/** Whether records differ in a column. */
function differs(records) {
  return (column) => records.some((record) => codeOf(record, column.key) !== codeOf(records[0], column.key));
}

/** The label of the setting of a record. */
function labelOf(record) {
  const setting = view.bySetting.get(record.path);
  return naming.labels.get(setting?.key) ?? fullLabel(record);
}

/** The label of a single run: that of its setting, and its seed. */
function runLabel(record) {
  const seed = columns.get("config:seed");
  return [labelOf(record), seed?.shown ? inWords(record, [seed]) : ""].filter(Boolean).join(", ");
}

/** All values that tell a record apart, in words. */
function fullLabel(record, { seed = false } = {}) {
  return inWords(record, seed ? displayColumns() : keyColumns()) || runName(record);
}

/** The values of some columns, "ptq, weight.bits 4, channel"; keys that the record lacks are left out. */
function inWords(record, told) {
  const able = told.filter((column) => column.value(record) !== undefined);
  return able.map((column) => valueInWords(column, column.value(record))).join(", ");
}

/** A text by itself where no other key has it too, anything else behind the name of its key. */
function valueInWords(column, value) {
  column.words ??= new Map();
  if (!column.words.has(value)) {
    const others = displayColumns().filter((other) => other !== column);
    const word = typeof value === "string" && /^\w/.test(value);
    const alone = word && !others.some((other) => other.ordinal?.includes(value));
    column.cut ??= distinct(column.ordinal ?? [], VALUE_LENGTH, column.text);
    const text = column.cut.get(value) ?? column.text(value);
    column.words.set(value, alone ? text : `${shortLabel(column, others)} ${text}`);
  }
  return column.words.get(value);
}

/** "optim.weight_decay" is "weight_decay" where no other column ends so; a side (weight.bits) keeps its name. */
function shortLabel(column, others) {
  const last = column.label.split(".").pop();
  const side = /^(weight|act|grad)\./.test(column.label);
  return side || others.some((other) => other.label.split(".").pop() === last) ? column.label : last;
}

/** A label in lines of about so many characters, for plotly. */
function wrapped(label, width) {
  const [first, ...rest] = label.split(", ");
  const lines = [first];
  for (const part of rest) {
    const longer = `${lines.at(-1)}, ${part}`;
    if (longer.length <= width) lines[lines.length - 1] = longer;
    else lines.push(part);
  }
  return lines.map(safe).join(",<br>");
}
