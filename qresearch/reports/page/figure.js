// Plots, drawn when they come into sight. Their buttons stand in a strip above them (parts.css).

// Without `showSendToCloud: false` this plotly offers to upload the chart.
const CONFIG = {
  responsive: true,
  displaylogo: false,
  showSendToCloud: false,
  plotlyServerURL: "",
  displayModeBar: "hover",
  modeBarButtonsToRemove: ["lasso2d", "select2d", "zoomIn2d", "zoomOut2d", "autoScale2d"],
};
const NARROW = "(max-width: 599.9px)";
const figures = new Map(); // id of the element: {draw, stale, seen, fresh}; fresh: it shows the next change already

/** Say how an element's plot is drawn; it is drawn after each change while it is in sight, else when it comes there. */
function figure(id, draw) {
  const drawn = { draw, stale: true, seen: false, fresh: false };
  figures.set(id, drawn);
  const observer = new IntersectionObserver(
    (entries) => {
      drawn.seen = entries.at(-1).isIntersecting;
      drawIfSeen(id, drawn);
    },
    { rootMargin: "300px" },
  );
  observer.observe(byId(id));
}

function drawFigures() {
  for (const [id, drawn] of figures) {
    drawn.stale = !drawn.fresh;
    drawn.fresh = false;
    drawIfSeen(id, drawn);
  }
}

function drawIfSeen(id, drawn) {
  if (!drawn.seen || !drawn.stale) return;
  drawn.stale = false;
  drawn.draw(byId(id));
}

/** Draw traces; without any, say why in words. */
function plot(element, traces, layout = {}, why = "Nothing to draw here.") {
  if (traces.length === 0) {
    if (element.dataset.drawn) Plotly.purge(element);
    delete element.dataset.drawn;
    delete element.dataset.listening;
    delete element.dataset.legend;
    element.style.height = "";
    element.replaceChildren(make("p", { class: "empty" }, why));
    return;
  }
  if (!element.dataset.drawn) element.replaceChildren();
  element.dataset.drawn = "yes";
  element.style.height = `${layout.height}px`; // plotly keeps it when the window changes
  Plotly.react(element, traces, merged(baseLayout(), layout), CONFIG);
  titleLegend(element);
  if (!element.dataset.legend) element.on("plotly_afterplot", () => titleLegend(element));
  element.dataset.legend = "yes";
}

/** The value of a select with these options, which the reader's choices remember; a change draws the page anew. */
function choice(id, options, fallback) {
  const select = byId(id);
  const kept = options.some(([value]) => value === state.choices[id]);
  const value = fillSelect(select, options, kept ? state.choices[id] : fallback);
  select.onchange ??= () => change({ choices: { ...state.choices, [id]: select.value } });
  return value;
}

/** The column that a select of columns stands at. */
function chosenColumn(id, able, fallback) {
  const options = able.map((column) => [column.id, column.label]);
  return columns.get(choice(id, options, fallback));
}

function narrow() {
  return matchMedia(NARROW).matches;
}
