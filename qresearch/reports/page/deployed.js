// What `qresearch deploy` measures and adds to a record's metrics, by runtime.

const RUNTIMES = { onnx: "ONNX Runtime", litert: "LiteRT", jax: "JAX" };

/** The metrics of a runtime, as metrics.js describes them. */
function runtimeMetrics([runtime, name]) {
  const images = "test images that the network of integers puts into";
  return {
    [`${runtime}_latency_ms`]: {
      label: `${name} latency ms`,
      better: false,
      says: `latency of the network of integers in ${name} in milliseconds, batch 1, the median of the calls`,
    },
    [`${runtime}_latency_ratio`]: {
      label: `${name} time / float`,
      digits: 3,
      better: false,
      says: `that latency over the one of the float network in ${name}`,
    },
    [`${runtime}_top1`]: {
      label: `${name} top-1 %`,
      digits: 2,
      better: true,
      says: `${images} the right class in ${name}, in %`,
    },
    [`${runtime}_agreement`]: {
      label: `${name} agreement`,
      digits: 4,
      better: true,
      says: `${images} the same class in ${name} as in JAX, from 0 to 1`,
    },
    [`${runtime}_bytes`]: {
      label: `${name} file kB`,
      factor: 1e-3,
      digits: 1,
      better: false,
      says: `the file of the network of integers for ${name}, in kB of 1,000 bytes`,
    },
  };
}

Object.assign(METRICS, ...Object.entries(RUNTIMES).map(runtimeMetrics));

/** The name of the runtime that a metric was measured in; undefined where it is none of `qresearch deploy`. */
function runtimeOf(name) {
  return RUNTIMES[/^([a-z]+)_(latency_ms|latency_ratio|top1|agreement|bytes)$/.exec(name)?.[1]];
}
