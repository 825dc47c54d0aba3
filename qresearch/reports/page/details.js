// All that is known of one run, in a dialog.

function showDetails(record) {
  const facts = {
    folder: runName(record),
    status: record.status,
    finished: timeInWords(record.finished),
    "config hash": record.hash ?? "–",
    "program group": record.group ?? "–",
    overrides: (record.overrides ?? []).join(" ") || "–",
  };
  const own = new Map(data.head.keys.map((name, key) => [name, configValue(record, key)]));
  const metrics = new Map(data.head.metrics.map((name) => [name, metric(record, name) ?? undefined]));
  byId("details-body").replaceChildren(
    make("h2", { id: "details-title" }, fullLabel(record, { seed: true })),
    record.message ? make("pre", { class: "message" }, record.message) : "",
    factTable("Run", Object.entries(facts)),
    factTable("Metrics", metrics),
    factTable("Configuration in which runs differ", own),
    folded("Configuration that all runs share", Object.entries(data.head.constant)),
    folded("Where it ran", machineFacts(record)),
  );
  byId("details").showModal();
}

/** What is known of the machine, its versions one by one. */
function machineFacts(record) {
  const { versions, ...machine } = data.head.machines[record.machine] ?? {};
  return Object.entries({ ...machine, ...versions });
}

function plainValue(value) {
  return typeof value === "string" ? value : JSON.stringify(value);
}

/** Pairs of a name and a value; without those that have none. */
function factTable(title, facts) {
  const able = [...facts].filter(([, value]) => value !== undefined);
  const row = ([name, value]) => [make("th", { scope: "row" }, name), make("td", {}, plainValue(value))];
  const rows = able.map((fact) => make("tr", {}, ...row(fact)));
  return make("section", {}, make("h3", {}, title), make("table", { class: "facts" }, make("tbody", {}, ...rows)));
}

function folded(title, facts) {
  const table = factTable(title, facts);
  table.firstChild.remove();
  return make("details", {}, make("summary", {}, title), table);
}

function startDetails() {
  const dialog = byId("details");
  byId("details-close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close(); // outside its contents
  });
}
