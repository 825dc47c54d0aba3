"""Our integer arithmetic equals the LiteRT interpreter's, code for code, on 500 random layers of one operator.

Which rounding the interpreter uses was found by comparing it with each of ours, on random layers and on exact ties:

    operator             BUILTIN_REF                       BUILTIN_WITHOUT_DEFAULT_DELEGATES
    CONV_2D              double                            double_upwards (x86 with AVX2 or AVX-512)
    FULLY_CONNECTED      float64, halves away from zero    double_upwards (the same)
    ADD                  double                            double
    MEAN                 double                            double; with the dimensions kept in float32, not ours
    AVERAGE_POOL_2D      halves away from the code 0       halves away from the code 0

The reference kernel of FULLY_CONNECTED has no fixed-point arithmetic: it multiplies the accumulator by the real
multiplier in float64. Its codes are those of `single` except on exact ties below zero, which random layers do not have.
The multiplier is input scale * weight scale / output scale in float64, except that the fixed-point kernel of
FULLY_CONNECTED takes the first product in float32 where the weight has one scale for all. XNNPACK, the default of the
interpreter, computes in float32; litert_models.py says how far apart that is.
"""

import platform

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qresearch.core.fixed_point import (
    ShiftRounding,
    add,
    addition,
    average_pool,
    mean,
    mean_multiplier,
    multiplier,
    requantize,
)

interpreter = pytest.importorskip("ai_edge_litert.interpreter", reason="the extra litert is not installed")
import litert_models as models  # noqa: E402, it imports the interpreter

RESOLVER = interpreter.OpResolverType
DOUBLE, DOUBLE_UPWARDS, SINGLE = ShiftRounding.double, ShiftRounding.double_upwards, ShiftRounding.single
PADDED = 1024  # elements of an addition, so that all share one compilation

compiled_requantize = jax.jit(requantize, static_argnums=3)
compiled_add = jax.jit(add, static_argnames="rounding")
compiled_mean = jax.jit(mean, static_argnames="rounding")
compiled_pool = jax.jit(average_pool)


class Draw:
    """Random scales, zero points, codes and biases."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def whole(self, low, high):
        return int(self.rng.integers(low, high))

    def coin(self):
        return bool(self.rng.integers(2))

    def codes(self, *shape, low=-128):
        return self.rng.integers(low, 128, shape).astype(np.int8)

    def scaling(self, channels=None, *, zero_point=None):
        scale = np.float32(np.exp(self.rng.uniform(np.log(1e-3), np.log(0.1), channels)))
        return models.Scaling(scale, self.whole(-128, 128) if zero_point is None else zero_point)

    def output(self, largest):
        """A scaling for values up to `largest`: some clip, some leave much of the range unused."""
        return models.Scaling(np.float32(largest / self.rng.uniform(50, 400)), self.whole(-128, 128))

    def bias(self, channels):
        return self.rng.integers(-5000, 5000, channels).astype(np.int32)


class Layer:
    """A model, its inputs, and what an exact int32 accumulation of it comes to."""

    def __init__(self, model, inputs, accumulator, scalings, real, relu):
        self.model, self.inputs, self.accumulator, self.relu = model, inputs, accumulator, relu
        self.zero_point = scalings[2].zero_point
        assert np.abs(accumulator).max() < 2**31
        self.parts = [np.broadcast_to(part, accumulator.shape).ravel() for part in multiplier(real)]

    def run(self, resolver):
        return models.run(self.model, *self.inputs, resolver=resolver).ravel()

    def finish(self, rescaled):
        low = self.zero_point if self.relu else -128
        return np.clip(rescaled + self.zero_point, low, 127)


def convolve(image, weight, strides, same):
    """Windows of an NHWC image times a weight of (out, height, width, in); what lies outside of the image is 0."""
    size = models.output_size(image.shape[1:3], weight.shape[1:3], strides, same)
    if same:
        missing = [
            max((n - 1) * s + k - m, 0)
            for n, s, k, m in zip(size, strides, weight.shape[1:3], image.shape[1:3], strict=True)
        ]
        image = np.pad(image, [(0, 0), *((m // 2, m - m // 2) for m in missing), (0, 0)])
    windows = np.lib.stride_tricks.sliding_window_view(image, weight.shape[1:3], axis=(1, 2))
    windows = windows[:, :: strides[0], :: strides[1]]
    return np.einsum("nijchw,ohwc->nijo", windows, weight, dtype=np.int64)


def convolution(draw):
    batch, height, width, inputs, outputs = (draw.whole(*ends) for ends in [(1, 3), (3, 9), (3, 9), (1, 17), (1, 17)])
    strides, same, relu = (draw.whole(1, 3), draw.whole(1, 3)), draw.coin(), draw.coin()
    x = draw.codes(batch, height, width, inputs)
    weight = draw.codes(outputs, draw.whole(1, 4), draw.whole(1, 4), inputs, low=-127)
    scalings = draw.scaling(), draw.scaling(outputs, zero_point=0)
    bias = draw.bias(outputs)
    total = convolve(x.astype(np.int64) - scalings[0].zero_point, weight.astype(np.int64), strides, same) + bias
    product = np.float64(scalings[0].scale) * np.float64(scalings[1].scale)
    scalings += (draw.output(np.abs(total * product).max()),)
    model = models.convolution(x.shape, weight, bias, scalings, strides=strides, same=same, relu=relu)
    return Layer(model, [x], total, scalings, product / np.float64(scalings[2].scale), relu)


def fully_connected(draw):
    rows, inputs, outputs, channels = draw.whole(1, 9), draw.whole(1, 97), draw.whole(2, 33), draw.coin()
    x, weight, bias = draw.codes(rows, inputs), draw.codes(outputs, inputs, low=-127), draw.bias(outputs)
    scalings = draw.scaling(), draw.scaling(outputs if channels else 1, zero_point=0)
    total = (x.astype(np.int64) - scalings[0].zero_point) @ weight.T.astype(np.int64) + bias
    product = np.float64(scalings[0].scale) * np.float64(scalings[1].scale)
    if not channels:
        product = np.float64(scalings[0].scale * scalings[1].scale)
    scalings += (draw.output(np.abs(total * product).max()),)
    relu = draw.coin()
    model = models.fully_connected(rows, weight, bias, scalings, relu=relu)
    return Layer(model, [x], total, scalings, product / np.float64(scalings[2].scale), relu)


def requantized(layers, rounding):
    """The codes of all layers one after another: one compiled program for all their shapes."""
    accumulators = jnp.asarray(np.concatenate([layer.accumulator.ravel() for layer in layers]), jnp.int32)
    mantissa, shift = (np.concatenate([layer.parts[index] for layer in layers]) for index in (0, 1))
    rescaled = np.asarray(compiled_requantize(accumulators, mantissa, shift, rounding))
    ends = np.cumsum([layer.accumulator.size for layer in layers])[:-1]
    return [layer.finish(part) for layer, part in zip(layers, np.split(rescaled, ends), strict=True)]


def departures(layers, resolver, rounding):
    """(codes that differ, largest difference, codes) between the interpreter and ours."""
    pairs = zip(layers, requantized(layers, rounding), strict=True)
    apart = np.concatenate([np.abs(layer.run(resolver) - ours.astype(np.int32)) for layer, ours in pairs])
    return int((apart > 0).sum()), int(apart.max()), apart.size


@pytest.fixture(scope="module")
def convolutions():
    draw = Draw(0)
    return [convolution(draw) for _ in range(200)]


@pytest.fixture(scope="module")
def products():
    draw = Draw(1)
    return [fully_connected(draw) for _ in range(150)]


def test_200_convolutions(convolutions):
    wrong, _, codes = departures(convolutions, RESOLVER.BUILTIN_REF, DOUBLE)
    assert wrong == 0 and codes > 30_000
    assert departures(convolutions, RESOLVER.BUILTIN_REF, SINGLE)[0] > 0  # the rounding shows


def test_150_fully_connected_layers(products):
    wrong, _, codes = departures(products, RESOLVER.BUILTIN_REF, SINGLE)
    assert wrong == 0 and codes > 10_000
    assert departures(products, RESOLVER.BUILTIN_REF, DOUBLE)[0] > 0


def add_layer(draw):
    """(codes of the interpreter by resolver, ours) of a random addition."""
    shape = tuple(draw.whole(1, 8) for _ in range(draw.whole(1, 4)))
    a, b = draw.codes(*shape), draw.codes(*shape)
    first, second, relu = draw.scaling(), draw.scaling(), draw.coin()
    output = models.Scaling(np.float32((first.scale + second.scale) * draw.rng.uniform(0.2, 3)), draw.whole(-128, 128))
    model = models.addition(shape, (first, second, output), relu=relu)
    padded = [jnp.asarray(np.pad(codes.ravel(), (0, PADDED - codes.size))) for codes in (a, b)]
    ours = compiled_add(
        *padded,
        multipliers=addition(float(first.scale), float(second.scale), float(output.scale)),
        zero_points=(first.zero_point, second.zero_point, output.zero_point),
        rounding=DOUBLE,
        low=output.zero_point if relu else -128,
    )
    theirs = {resolver: models.run(model, a, b, resolver=resolver).ravel() for resolver in RESOLVER}
    return theirs, np.asarray(ours)[: a.size]


def test_150_additions():
    draw = Draw(2)
    apart = []
    for _ in range(150):
        theirs, ours = add_layer(draw)
        np.testing.assert_array_equal(theirs[RESOLVER.BUILTIN_REF], ours)
        np.testing.assert_array_equal(theirs[RESOLVER.BUILTIN_WITHOUT_DEFAULT_DELEGATES], ours)
        apart.append(np.abs(theirs[RESOLVER.BUILTIN] - ours))
    apart = np.concatenate(apart)
    assert apart.max() <= 1 and (apart > 0).mean() < 0.001  # XNNPACK


@pytest.mark.parametrize(
    "scales", [(1, 0.5, 2), (0.25, 0.25, 0.125), (1, 1e-3, 0.9), (1, 2**-11, 0.5), (0.013, 0.0213, 0.02)]
)
def test_the_sum_of_every_pair_of_codes(scales):
    a, b = (np.divmod(np.arange(2**16), 256) - np.array([[128], [128]])).astype(np.int8)
    scalings = [models.Scaling(np.float32(scale), zero) for scale, zero in zip(scales, (-3, 20, 7), strict=True)]
    ours = compiled_add(
        jnp.asarray(a),
        jnp.asarray(b),
        multipliers=addition(*(float(scaling.scale) for scaling in scalings)),
        zero_points=(-3, 20, 7),
        rounding=DOUBLE,
    )
    model = models.addition(a.shape, scalings)
    np.testing.assert_array_equal(models.run(model, a, b, resolver=RESOLVER.BUILTIN_REF), ours)


@pytest.mark.parametrize("kind", ["convolutions", "products"])
def test_the_vector_kernels_round_twice_upwards(kind, request):
    """Those of ruy for AVX2 and later; without them its plain C++ rounds once."""
    layers = request.getfixturevalue(kind)
    wrong = [
        departures(layers, RESOLVER.BUILTIN_WITHOUT_DEFAULT_DELEGATES, mode)[0] for mode in (DOUBLE_UPWARDS, SINGLE)
    ]
    assert 0 in wrong and wrong != [0, 0]


@pytest.mark.parametrize("kind", ["convolutions", "products"])
def test_xnnpack_differs_by_one_in_few_codes(kind, request):
    layers = request.getfixturevalue(kind)
    for rounding in ShiftRounding:
        wrong, largest, codes = departures(layers, RESOLVER.BUILTIN, rounding)
        assert largest <= 1 and wrong < 0.002 * codes


@pytest.mark.parametrize("ratio", [2, 4, 64])
def test_exact_ties(ratio):
    """Codes divided by a power of two: each resolver goes its own way, and the reference of FULLY_CONNECTED is no
    fixed-point arithmetic.
    """
    x, one = np.arange(-128, 128, dtype=np.int8)[:, None], np.ones((2, 1), np.int8)
    scalings = [models.Scaling(np.float32(s)) for s in (1, 1, ratio)]
    convolved = models.convolution((256, 1, 1, 1), one[:, None, None], np.zeros(2, np.int32), scalings)
    product = models.fully_connected(256, one, np.zeros(2, np.int32), scalings)
    parts = multiplier(1 / ratio)
    ours = {mode: np.asarray(requantize(jnp.asarray(x, jnp.int32), *parts, mode)) for mode in ShiftRounding}
    image = x[:, None, None, :]
    by_reference = models.run(convolved, image, resolver=RESOLVER.BUILTIN_REF)[:, 0, 0]
    np.testing.assert_array_equal(by_reference, np.repeat(ours[DOUBLE], 2, 1))
    away = np.trunc(x / ratio + np.copysign(0.5, x))
    by_reference = models.run(product, x, resolver=RESOLVER.BUILTIN_REF)
    np.testing.assert_array_equal(by_reference, np.repeat(away, 2, 1))
    ties_below_zero = (x < 0) & (np.abs(x.astype(np.int32)) % ratio == ratio // 2)
    np.testing.assert_array_equal(ours[SINGLE] != away, ties_below_zero)
    if platform.machine() == "x86_64":  # XNNPACK has other kernels elsewhere
        by_default = models.run(product, x, resolver=RESOLVER.BUILTIN)
        np.testing.assert_array_equal(by_default, np.repeat(np.round(x / ratio), 2, 1))


@pytest.mark.parametrize("keep_dims", [False, True])
def test_means(keep_dims):
    draw = Draw(3)
    for index in range(40):
        x = draw.codes(2, draw.whole(1, 9), draw.whole(1, 9), 8)
        before = draw.scaling()
        after = before if index % 2 else models.Scaling(np.float32(before.scale * draw.rng.uniform(0.2, 3)), index)
        count = x.shape[1] * x.shape[2]
        ours = compiled_mean(
            jnp.asarray(x.astype(np.int32).sum((1, 2))),
            count,
            multiplier=mean_multiplier(float(before.scale) / float(after.scale), count),
            zero_points=(before.zero_point, after.zero_point),
            rounding=DOUBLE,
        )
        model = models.mean(x.shape, (before, after), keep_dims=keep_dims)
        theirs = models.run(model, x, resolver=RESOLVER.BUILTIN_REF)
        np.testing.assert_array_equal(theirs.reshape(2, 8), ours)
        if not keep_dims:
            theirs = models.run(model, x, resolver=RESOLVER.BUILTIN_WITHOUT_DEFAULT_DELEGATES)
            np.testing.assert_array_equal(theirs, ours)


@pytest.mark.parametrize("resolver", list(RESOLVER))
def test_average_pools(resolver):
    draw = Draw(4)
    for _ in range(30):
        x, relu, scaling = draw.codes(1, 8, 8, 6), draw.coin(), draw.scaling()
        window, strides = (draw.whole(1, 9), draw.whole(1, 9)), (draw.whole(1, 3), draw.whole(1, 3))
        windows = np.lib.stride_tricks.sliding_window_view(x.astype(np.int32), window, axis=(1, 2))
        totals = windows[:, :: strides[0], :: strides[1]].sum((-1, -2), dtype=np.int32)
        padded = jnp.asarray(np.pad(totals.ravel(), (0, 8 * 8 * 6 - totals.size)))
        low = scaling.zero_point if relu else -128
        ours = np.asarray(compiled_pool(padded, window[0] * window[1], low=low))[: totals.size].reshape(totals.shape)
        model = models.average_pool(x.shape, window, scaling, strides=strides, relu=relu)
        np.testing.assert_array_equal(models.run(model, x, resolver=resolver), ours)
