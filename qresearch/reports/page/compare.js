// Two picks against each other: seed by seed where they have seeds in common, else number by number.

function drawCompare() {
  const [a, b] = view.picks;
  byId("compare-hint").textContent = view.chosen ? "" : "Chosen by the page; pick two rows of the table for others.";
  const body = byId("compare-body");
  if (!a || !b) {
    byId("compare-note").textContent = "";
    body.replaceChildren(make("p", { class: "empty" }, "Pick two rows of the table: the first is A, the second B."));
    return;
  }
  const pairs = pairsOf(a, b);
  body.replaceChildren(sideList([a, b]), make("p", { class: "verdict" }, verdict(pairs)), comparisonTable(a, b, pairs));
}

/** Picks by letter and name. */
function sideList(picks) {
  const count = (pick) => (pick.kind === "run" ? "one run" : seedsInWords(pick.setting));
  const side = (pick) =>
    make("li", { title: pick.full }, make("span", { class: "letter" }, pick.letter), `${pick.label} (${count(pick)})`);
  return make("ul", { class: "sides" }, ...picks.map(side));
}

/** The runs of both with one seed, from one float network: [[a, b], ...]. */
function pairsOf(a, b) {
  const partners = new Map(b.runs.map((record) => [String(seedOf(record)), record]));
  const pairs = a.runs.map((record) => [record, partners.get(String(seedOf(record)))]);
  return pairs.filter(([first, second]) => second && metric(first, "top1_float") === metric(second, "top1_float"));
}

/** A column's values of the pairs in which both have one: [of A, of B]. */
function pairedValues(column, pairs) {
  const values = pairs.map((pair) => pair.map((record) => column.value(record)));
  const able = values.filter((pair) => pair.every((value) => value !== undefined));
  return [able.map((pair) => pair[0]), able.map((pair) => pair[1])];
}

function verdict(pairs) {
  const top1 = columns.get("metric:top1");
  const [a, b] = top1 ? pairedValues(top1, pairs) : [[], []];
  if (a.length === 0) return "No pair: a pair is two finished runs with one seed, from one float network.";
  const { mean, half, words } = pairedDifference(b, a, { digits: 2 });
  const amount = words.startsWith("not") ? ` B − A is ${withInterval({ mean, half }, 2)} points.` : "";
  return `Top-1, B against A: ${words}.${amount}`;
}

function comparisonTable(a, b, pairs) {
  const compared = metricColumns()
    .map((column) => comparisonOf(column, a, b, pairs))
    .filter(Boolean);
  const shown = comparisonColumns(a, b, compared);
  const head = shown.map(({ name, says }) => make("th", { scope: "col", class: "number", title: says }, name));
  const rows = (main) =>
    compared.filter(({ column }) => column.main === main).map((found) => comparisonRow(found, shown));
  const more = make("tbody", { hidden: !state.choices.others }, ...rows(false));
  byId("compare-note").textContent = comparisonNote(compared);
  const turn = () => change({ choices: { ...state.choices, others: !state.choices.others } });
  const words = state.choices.others ? "Fewer numbers" : "All numbers";
  const button = make("button", { type: "button", class: "link", "data-focus": "others", onclick: turn }, words);
  const metrics = make("th", { scope: "col", title: "metric: its mean over the seeds of each side" }, "metric");
  const bodies = [make("thead", {}, make("tr", {}, metrics, ...head)), make("tbody", {}, ...rows(true)), more];
  const table = make("table", { class: "compare" }, ...bodies);
  return make("div", {}, make("div", { class: "scroll" }, table), more.children.length ? button : null);
}

/** What is compared of two sides, from left to right; the difference first where not all can be seen at once. */
function comparisonColumns(a, b, compared) {
  const sides = [a, b].map(({ letter, full }, index) => {
    return { name: letter, says: `${letter}: ${full}; the mean over its seeds`, text: ({ texts }) => texts[index] };
  });
  const name = `${b.letter} − ${a.letter}`;
  const says = `${name}: the mean difference of the pairs; bold where p is below 5 %`;
  const difference = { name, says, text: ({ texts }) => texts[2], bold: true };
  const p = { name: "p", says: "p: two-sided p of the paired t test over the seeds", text: (found) => found.p };
  const paired = compared.some(({ pairs }) => pairs > 0) ? [difference] : [];
  if (compared.some(isTested)) paired.push(p);
  return narrow() ? [...paired, ...sides] : [...sides, ...paired];
}

function isTested({ p }) {
  return p !== "–";
}

/** A column of both sides: {column, texts of A, B and B − A, p, significant, pairs}; null where a side has none. */
function comparisonOf(column, a, b, pairs) {
  const values = (pick) => pick.runs.map((record) => column.value(record)).filter((value) => value !== undefined);
  const means = [a, b].map((pick) => meanInterval(values(pick)));
  if (means.some(({ mean }) => mean === null)) return null;
  const [first, second] = pairedValues(column, pairs);
  const difference = first.length ? pairedDifference(second, first) : { mean: null, half: null, p: null };
  return {
    column,
    texts: [...means, difference].map((interval) => withInterval(interval, column.digits)),
    p: difference.p === null ? "–" : probability(difference.p).replace("= ", ""),
    significant: difference.p !== null && difference.p < 1 - CONFIDENCE,
    pairs: first.length,
    spread: means.some(({ half }) => half !== null),
  };
}

function comparisonRow(found, shown) {
  const { label, says } = found.column;
  const cells = shown.map(({ text, bold }) =>
    make("td", { class: bold && found.significant ? "number significant" : "number" }, text(found)),
  );
  return make("tr", {}, make("th", { scope: "row", title: `${label}: ${says}` }, label), ...cells);
}

/** What the table holds, and no more: an interval needs several seeds, a test several pairs. */
function comparisonNote(compared) {
  const parts = [];
  if (compared.some(({ spread }) => spread)) parts.push("± is half of the 95 % interval (Student t).");
  if (compared.some(({ pairs }) => pairs > 0)) parts.push("A pair is two runs with one seed, from one float network.");
  if (compared.some(isTested)) parts.push("p is that of the paired t test, bold below 5 %.");
  return parts.join(" ");
}
