// Texts and elements. Whatever comes from a record reaches the page as text, through `make`, or a plot through `safe`.

/** An element: `make("a", {href: "#x", onclick: f}, "text", child, ...)`; null children are left out. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

function byId(id) {
  return document.getElementById(id);
}

/** Text for plotly, which takes some tags in labels for formatting and for links. */
function safe(text) {
  return String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

/** At most `length` characters, the middle left out. */
function short(text, length = 40) {
  const string = String(text);
  if (string.length <= length) return string;
  const kept = Math.floor((length - 1) / 2);
  return `${string.slice(0, length - 1 - kept)}…${string.slice(string.length - kept)}`;
}

/** Texts of values, each cut to `length` where the others do not become the same: a Map by value. */
function distinct(values, length, text = String) {
  const cut = values.map((value) => short(text(value), length));
  const seen = Map.groupBy(cut, (one) => one);
  return new Map(values.map((value, index) => [value, seen.get(cut[index]).length > 1 ? text(value) : cut[index]]));
}

function plural(count, word, many = `${word}s`) {
  return `${count.toLocaleString("en")} ${count === 1 ? word : many}`;
}

/** A number with `digits` after the point, or with four that count; "–" where there is none. */
function number(value, digits) {
  if (value === null || value === undefined) return "–";
  const limits =
    digits === undefined
      ? { maximumSignificantDigits: 4 }
      : { minimumFractionDigits: digits, maximumFractionDigits: digits };
  return value
    .toLocaleString("en", limits)
    .replace("-", "−")
    .replace(/^−(?=[0.]*$)/, "");
}

/** "95.4 ± 0.6"; the mean alone where there is no interval or nothing varies. No `digits`: two of the interval. */
function withInterval({ mean, half }, digits) {
  if (half === null || half <= NO_SPREAD * Math.abs(mean)) return number(mean, digits);
  const kept = digits ?? Math.min(12, Math.max(0, 1 - Math.floor(Math.log10(half))));
  return `${number(mean, kept)} ± ${number(half, kept)}`;
}

/** The least and the largest of some numbers; any number of them. */
function extent(values) {
  return values.reduce(
    ([low, high], value) => [value < low ? value : low, value > high ? value : high],
    [Infinity, -Infinity],
  );
}

/** Options of a <select>, keeping what is chosen where it is still there; returns the value that is then chosen. */
function fillSelect(select, options, chosen) {
  const known = options.map(([value, text]) => `${value}\n${text}`).join("\n\n");
  if (select.dataset.options !== known) {
    select.replaceChildren(...options.map(([value, text]) => make("option", { value }, text)));
    select.dataset.options = known;
  }
  const value = options.some((option) => option[0] === chosen) ? chosen : (options[0] ?? [""])[0];
  select.value = value;
  return value;
}
