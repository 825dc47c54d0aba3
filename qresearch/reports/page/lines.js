// The lines into which settings fall: the same, with the same looks, in every plot.

const LINES = 12;

/** The columns of keys that tell settings apart. */
function keyColumns() {
  return displayColumns().filter((column) => column.id !== "config:seed");
}

/** What accuracy is drawn against until the reader says otherwise. */
function bitsColumn() {
  const able = keyColumns();
  return able.find((column) => column.name.endsWith("bits")) ?? able.find((column) => column.numeric) ?? able[0];
}

/** Settings by what they have in some columns. */
function linesBy(settings, told) {
  const found = new Map();
  for (const setting of settings) {
    const key = told.map((column) => column.text(column.value(setting.first))).join("\n");
    if (!found.has(key)) found.set(key, []);
    found.get(key).push(setting);
  }
  return found;
}

/** The columns that tell lines apart, and those over which a line takes the best because there would be too many. */
function lineColumns(settings, x) {
  const told = keyColumns().filter((column) => column !== x);
  const best = [];
  while (told.length && linesBy(settings, told).size > LINES) {
    const values = (column) => new Set(settings.map((setting) => column.text(column.value(setting.first)))).size;
    const most = told.reduce((a, b) => (values(b) > values(a) ? b : a));
    told.splice(told.indexOf(most), 1);
    best.push(most);
  }
  return { told, best };
}

/** {x, lines: [{label, settings, style}], best}: `best` are the columns over which a line takes the best. */
function styledLines() {
  const settings = view.settings.filter((setting) => setting.runs.length);
  const x = chosenColumn("accuracy-x", keyColumns(), bitsColumn()?.id);
  const { told, best } = lineColumns(settings, x);
  const places = [...linesBy(view.every, told).keys()]; // of all settings, so that a filter changes no colour
  const alike = told.filter((column) =>
    settings.every((setting) => sameValue(column.value(setting.first), column.value(settings[0].first))),
  );
  const left = displayColumns()
    .filter((column) => !told.includes(column) || alike.includes(column))
    .map((column) => column.id);
  const lines = [...linesBy(settings, told)].map(([key, group]) => {
    const label = left.length < displayColumns().length ? labelOf(group[0].first, left) : "all settings";
    return { label, settings: group, style: lineStyle(places.indexOf(key)), place: places.indexOf(key) };
  });
  return { x, lines: lines.sort((a, b) => a.place - b.place), best };
}

/** Of the settings of a line at one value of x, the best. */
function bestAlong(line, x, y) {
  const found = new Map();
  const sign = y.better === false ? -1 : 1;
  for (const setting of line.settings) {
    const { mean } = intervalOf(setting, y);
    const key = JSON.stringify(x?.value(setting.first) ?? null);
    const before = found.get(key);
    if (mean !== null && (!before || sign * mean > sign * intervalOf(before, y).mean)) found.set(key, setting);
  }
  return [...found.values()];
}
