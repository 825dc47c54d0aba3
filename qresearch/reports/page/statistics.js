// Intervals and tests as qresearch/reports/statistics.py has them; a test holds the two against each other.
// With whole degrees of freedom the share of Student's t within ±t is a finite sum (Abramowitz & Stegun, 26.7.3
// and 26.7.4), so no library is needed.

const CONFIDENCE = 0.95;
const NORMAL = 1.959963984540054; // the normal quantile of CONFIDENCE, for Wilson's interval
const NO_SPREAD = 1e-9;

/** The probability that |T| <= t with `n` degrees of freedom. */
function studentWithin(t, n) {
  const angle = Math.atan(t / Math.sqrt(n));
  const cosine = Math.cos(angle);
  let term = n % 2 ? cosine : 1;
  let sum = n === 1 ? 0 : term;
  for (let k = n % 2 ? 3 : 2; k <= n - 2; k += 2) {
    term *= ((k - 1) / k) * cosine * cosine;
    sum += term;
  }
  return n % 2 ? (2 / Math.PI) * (angle + Math.sin(angle) * sum) : Math.sin(angle) * sum;
}

const quantiles = new Map();

/** t with studentWithin(t, n) = CONFIDENCE. */
function studentQuantile(n) {
  if (!quantiles.has(n)) {
    let low = 0;
    let high = 16; // 12.7 for one degree of freedom
    for (let step = 0; step < 60; step++) {
      const middle = (low + high) / 2;
      if (studentWithin(middle, n) < CONFIDENCE) low = middle;
      else high = middle;
    }
    quantiles.set(n, (low + high) / 2);
  }
  return quantiles.get(n);
}

/** {mean, half, n}; half is null for one value, and there is no mean (null) of no values. */
function meanInterval(values) {
  const n = values.length;
  if (n === 0) return { mean: null, half: null, n };
  const mean = values.reduce((sum, value) => sum + value, 0) / n;
  if (n === 1) return { mean, half: null, n };
  const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (n - 1);
  return { mean, half: studentQuantile(n - 1) * Math.sqrt(variance / n), n };
}

/** How much better a is than b, pair by pair: {mean, half, n, p, words}. */
function pairedDifference(a, b, { unit = "points", higherIsBetter = true, digits = 1 } = {}) {
  const differences = a.map((value, index) => value - b[index]);
  const found = meanInterval(differences);
  const spread = Math.max(...differences) - Math.min(...differences);
  const largest = Math.max(...a.map(Math.abs), ...b.map(Math.abs));
  let p = null;
  if (found.n > 1 && spread > NO_SPREAD * largest) {
    const quantile = studentQuantile(found.n - 1);
    p = 1 - studentWithin((Math.abs(found.mean) / found.half) * quantile, found.n - 1);
  }
  const better = higherIsBetter ? found.mean : -found.mean;
  const half = p === null || found.half === null ? "" : ` ± ${found.half.toFixed(digits)}`;
  const amount = `${Math.abs(better).toFixed(digits)}${half} ${unit}`;
  return { ...found, p, words: differenceInWords(better, amount, p, found.n) };
}

function differenceInWords(better, amount, p, n) {
  const pairs = `${n} pair${n > 1 ? "s" : ""}`;
  const side = better > 0 ? "better" : "worse";
  if (p === null && better === 0) return `no difference (${pairs})`;
  if (p === null)
    return n === 1 ? `${side} by ${amount} (${pairs}: no test)` : `${side} by ${amount} in each of ${pairs}: no test`;
  const test = `(p ${probability(p)}, ${pairs})`;
  return p < 1 - CONFIDENCE ? `${side} by ${amount} ${test}` : `not significant ${test}`;
}

function probability(p) {
  return p < 0.001 ? "< 0.001" : `= ${Number(p.toPrecision(2))}`;
}

/** Wilson's interval in percent for a top-1 accuracy in percent, found on `images` images. */
function accuracyInterval(top1, images) {
  const share = Math.round((top1 / 100) * images) / images;
  const square = NORMAL ** 2 / images;
  const middle = (share + square / 2) / (1 + square);
  const half = (NORMAL / (1 + square)) * Math.sqrt((share * (1 - share)) / images + square / (4 * images));
  return [100 * (middle - half), 100 * (middle + half)];
}
