// Settings: the records that differ in their seed alone. Means and intervals are over their seeds.

/** {key, records, runs, label}: all records of a setting, and of each seed the run that counts: the last finished. */
function settingsOf(records) {
  const counted = [...data.head.keys.keys()].filter(
    (key) => data.head.keys[key] !== "seed" && counts(data.head.keys[key]),
  );
  const found = new Map();
  for (const record of records) {
    if (record.status === "failed") continue;
    const key = counted.map((index) => codeOf(record, index)).join(" ");
    if (!found.has(key)) found.set(key, { key, records: [] });
    found.get(key).records.push(record);
  }
  const settings = [...found.values()];
  for (const setting of settings) completeSetting(setting);
  return settings;
}

function completeSetting(setting) {
  const latest = new Map();
  for (const record of setting.records) {
    const seed = String(seedOf(record));
    const before = latest.get(seed);
    if (!before || rankOf(record) > rankOf(before)) latest.set(seed, record);
  }
  setting.seeds = latest;
  setting.runs = [...latest.values()].filter((record) => record.status === "finished");
  setting.diverged = latest.size - setting.runs.length;
  setting.first = setting.runs[0] ?? setting.records[0];
  setting.intervals = new Map();
}

function rankOf(record) {
  return (record.status === "finished" ? "1" : "0") + (record.finished ?? "");
}

/** The mean of a metric over the finished seeds, in the column's unit: {mean, half, n}. */
function intervalOf(setting, column) {
  if (!setting.intervals.has(column.id)) {
    const values = setting.runs.map((record) => column.value(record)).filter((value) => value !== undefined);
    setting.intervals.set(column.id, meanInterval(values));
  }
  return setting.intervals.get(column.id);
}

/** How far a mean may be off, up and down, and by which rule: over seeds, or over test images for a single run. */
function spreadOf(setting, column) {
  const { mean, half, n } = intervalOf(setting, column);
  if (half !== null) return { up: half, down: half, rule: "seeds" };
  const images = n === 1 && column.name === "top1" ? metric(setting.runs[0], "test_images") : null;
  if (!images) return { up: 0, down: 0, rule: null };
  const [low, high] = accuracyInterval(mean, images);
  return { up: high - mean, down: mean - low, rule: "images" };
}

/** "3 seeds", "2 of 3 seeds, 1 diverged". */
function seedsInWords(setting) {
  const all = setting.seeds.size;
  return setting.diverged
    ? `${setting.runs.length} of ${plural(all, "seed")}, ${setting.diverged} diverged`
    : plural(all, "seed");
}
