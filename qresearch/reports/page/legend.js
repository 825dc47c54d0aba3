// Legends: no label in them is cut, so they may be several lines high, and the whole of each stands under the pointer.

const LETTER = 6.4; // px of a character of 12 px, on average
const SYMBOL = 46; // px before a label

function legendWidth() {
  return narrow() ? 42 : 60;
}

function legendText(label) {
  return wrapped(label, legendWidth());
}

/** How high plotly makes the legend of some lines, {label}, about, in px. */
function legendHeight(element, lines) {
  const texts = lines.map(({ label }) => legendText(label).split("<br>"));
  const widest = extent(texts.flat().map((text) => text.length))[1];
  const each = Math.max(1, Math.floor((element.clientWidth - 70) / (LETTER * widest + SYMBOL)));
  const high = extent(texts.map((text) => text.length))[1];
  return Math.ceil((lines.length + 1) / each) * (4 + 16 * high);
}

/** What stands under the pointer over a legend: `meta` of the traces. */
function titleLegend(element) {
  for (const item of element.querySelectorAll(".legend .traces")) {
    const trace = item.__data__?.[0]?.trace;
    const place = item.querySelector(".legendtoggle");
    if (!place || !trace?.meta) continue;
    const title = document.createElementNS("http://www.w3.org/2000/svg", "title");
    title.textContent = trace.meta;
    place.replaceChildren(title);
  }
}
