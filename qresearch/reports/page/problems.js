// What went wrong: runs that failed or diverged, and records that cannot be read.

const FEW = 4; // so many are open from the start
const NAMED = 20; // messages, and runs of one message

/** Runs that failed or diverged by their messages, and records that cannot be read. */
function drawProblems() {
  const wrong = view.records.filter((record) => record.status !== "finished");
  const bad = data.about.bad ?? [];
  const count = wrong.length + bad.length;
  byId("problems").hidden = count === 0;
  byId("problem-count").textContent = `${plural(count, "record")} ended badly or cannot be read`;
  const list = byId("problem-list");
  const known = JSON.stringify([wrong.map((record) => [record.path, record.message]), bad]);
  if (list.dataset.known === known) return;
  if (count && !list.dataset.seen) byId("problem-box").open = count <= FEW;
  if (count) list.dataset.seen = "yes"; // open or not is the reader's from now on
  list.dataset.known = known;
  const groups = Map.groupBy(wrong, (record) => `${record.status}\n${record.message}`);
  const message = (text) => make("pre", { class: "message" }, text);
  const files = bad.slice(0, NAMED).map((text) => make("li", {}, make("strong", {}, "not read"), message(text)));
  list.replaceChildren(...[...groups.values()].slice(0, NAMED).map(problemItem), ...files);
}

/** One message, and the runs that ended with it. */
function problemItem(records) {
  const [first] = records;
  const names = records.slice(0, NAMED).map((record) => make("li", {}, runButton(record, problemName(record))));
  const more =
    records.length > NAMED ? make("li", {}, `and ${records.length - NAMED} more; the table filters by status`) : null;
  const status = records.length === 1 ? first.status : `${records.length.toLocaleString("en")} ${first.status}`;
  return make(
    "li",
    {},
    make("strong", {}, status),
    make("pre", { class: "message" }, lastLines(first.message ?? "")),
    make("ul", { class: "names" }, ...names, more),
  );
}

function problemName(record) {
  return (record.overrides ?? []).join(" ") || fullLabel(record, { seed: true });
}

/** The end of a message: of a traceback, what was raised. */
function lastLines(message, count = 6) {
  const lines = message.trimEnd().split("\n");
  return lines.length > count ? ["…", ...lines.slice(-count)].join("\n") : lines.join("\n");
}
