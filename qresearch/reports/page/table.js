// The table of settings (means over seeds) or of runs: sorted by any column, a page of rows at a time.

const ROWS = 25;

function drawTable() {
  const settings = view.mode === "settings";
  for (const mode of ["settings", "runs"])
    byId(`mode-${mode}`).setAttribute("aria-pressed", String(view.mode === mode));
  const shown = tableColumns(settings);
  const pages = Math.max(1, Math.ceil(view.rows.length / ROWS));
  state.page = Math.min(state.page, pages - 1);
  const rows = view.rows.slice(state.page * ROWS, (state.page + 1) * ROWS);
  keepingFocus(() => {
    byId("table-head").replaceChildren(headRow(shown, settings));
    byId("table-body").replaceChildren(...rows.map((row) => tableRow(row, shown, settings)));
  });
  byId("table-empty").hidden = rows.length > 0;
  byId("pages").hidden = pages === 1;
  const [from, to] = [state.page * ROWS + 1, state.page * ROWS + rows.length].map((at) => at.toLocaleString("en"));
  byId("page-number").textContent = `${from}–${to} of ${plural(view.rows.length, settings ? "setting" : "run")}`;
  byId("page-before").disabled = state.page === 0;
  byId("page-after").disabled = state.page === pages - 1;
  drawChooser(settings);
}

function tableColumns(settings) {
  const left = settings ? ["config:seed"] : [];
  const own = [...columns.values()].filter((column) => column.shown && !left.includes(column.id));
  const more = state.more
    .map((id) => columns.get(id))
    .filter((column) => column && !own.includes(column) && !left.includes(column.id));
  return [...own, ...more];
}

function headRow(shown, settings) {
  const hint = make("span", { title: "tick rows to compare them" }, "pick");
  const row = make("tr", {}, make("th", { scope: "col", class: "pick" }, hint));
  if (!settings) row.append(headCell("run", "run", "text"));
  const heads = shown.map((column) => headCell(column.id, column.label, alignment(column)));
  heads.splice(keysAmong(shown), 0, settings ? make("th", { scope: "col" }, "seeds") : headCell("status", "status"));
  row.append(...heads);
  return row;
}

/** How many columns stand before the seeds or the status: the keys of the configuration. */
function keysAmong(shown) {
  return shown.findLastIndex((column) => column.kind === "config" && column.shown) + 1;
}

function alignment(column) {
  return column.kind === "metric" ? "number" : "text";
}

function headCell(id, label, kind = "text") {
  const sort = state.sort ?? { id: "metric:top1", down: true };
  const active = sort.id === id;
  const direction = active ? (sort.down ? "descending" : "ascending") : "none";
  const turn = () => change({ sort: { id, down: active ? !sort.down : kind === "number" }, page: 0 });
  const arrow = active ? (sort.down ? " ▼" : " ▲") : "";
  const mark = make("span", { class: "arrow", "aria-hidden": "true" }, arrow);
  const button = make("button", { type: "button", "data-focus": `sort ${id}`, onclick: turn }, label, mark);
  return make("th", { scope: "col", class: kind, "aria-sort": direction }, button);
}

function tableRow(row, shown, settings) {
  const record = settings ? row.first : row;
  const kind = settings ? "setting" : "run";
  const cells = shown.map((column) => tableCell(row, record, column, settings));
  const open = make("th", { scope: "row" }, runButton(record, runName(record)));
  const ended = settings ? seedsInWords(row) : record.status;
  const bad = settings ? row.diverged : record.status !== "finished";
  cells.splice(keysAmong(shown), 0, make("td", { class: bad ? "bad" : null }, ended));
  const attributes = { "data-path": record.path, class: pickOf(kind, record.path) ? "picked" : null };
  return make("tr", attributes, pickCell(record, kind), ...(settings ? cells : [open, ...cells]));
}

function tableCell(row, record, column, settings) {
  const mean = settings && column.kind === "metric";
  const text = mean ? withInterval(intervalOf(row, column), column.digits) : column.text(column.value(record));
  const attributes = { class: alignment(column), "data-column": column.id, title: text.length > 40 ? text : null };
  const first = settings && column === displayColumns()[0];
  return make(first ? "th" : "td", attributes, first ? runButton(record, short(text)) : short(text));
}

/** A button that opens all that is known of a run. */
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
    "aria-label": `Pick ${labelOf(record, kind === "setting" ? undefined : [])}`,
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
