// SQNR of layer x setting as a heat map.

const CELLS = 60;
const WRITTEN = 16; // settings, up to which the numbers are written into the map

function drawHeat(element) {
  const tensor = choice("heat-tensor", plurals(TENSORS), "weight");
  const { layers, settings, note } = heatSettings();
  const cells = settings.map((setting) => meanByLayer(setting.runs, (record) => sqnrOf(record, tensor)));
  const empty = cells.every((cell) => cell.every(({ mean }) => mean === null));
  byId("note-heat").textContent = empty ? "" : note;
  if (empty) return plot(element, [], {}, "No run that is shown has quantized layers.");
  const z = layers.map((_, layer) => cells.map((cell) => cell[layer].mean));
  const written = settings.length <= WRITTEN && !narrow();
  const trace = {
    type: "heatmap",
    z,
    text: written ? z.map((row) => row.map((value) => number(value, 1))) : undefined,
    texttemplate: written ? "%{text}" : undefined,
    customdata: layers.map((name, layer) => settings.map((setting, at) => heatHover(name, setting, cells[at][layer]))),
    hovertemplate: "%{customdata}<extra></extra>",
    colorscale: SCALE,
    xgap: 1,
    ygap: 1,
    colorbar: { title: { text: "dB", font: { size: 13 } }, thickness: 12, outlinewidth: 0 },
  };
  const row = Math.min(30, Math.max(18, 300 / layers.length));
  element.style.minWidth = `${Math.min(1100, 220 + settings.length * 26)}px`;
  const { axis, high } = settingAxis(settings);
  const height = Math.max(260, row * layers.length + high + 50);
  plot(element, [trace], { xaxis: axis, yaxis: layerAxis(layers), height });
}

/** The settings of the table with the layers of one network, at most `CELLS`, in the order of their configurations. */
function heatSettings() {
  const rows = view.mode === "settings" ? view.rows : view.settings;
  const quantized = rows.filter((setting) => setting.runs.some((record) => layersOf(record).length));
  const networks = [...new Set(quantized.map((setting) => setting.first.network))];
  const options = [...distinct(networks, 60, networkLabel)].map(([index, text]) => [String(index), text]);
  const chosen = Number(choice("heat-network", options, options[0]?.[0]));
  byId("heat-network").closest("label").hidden = networks.length < 2;
  const able = quantized.filter((setting) => setting.first.network === chosen);
  const settings = able.slice(0, CELLS).sort((a, b) => compareSettings(a, b, displayColumns()));
  const parts = ["Mean over seeds; the interval is under the pointer."];
  const all = plural(able.length, "setting");
  if (settings.length < able.length) parts.push(`${CELLS} of ${all}: the first of the table, so its sorting chooses.`);
  return { settings, layers: data.head.networks[chosen] ?? [], note: parts.join(" ") };
}

function networkLabel(index) {
  const layers = data.head.networks[index] ?? [];
  return `${plural(layers.length, "layer")}: ${layers.join(", ")}`;
}

/** The axis with the labels of settings, none of them cut, and how high they are, about, in px. */
function settingAxis(settings) {
  const many = settings.length > 30;
  const labels = settings.map((setting) => labelOf(setting.first));
  const longest = extent(labels.map((label) => label.length))[1];
  const texts = labels.map((label) => wrapped(label, many ? longest : Math.max(24, longest / 2 + 12)));
  const widest = extent(texts.flatMap((text) => text.split("<br>").map((line) => line.length)))[1];
  const [angle, size] = [many ? -90 : settings.length > 4 ? -60 : 0, many ? 9 : 12];
  const axis = {
    tickmode: "array",
    tickvals: settings.map((_, index) => index),
    ticktext: texts,
    tickangle: angle,
    tickfont: { size },
    showgrid: false,
  };
  return { axis, high: 40 + 0.6 * size * widest * Math.sin((-angle * Math.PI) / 180) };
}

function heatHover(layer, setting, interval) {
  return hover(layer, fullLabel(setting.first), `${withInterval(interval, 1)} dB, ${seedsInWords(setting)}`);
}

/** For every layer the interval, over the runs, of what `numbersOf` gives for it. */
function meanByLayer(runs, numbersOf) {
  const lists = runs.map(numbersOf);
  const layers = lists[0]?.length ?? 0;
  const values = (layer) => lists.map((list) => list[layer]).filter((value) => typeof value === "number");
  return Array.from({ length: layers }, (_, layer) => meanInterval(values(layer)));
}

/** Options that show "weights" for "weight". */
function plurals(names) {
  return names.map((name) => [name, `${name}s`]);
}
