// Metrics: what each is called, how it is shown, and what it says.
// factor: from the record's unit to the page's; better: whether more is (undefined: neither); main: shown in every
// comparison; says: the unit, and over what it is a mean within one run.

const SQNR_SAYS = "signal to quantization noise ratio in dB of";
const ENERGY_SAYS = "an estimate in microjoules (45 nm table of Horowitz 2014), summed over the layers, for one image";
const ENERGY_PARTS = ["energy_arithmetic_uj_estimate", "energy_memory_uj_estimate"];
const METRICS = {
  top1: { label: "top-1 %", digits: 2, better: true, main: true, says: "test images put into the right class, in %" },
  top1_float: {
    label: "float %",
    digits: 2,
    main: true,
    says: "test images that the float network of the same seed puts into the right class, in %",
  },
  top1_lost: {
    label: "against float",
    digits: 2,
    better: true,
    main: true,
    says: "top-1 less that of the float network of the same seed, in percentage points",
  },
  sqnr_weight_db_min: {
    label: "worst SQNR w dB",
    digits: 1,
    better: true,
    main: true,
    says: `${SQNR_SAYS} the weights of the worst layer`,
  },
  size_bytes: {
    label: "size kB",
    factor: 1e-3,
    digits: 1,
    better: false,
    main: true,
    says: "packed codes, scales and what stays float of the whole network, in kB of 1,000 bytes",
  },
  bitops: {
    label: "BitOps M",
    factor: 1e-6,
    digits: 2,
    better: false,
    main: true,
    says: "multiply-accumulates times the bits of both operands, in millions, summed over the layers, for one image",
  },
  loss: { label: "loss", better: false, main: true, says: "cross-entropy in nats, the mean over the test images" },
  seconds: {
    label: "seconds",
    digits: 1,
    main: true,
    says: "wall-clock time of the run, in seconds; runs computed side by side have an equal part each",
  },
  sqnr_input_db_min: {
    label: "worst SQNR inputs dB",
    digits: 1,
    better: true,
    main: true,
    says: `${SQNR_SAYS} the inputs of the worst layer`,
  },
  sqnr_output_db_min: {
    label: "worst SQNR outputs dB",
    digits: 1,
    better: true,
    main: true,
    says: `${SQNR_SAYS} the outputs of the worst layer`,
  },
  // A layer kept at 8 bits lifts these, whatever the others have lost: they are shown where they are asked for.
  sqnr_weight_db: {
    label: "mean SQNR w dB",
    digits: 1,
    better: true,
    says: `${SQNR_SAYS} the weights, the mean of the dB of all quantized layers, those kept at 8 bits too`,
  },
  sqnr_input_db: {
    label: "mean SQNR inputs dB",
    digits: 1,
    better: true,
    says: `${SQNR_SAYS} the inputs, the mean of the dB of all quantized layers`,
  },
  sqnr_output_db: {
    label: "mean SQNR outputs dB",
    digits: 1,
    better: true,
    says: `${SQNR_SAYS} the outputs, the mean of the dB of all quantized layers`,
  },
  loss_float: { says: "cross-entropy of the float network in nats, the mean over the test images" },
  size_bytes_float: { says: "parameters and batch-norm statistics as float32, in bytes" },
  test_images: { says: "number of the test images" },
  macs: { says: "multiply-accumulates, summed over the layers, for one image" },
  bytes_moved: { says: "weights, scales, inputs and outputs, in bytes, summed over the layers, for one image" },
  energy_uj_estimate: { label: "energy µJ", better: false, says: `arithmetic and memory, ${ENERGY_SAYS}` },
  energy_arithmetic_uj_estimate: { label: "energy of arithmetic µJ", better: false, says: ENERGY_SAYS },
  energy_memory_uj_estimate: { label: "energy of memory µJ", better: false, says: ENERGY_SAYS },
  file_bytes: {
    label: "packed file kB",
    factor: 1e-3,
    digits: 1,
    better: false,
    says: "model.safetensors of the run, in kB of 1,000 bytes",
  },
  programs: { says: "number of programs that were compiled" },
  stacked: { says: "number of runs computed side by side; 1: alone" },
};
const HEADLINE = ["top1", "top1_lost", "sqnr_weight_db_min", "size_bytes", "bitops", "seconds"];

// What is worked out from the metrics of a record; null where one is lacking.
const DERIVED = {
  top1_lost: (record) => {
    const [top1, float] = [metric(record, "top1"), metric(record, "top1_float")];
    return top1 === null || float === null ? null : top1 - float;
  },
  energy_uj_estimate: (record) => sumOf(ENERGY_PARTS.map((part) => metric(record, part))),
};

/** The sum of some numbers; null where one is lacking. */
function sumOf(values) {
  return values.includes(null) ? null : values.reduce((sum, value) => sum + value, 0);
}

function metricColumn(name) {
  const {
    label = name,
    factor = 1,
    digits,
    better,
    main = false,
    says = "a metric of result.json, in its own unit",
  } = Object.hasOwn(METRICS, name) ? METRICS[name] : {};
  const found = Object.hasOwn(DERIVED, name) ? DERIVED[name] : (record) => metric(record, name);
  const value = (record) => (found(record) === null ? undefined : found(record) * factor);
  return {
    id: `metric:${name}`,
    name,
    label,
    kind: "metric",
    main,
    shown: HEADLINE.includes(name),
    digits,
    better,
    factor,
    says,
    value,
    text: (shown) => number(shown, digits),
  };
}
