// Two picks against each other: seed by seed where they have seeds in common, else number by number.

function drawCompare() {
  const [a, b] = view.picks;
  byId("compare-hint").textContent = view.chosen ? "" : "Chosen by the page; pick two rows of the table for others.";
  const body = byId("compare-body");
  if (!a || !b) {
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
    make("li", {}, make("span", { class: "letter" }, pick.letter), `${pick.label} (${count(pick)})`);
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
  const heads = ["", a.letter, b.letter, `${b.letter} − ${a.letter}`, "p"];
  const head = heads.map((text, index) => make("th", { scope: "col", class: index ? "number" : null }, text));
  const row = (column) => comparisonRow(column, a, b, pairs);
  const rows = (known) =>
    metricColumns()
      .filter((column) => column.known === known)
      .map(row)
      .filter(Boolean);
  const more = make("tbody", { hidden: !state.choices.others }, ...rows(false));
  const turn = () => change({ choices: { ...state.choices, others: !state.choices.others } });
  const words = state.choices.others ? "Fewer numbers" : "All numbers";
  const button = make("button", { type: "button", class: "link", "data-focus": "others", onclick: turn }, words);
  const bodies = [make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...rows(true)), more];
  const table = make("table", { class: "compare" }, ...bodies);
  return make("div", {}, make("div", { class: "scroll" }, table), more.children.length ? button : null);
}

function comparisonRow(column, a, b, pairs) {
  const values = (pick) => pick.runs.map((record) => column.value(record)).filter((value) => value !== undefined);
  const means = [a, b].map((pick) => meanInterval(values(pick)));
  if (means.some(({ mean }) => mean === null)) return null;
  const [first, second] = pairedValues(column, pairs);
  const difference = first.length ? pairedDifference(second, first) : { mean: null, half: null, p: null };
  const significant = difference.p !== null && difference.p < 1 - CONFIDENCE;
  const cells = [...means, difference].map((interval) => withInterval(interval, column.digits));
  const p = difference.p === null ? "–" : probability(difference.p).replace("= ", "");
  const cell = (text, index) =>
    make("td", { class: index === 2 && significant ? "number significant" : "number" }, text);
  return make("tr", {}, make("th", { scope: "row" }, column.label), ...[...cells, p].map(cell));
}
