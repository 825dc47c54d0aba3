// The lines into which settings fall: the same, with the same looks, in every plot.

const LINES = 12;
const COLOURED = ["method.name", "weight.granularity"]; // as the picture of `qresearch demo` orders its colours

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
    const key = told.map((column) => codeOf(setting.first, column.key)).join();
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

/** Two settings in the order of some columns: texts by name, granularities from coarse to fine, 8 bits before 2. */
function compareSettings(a, b, able) {
  for (const column of able) {
    const order = orderOf(column)(column.value(a.first), column.value(b.first));
    if (order) return column.numeric ? -order : order;
  }
  return 0;
}

/** The keys of the lines in the order in which they take their colours: by method, granularity, and then the rest. */
function linesInOrder(lines, told) {
  const rank = (column) => (COLOURED.includes(column.name) ? COLOURED.indexOf(column.name) : COLOURED.length);
  const able = [...told].sort((a, b) => rank(a) - rank(b));
  const firsts = [...lines].map(([key, [first]]) => ({ key, first: first.first }));
  return firsts.sort((a, b) => compareSettings(a, b, able)).map(({ key }) => key);
}

/** {x, lines: [{label, full, settings, style}], best}: `best` are the columns over which a line takes the best. */
function styledLines() {
  const settings = view.settings.filter((setting) => setting.runs.length);
  const x = chosenColumn("accuracy-x", keyColumns(), bitsColumn()?.id);
  const { told, best } = lineColumns(settings, x);
  const places = linesInOrder(linesBy(view.every, told), told); // of all settings: a filter changes no colour
  const groups = [...linesBy(settings, told)];
  const firsts = groups.map(([, group]) => group[0].first);
  const labels = uniqueLabels(firsts, neededColumns(firsts, told).filter(differs(firsts)));
  const lines = groups.map(([key, group], index) => {
    const place = places.indexOf(key);
    const label = groups.length > 1 ? labels[index] : "all settings";
    return { label, full: inWords(firsts[index], told) || label, settings: group, style: lineStyle(place), place };
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
