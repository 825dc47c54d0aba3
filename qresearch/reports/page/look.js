// One look for all plots, in both themes.

const DASHES = ["solid", "dash", "dot", "dashdot", "longdash", "longdashdot"];
const MARKERS = ["circle", "square", "diamond", "triangle-up", "x", "triangle-down", "star", "pentagon"];
const SCALE = "Cividis"; // reads the same with any colour vision

function baseLayout() {
  const axis = {
    gridcolor: colour("--line"),
    linecolor: colour("--line"),
    zerolinecolor: colour("--line"),
    automargin: true,
  };
  return {
    font: { family: "system-ui, sans-serif", size: 13, color: colour("--text") },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    margin: { l: 55, r: 15, t: 15, b: 45 },
    xaxis: axis,
    yaxis: axis,
    legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", traceorder: "normal", font: { size: 12 } },
    hoverlabel: {
      align: "left",
      bgcolor: colour("--panel"),
      bordercolor: colour("--line"),
      font: { color: colour("--text") },
    },
    modebar: { color: colour("--quiet"), activecolor: colour("--text"), bgcolor: "rgba(0,0,0,0)" },
    hovermode: "closest",
    // A reader's zoom outlives a refresh of the data, not another choice of what is drawn.
    uirevision: JSON.stringify([state.choices, state.picks, view.sweep]),
  };
}

/** `over` laid on `base`, objects key by key. */
function merged(base, over) {
  const found = { ...base };
  for (const [key, value] of Object.entries(over)) {
    const both =
      value && found[key] && typeof value === "object" && typeof found[key] === "object" && !Array.isArray(value);
    found[key] = both ? merged(found[key], value) : value;
  }
  return found;
}

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function isDark() {
  const { theme } = document.documentElement.dataset;
  return theme ? theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

/** Okabe and Ito's colours; on a dark page their light blue goes first, as the dark one is hard to see there. */
function palette() {
  const colours = data.head.colours;
  return isDark() ? [colours[5], ...colours.slice(1, 5), colours[0]] : colours;
}

/** An axis with a name. */
function named(text, over = {}) {
  return { title: { text: safe(text), font: { size: 13 }, standoff: 10 }, ...over };
}

/** The look of the line with a number; its colour, its marker and its dash each tell it from others. */
function lineStyle(index) {
  const colours = palette();
  return {
    color: colours[index % colours.length],
    symbol: MARKERS[index % MARKERS.length],
    dash: DASHES[index % DASHES.length],
  };
}

/** A colour with some opacity, for bands. */
function faint(hex, opacity) {
  const [red, green, blue] = [1, 3, 5].map((start) => parseInt(hex.slice(start, start + 2), 16));
  return `rgba(${red}, ${green}, ${blue}, ${opacity})`;
}

/** What stands under the pointer: lines of text. */
function hover(...lines) {
  return safe(lines.join("\n")).replaceAll("\n", "<br>");
}

/** Error bars, up and down; 0 where there is none. */
function errorBars(up, down, color, width = 4) {
  return { type: "data", array: up, arrayminus: down, color, thickness: 1.5, width };
}

/** The half widths of intervals, 0 where there is none. */
function halves(intervals, factor = 1) {
  return intervals.map(({ half }) => factor * (half ?? 0));
}

/** An axis with a layer at each whole number, the first on top. */
function layerAxis(layers) {
  const texts = distinct(layers, narrow() ? 14 : 26);
  return {
    tickmode: "array",
    tickvals: layers.map((_, layer) => layer),
    ticktext: layers.map((name) => safe(texts.get(name))),
    range: [layers.length - 0.5, -0.5],
    showgrid: false,
    zeroline: false,
  };
}
