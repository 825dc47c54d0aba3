// Picks: the rows of the table that are compared and whose layers and curves are drawn. The first two are A and B.

const PICKS = 6;

/** The picks as {letter, kind, setting, runs, label, record}; two of the page's own choice where there is none. */
function resolvePicks() {
  const found = state.picks.map(resolvePick).filter((pick) => pick !== null);
  view.chosen = found.length > 0;
  const picks = view.chosen ? found : defaultPicks();
  return picks.map((pick, index) => ({ ...pick, letter: "ABCDEF"[index] }));
}

function resolvePick({ kind, path }) {
  const record = data.records.get(path);
  const setting = view.bySetting.get(path);
  if (!record || !setting) return null;
  const pick = { kind, path, setting };
  if (kind === "setting") return { ...pick, runs: setting.runs, label: labelOf(record), full: fullLabel(record) };
  const runs = record.status === "finished" ? [record] : [];
  return { ...pick, runs, label: runLabel(record), full: fullLabel(record, { seed: true }) };
}

/** Two settings that differ in the method alone (the first key of words) and are furthest apart; else the first two. */
function defaultPicks() {
  const settings = view.every.filter((setting) => setting.runs.length);
  const told = keyColumns().find((column) => column.ordinal && !column.numeric) ?? keyColumns()[0];
  const top1 = columns.get("metric:top1");
  let best = settings.slice(0, 2);
  let largest = -1;
  const others = keyColumns().filter((column) => column !== told);
  for (const [first, ...rest] of told && top1 ? linesBy(settings, others).values() : []) {
    for (const other of rest) {
      const apart = Math.abs((intervalOf(other, top1).mean ?? 0) - (intervalOf(first, top1).mean ?? 0));
      if (apart > largest) [best, largest] = [[first, other], apart];
    }
  }
  return best.map((setting) => resolvePick({ kind: "setting", path: setting.first.path }));
}

/** Whether a pick is of a row of the table: the run itself, or the setting that it stands for. */
function samePick(pick, kind, path) {
  if (pick.kind !== kind) return false;
  return kind === "run" ? pick.path === path : view.bySetting.get(pick.path) === view.bySetting.get(path);
}

function togglePick(kind, path) {
  const left = state.picks.filter((pick) => !samePick(pick, kind, path));
  change({ picks: left.length < state.picks.length ? left : [...state.picks, { kind, path }].slice(-PICKS) });
}

/** The reader's pick of a row of the table, if there is one. */
function pickOf(kind, path) {
  return view.chosen ? view.picks.find((pick) => samePick(pick, kind, path)) : undefined;
}
