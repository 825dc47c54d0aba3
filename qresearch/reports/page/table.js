// The table of settings (means over seeds) or of runs: sorted by any column, a page of rows at a time.

const ROWS = 25;
const BRIEF = 8; // characters of a head that stay in one line
const OVER_SEEDS = "Mean over the finished seeds of the setting; ± is half of its 95 % interval (Student t).";

function drawTable() {
  const settings = view.mode === "settings";
  for (const mode of ["settings", "runs"])
    byId(`mode-${mode}`).setAttribute("aria-pressed", String(view.mode === mode));
  const shown = tableColumns(settings);
  const pages = Math.max(1, Math.ceil(view.rows.length / ROWS));
  state.page = Math.min(state.page, pages - 1);
  const rows = view.rows.slice(state.page * ROWS, (state.page + 1) * ROWS);
  keepingFocus(() => {
    byId("table-head").replaceChildren(headRow(shown));
    byId("table-body").replaceChildren(...rows.map((row) => tableRow(row, shown, settings)));
  });
  byId("table-empty").hidden = rows.length > 0;
  byId("pages").hidden = pages === 1;
  const [from, to] = [state.page * ROWS + 1, state.page * ROWS + rows.length].map((at) => at.toLocaleString("en"));
  byId("page-number").textContent = `${from}–${to} of ${plural(view.rows.length, settings ? "setting" : "run")}`;
  byId("page-before").disabled = state.page === 0;
  byId("page-after").disabled = state.page === pages - 1;
  byId("table-note").textContent = tableNote(settings);
  byId("table-columns").replaceChildren(factList(Object.fromEntries(shown.map(({ label, says }) => [label, says]))));
  drawChooser(settings);
}

function tableNote(settings) {
  const parts = [];
  if (settings && view.settings.some((setting) => setting.runs.length > 1)) {
    parts.push("± is half of the 95 % interval of the mean over seeds (Student t).");
  }
  if (view.rows.length > 1) {
    parts.push("Tick rows to compare them and to see their layers and curves; the first two are A and B.");
  }
  return parts.join(" ");
}

/** What stands in the table, from left to right: {id, label, says, kind, text}; the first opens its run. */
function tableColumns(settings) {
  const left = settings ? ["config:seed"] : [];
  const own = [...columns.values()].filter((column) => column.shown && !left.includes(column.id));
  const more = state.more
    .map((id) => columns.get(id))
    .filter((column) => column && !own.includes(column) && !left.includes(column.id));
  const keys = own.filter((column) => column.kind === "config").map((column) => placed(column, settings));
  const results = [...own, ...more].filter((column) => column.kind !== "config" || !column.shown);
  const ended = settings ? seedsColumn() : placed(columns.get("status"), settings);
  const shown = inReach(keys, ended, results.map((column) => placed(column, settings)));
  const named = !settings || keys.length === 0;
  return named ? shown.toSpliced(narrow() && keys.length ? keys.length + 2 : 0, 0, runColumn()) : shown;
}

/** Keys, how the runs ended, and results; where the keys are many, the first result stands among them. */
function inReach(keys, ended, results) {
  const first = narrow() ? 2 : 5; // keys before it, which a narrow and a wide page show at once
  if (!narrow() && keys.length <= first) return [...keys, ended, ...results];
  return [...keys.slice(0, first), ...results.slice(0, 1), ...keys.slice(first), ended, ...results.slice(1)];
}

function placed(column, settings) {
  const mean = settings && column.kind === "metric";
  const text = (row, record) =>
    mean ? withInterval(intervalOf(row, column), column.digits) : column.text(column.value(record));
  const over = mean ? ` ${OVER_SEEDS}` : "";
  const says = `${column.label}: ${column.says}.${over}`;
  return { id: column.id, label: column.label, says, kind: column.kind === "metric" ? "number" : "text", text };
}

function seedsColumn() {
  const says = "seeds: the runs of a setting, which differ in the seed alone; means are over those that finished.";
  return { label: "seeds", says, kind: "text", text: seedsInWords };
}

function runColumn() {
  const says = "run: its folder, inside the folder that the page shows.";
  return { id: "run", label: "run", says, kind: "text", text: (_, record) => runName(record) };
}

function headRow(shown) {
  const hint = "pick: tick rows to compare them; the first two are A and B.";
  return make("tr", {}, make("th", { scope: "col", class: "pick", title: hint }, "pick"), ...shown.map(headCell));
}

function headCell({ id, label, says, kind }, index) {
  const words = label.length > BRIEF ? "" : " brief";
  const attributes = { scope: "col", class: `${kind}${words}${index ? "" : " opens"}`, title: says };
  if (!id) return make("th", attributes, label);
  const sort = state.sort ?? { id: "metric:top1", down: true };
  const active = sort.id === id;
  const direction = active ? (sort.down ? "descending" : "ascending") : "none";
  const turn = () => change({ sort: { id, down: active ? !sort.down : kind === "number" }, page: 0 });
  const mark = active ? make("span", { class: "arrow", "aria-hidden": "true" }, sort.down ? " ▼" : " ▲") : null;
  const named = { type: "button", "data-focus": `sort ${id}`, "aria-description": says, onclick: turn };
  return make("th", { ...attributes, "aria-sort": direction }, make("button", named, ...breakable(label), mark));
}

/** A name that may go on in the next line behind its dots. */
function breakable(label) {
  return label.split(/(?<=\.)/).flatMap((part, index) => (index ? [make("wbr"), part] : [part]));
}

function tableRow(row, shown, settings) {
  const record = settings ? row.first : row;
  const kind = settings ? "setting" : "run";
  const bad = settings ? row.diverged > 0 : record.status !== "finished";
  const cells = shown.map((column, index) => tableCell(row, record, column, { opens: index === 0, bad }));
  const attributes = { "data-path": record.path, class: pickOf(kind, record.path) ? "picked" : null };
  return make("tr", attributes, pickCell(record, kind), ...cells);
}

function tableCell(row, record, { id = "seeds", kind, text }, { opens, bad }) {
  const content = text(row, record);
  const ended = bad && (id === "seeds" || id === "status");
  const title = content.length > 40 || opens ? content : null;
  const attributes = { class: ended ? `${kind} bad` : kind, "data-column": id, title };
  if (!opens) return make("td", attributes, short(content));
  return make("th", { ...attributes, scope: "row" }, runButton(record, short(content)));
}

/** A button that opens what is known of a run. */
function runButton(record, text) {
  const open = () => showDetails(record);
  return make("button", { type: "button", class: "link", "data-focus": `open ${record.path}`, onclick: open }, text);
}

function pickCell(record, kind) {
  if (record.status === "failed") return make("td", { class: "pick" });
  const pick = pickOf(kind, record.path);
  const box = make("input", {
    type: "checkbox",
    "data-focus": `pick ${record.path}`,
    "aria-label": `Pick ${kind === "setting" ? labelOf(record) : runLabel(record)}`,
    onchange: () => togglePick(kind, record.path),
  });
  box.checked = Boolean(pick);
  return make("td", { class: "pick" }, box, pick ? make("span", { class: "letter" }, pick.letter) : null);
}

/** The columns that the table can show besides its own. */
function drawChooser(settings) {
  const able = [...columns.values()].filter(
    (column) => !column.shown && column.id !== "status" && !(settings && column.kind === "own"),
  );
  const known = JSON.stringify([able.map((column) => column.id), state.more]);
  const box = byId("more-columns");
  if (box.dataset.known === known) return;
  box.dataset.known = known;
  const labels = able.map((column) => {
    const tick = make("input", { type: "checkbox", "data-focus": `more ${column.id}` });
    tick.checked = state.more.includes(column.id);
    tick.addEventListener("change", () =>
      change({ more: tick.checked ? [...state.more, column.id] : state.more.filter((id) => id !== column.id) }),
    );
    return make("label", {}, tick, ` ${column.label}`);
  });
  keepingFocus(() => box.replaceChildren(...labels));
}

/** Replace elements, and give the focus to the one that takes the place of the one that had it. */
function keepingFocus(replace) {
  const name = document.activeElement?.dataset?.focus;
  replace();
  if (name) document.querySelector(`[data-focus="${CSS.escape(name)}"]`)?.focus({ preventScroll: true });
}

function startTable() {
  for (const mode of ["settings", "runs"])
    byId(`mode-${mode}`).addEventListener("click", () => change({ mode, page: 0 }));
  byId("page-before").addEventListener("click", () => change({ page: state.page - 1 }));
  byId("page-after").addEventListener("click", () => change({ page: state.page + 1 }));
}
