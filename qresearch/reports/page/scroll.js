// What scrolls sideways says so: a shadow at the edge behind which there is more, and words.

/** Note at which edges of each such part of the page there is more. */
function markScrolls() {
  for (const box of document.querySelectorAll(".scroll")) markScroll(box);
}

function markScroll(box) {
  const rest = box.scrollWidth - box.clientWidth;
  const edges = [box.scrollLeft > 1 ? "left" : "", rest - box.scrollLeft > 1 ? "right" : ""].filter(Boolean);
  box.dataset.more = edges.join(" ");
  if (!box.nextElementSibling?.classList.contains("sideways")) {
    box.after(make("p", { class: "sideways", "aria-hidden": "true" }, "scroll sideways for more →"));
  }
  box.nextElementSibling.hidden = rest <= 1;
  box.nextElementSibling.classList.toggle("seen", !edges.includes("right"));
}

function startScrolls() {
  const marked = (event) => event.target.classList?.contains("scroll") && markScroll(event.target);
  document.addEventListener("scroll", marked, { capture: true, passive: true });
  addEventListener("resize", markScrolls);
  matchMedia(NARROW).addEventListener("change", refresh); // tables and plots are others there
}
