// The live page: it asks its server what is new every few seconds and keeps what the reader has chosen.

const EVERY_MS = 3000;
let busy = false; // a pointer is down: nothing may move under it

async function lookAgain() {
  if (!document.hidden && !busy) await takeNews();
  setTimeout(lookAgain, EVERY_MS);
}

async function takeNews() {
  const { epoch = "", version = 0 } = data.about;
  try {
    const answer = await fetch(`data?epoch=${encodeURIComponent(epoch)}&since=${version}`);
    const news = await answer.json();
    const changed = news.version !== version || news.epoch !== epoch || news.reading !== data.about.reading;
    readDocument(news);
    if (changed) {
      forgetCurves(news);
      refresh();
    }
    const time = `${new Date().toISOString().slice(11, 19)} UTC`;
    showLive(news.trouble ? `Not refreshed: ${news.trouble}` : `live, ${time}`, Boolean(news.trouble));
  } catch {
    showLive("The dashboard has ended; this page keeps what it shows.", true);
  }
}

function showLive(text, wrong) {
  byId("live").textContent = text;
  byId("live").classList.toggle("bad", wrong);
}

/** A run that was run again has other curves. */
function forgetCurves(news) {
  for (const [path] of news.rows ?? []) {
    delete curves.runs[path];
    curves.asked.delete(path);
  }
}

async function askForCurves(path) {
  if (curves.asked.has(path)) return;
  curves.asked.add(path);
  try {
    const answer = await fetch(`curves?run=${encodeURIComponent(path)}`);
    const stages = await answer.json();
    curves.runs[path] = Object.fromEntries(
      Object.entries(stages).map(([stage, curve]) => [stage, curves.series.push(curve) - 1]),
    );
    drawCurvesSoon();
  } catch {
    curves.asked.delete(path);
  }
}

let waiting = 0;

function drawCurvesSoon() {
  clearTimeout(waiting);
  waiting = setTimeout(() => {
    for (const id of ["plot-training", "plot-scales"]) {
      figures.get(id).stale = true;
      drawIfSeen(id, figures.get(id));
    }
  }, 50);
}

function startLive() {
  if (!data.about.live) return;
  for (const [event, down] of [
    ["pointerdown", true],
    ["pointerup", false],
    ["pointercancel", false],
  ])
    addEventListener(event, () => (busy = down), true);
  lookAgain();
}
