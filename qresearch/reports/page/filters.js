// Filters: set by brushing the parallel coordinates or by the form, shown as chips, holding for the whole page.

const TICKS = 40; // values of a column to tick

function setFilter(id, filter) {
  const filters = { ...state.filters };
  if (filter) filters[id] = filter;
  else delete filters[id];
  change({ filters, page: 0 });
}

/** Which sweep is shown, of how many runs in all, and the choice of another. */
function drawSweeps() {
  const names = distinct(
    view.sweeps.map(([name]) => name),
    50,
  );
  const label = (name) => (name === "." ? "single runs" : names.get(name));
  const all = ["*", `all ${view.sweeps.length} sweeps (${plural(data.records.size, "run")})`];
  const options = view.sweeps.map(([name, runs]) => [name, `${label(name)} (${plural(runs, "run")})`]);
  fillSelect(byId("sweep"), [all, ...options], view.sweep);
  byId("scope").hidden = view.sweeps.length < 2;
  byId("all-sweeps").hidden = view.sweep === "*";
  byId("all-sweeps").textContent = `Show all ${view.sweeps.length} sweeps`;
  const count = data.records.size.toLocaleString("en");
  const last = view.sweep === view.sweeps[0]?.[0];
  const newest = !last ? "" : view.sweep === "." ? ", the newest" : `, the newest of ${view.sweeps.length} sweeps`;
  const name = view.sweep === "." ? "single runs" : view.sweep;
  byId("scope-text").textContent =
    view.sweep === "*"
      ? `all ${view.sweeps.length} sweeps: ${plural(data.records.size, "run")}`
      : `${name}: ${view.records.length.toLocaleString("en")} of ${count} runs${newest}`;
}

function drawFilters() {
  drawSweeps();
  byId("shown").textContent =
    `${view.shown.length.toLocaleString("en")} of ${plural(view.records.length, "run")} shown`;
  const active = Object.entries(state.filters).filter(([id]) => columns.has(id));
  const chips = active.map(([id, filter]) => make("li", {}, chip(columns.get(id), filter)));
  byId("chips").replaceChildren(...chips);
  byId("clear").hidden = active.length === 0 && !state.search;
  byId("bar").classList.toggle("active", !byId("clear").hidden);
  byId("usual").textContent = naming.left ? `Names leave out what most settings have: ${naming.left}.` : "";
  byId("biased").hidden = !active.some(([id]) => columns.get(id).kind === "metric");
  if (document.activeElement !== byId("search")) byId("search").value = state.search;
  drawForm();
}

/** A button that shows a filter and takes it away. */
function chip(column, filter) {
  const text = `${column.label} ${filterInWords(column, filter)}`;
  const remove = () => setFilter(column.id, null);
  const words = { "aria-label": `Remove the filter ${text}`, title: text };
  const attributes = { type: "button", class: "chip", ...words, onclick: remove };
  return make("button", attributes, `${short(text, 60)} ✕`);
}

function filterInWords(column, filter) {
  if (filter.values) return filter.values.map((value) => column.text(value)).join(" or ") || "nothing";
  return filter.ranges.map(rangeAsText).join(" or ");
}

function rangeAsText([low, high]) {
  if (low === null) return `≤ ${number(high)}`;
  return high === null ? `≥ ${number(low)}` : `${number(low)} to ${number(high)}`;
}

/** The form: a column, then its values to tick or its limits to give. */
function drawForm() {
  const told = (column) => column.kind === "metric" || column.shown || column.id === "status";
  const column = chosenColumn("filter-column", [...columns.values()].filter(told));
  const fields = byId("filter-fields");
  const known = JSON.stringify([column?.id, column?.ordinal, state.filters[column?.id]]);
  if (!column || fields.dataset.known === known) return;
  fields.dataset.known = known;
  keepingFocus(() => fields.replaceChildren(...(column.ordinal ? valueFields(column) : limitFields(column))));
}

function valueFields(column) {
  const kept = state.filters[column.id]?.values;
  const texts = distinct(column.ordinal, 40, column.text);
  const field = (value, index) => {
    const box = make("input", { type: "checkbox", "data-focus": `value ${index}`, onchange: tick });
    box.checked = !kept || kept.some((other) => sameValue(other, value));
    return make("label", {}, box, ` ${texts.get(value)}`);
  };
  const tick = () => {
    const boxes = [...byId("filter-fields").querySelectorAll("input")];
    const values = column.ordinal.filter((_, index) => !boxes[index] || boxes[index].checked);
    setFilter(column.id, values.length === column.ordinal.length ? null : { values });
  };
  const more = column.ordinal.length - TICKS;
  const note = more > 0 ? [make("span", { class: "quiet" }, `and ${more} more: the search finds them`)] : [];
  return [...column.ordinal.slice(0, TICKS).map(field), ...note];
}

function limitFields(column) {
  const [low, high] = state.filters[column.id]?.ranges?.[0] ?? [null, null];
  const from = make("input", { type: "number", step: "any", value: low ?? "" });
  const to = make("input", { type: "number", step: "any", value: high ?? "" });
  const apply = () => {
    const range = [from, to].map((field) => (field.value === "" ? null : Number(field.value)));
    setFilter(column.id, range.every((limit) => limit === null) ? null : { ranges: [range] });
  };
  return [
    make("label", {}, "from ", from),
    make("label", {}, "to ", to),
    make("button", { type: "button", onclick: apply }, "Filter"),
  ];
}

function startFilters() {
  byId("sweep").addEventListener("change", (event) => change({ sweep: event.target.value, page: 0 }));
  byId("all-sweeps").addEventListener("click", () => change({ sweep: "*", page: 0 }));
  byId("clear").addEventListener("click", () => change({ filters: {}, search: "", page: 0 }));
  byId("search").addEventListener("input", (event) => change({ search: event.target.value, page: 0 }));
}
