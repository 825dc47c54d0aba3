// The start of the page.

function drawAll() {
  drawHeader();
  drawProblems();
  drawFilters();
  drawTable();
  drawCompare();
  drawFigures();
  markScrolls();
}

function startTheme() {
  const root = document.documentElement;
  const button = byId("theme");
  const show = () => {
    button.textContent = isDark() ? "Light" : "Dark";
    button.setAttribute("aria-label", `Switch to ${isDark() ? "light" : "dark"} colours`);
    drawFigures();
  };
  try {
    root.dataset.theme = localStorage.getItem("qresearch theme") ?? "";
  } catch {
    // no storage: the system's colours
  }
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try {
      localStorage.setItem("qresearch theme", root.dataset.theme);
    } catch {
      // it holds for this page alone
    }
    show();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
  show();
}

function start() {
  readDocument(JSON.parse(byId("data").textContent));
  Object.assign(curves, JSON.parse(byId("curves").textContent));
  restoreState();
  figure("plot-accuracy", drawAccuracy);
  for (const kind of Object.keys(COSTS)) figure(`plot-${kind}`, (element) => drawCost(element, kind));
  figure("plot-parallel", drawParallel);
  figure("plot-heat", drawHeat);
  figure("plot-split", drawSplit);
  figure("plot-training", drawTraining);
  figure("plot-scales", drawScales);
  figure("plot-pairs", drawPairs);
  figure("plot-difference", drawDifference);
  startFilters();
  startTable();
  startDetails();
  startScrolls();
  refresh();
  startTheme();
  startLive();
}

start();
