"""The noise of (seed, stage, step): a pure function, with the same bits on every machine.

Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") makes uniform
integers of a counter, Box–Muller makes normals of them. Logarithm, sine and cosine are summed here
from +, -, *, / in float64, which IEEE 754 fixes to the last bit, since those of the libraries
differ by a unit in the last place between processors and versions. Always computed on the CPU.

A seed's noise is part of every picture made with it: this file may be made faster, but what it
returns may never change. Knows nothing of trajectories.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

INITIAL = -1
"""The step of the noise that a stage starts from."""

FloatArray = NDArray[np.float64]
WordArray = NDArray[np.uint64]  # 32-bit words, in 64 bits so that their products fit

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_KEY_INCREMENTS = (0x9E3779B9, 0xBB67AE85)
_LOW_32 = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)
_ROUNDS = 10
_CHUNK = 1 << 13  # blocks whose arrays stay in the processor's cache

_LOG_SERIES = tuple(2 / (2 * k + 1) for k in range(10))
_SIN_SERIES = tuple((-1) ** k / math.factorial(2 * k + 1) for k in range(11))
_COS_SERIES = tuple((-1) ** k / math.factorial(2 * k) for k in range(11))
_LOG_2 = 0.6931471805599453
_SQRT_2 = 1.4142135623730951
_BITS_OF_ONE = 1023 << 52


def noise(seed: int, stage: int, step: int, shape: tuple[int, ...]) -> Tensor:
    """Standard normal noise, float32 on the CPU.

    Value i of the flattened result comes from lane i mod 4 of the counter
    (i div 4, stage, step, 0) under the key `seed`, so a longer shape only appends values.

    Args:
        seed: 0 … 2**64 - 1.
        stage: index of the stage, 0 … 2**32 - 1.
        step: index of the step, from -1, which is `INITIAL`.
        shape: of the result.
    """
    size = math.prod(shape)
    lanes = np.empty((-(-size // 4), 4), np.float32)
    for start in range(0, len(lanes), _CHUNK):
        chunk = lanes[start : start + _CHUNK]
        block = np.arange(start, start + len(chunk), dtype=np.uint64)
        place = [np.full_like(block, word % 2**32) for word in (stage, step, 0)]
        x0, x1, x2, x3 = philox4x32((block, *place), (seed % 2**32, seed >> 32))
        chunk[:, 0], chunk[:, 1] = _box_muller(x0, x1)
        chunk[:, 2], chunk[:, 3] = _box_muller(x2, x3)
    return torch.from_numpy(lanes.reshape(-1)[:size].reshape(shape))


def initial_noise(seed: int, stage: int, shape: tuple[int, ...], temperature: float) -> Tensor:
    """What a stage starts from: its `INITIAL` noise with the standard deviation `temperature`."""
    return noise(seed, stage, INITIAL, shape) * temperature


def philox4x32(
    counter: tuple[WordArray, ...], key: tuple[int, int]
) -> tuple[WordArray, WordArray, WordArray, WordArray]:
    """Ten rounds of Philox-4x32 on arrays of counters.

    Args:
        counter: four arrays of 32-bit words, first the least significant.
        key: two 32-bit words, first the least significant.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        product0, product1 = _MULTIPLIERS[0] * c0, _MULTIPLIERS[1] * c2
        c0 = (product1 >> _32) ^ c1 ^ np.uint64(k0)
        c2 = (product0 >> _32) ^ c3 ^ np.uint64(k1)
        c1, c3 = product1 & _LOW_32, product0 & _LOW_32
        k0 = (k0 + _KEY_INCREMENTS[0]) % 2**32
        k1 = (k1 + _KEY_INCREMENTS[1]) % 2**32
    return c0, c1, c2, c3


def _box_muller(radius_word: WordArray, angle_word: WordArray) -> tuple[FloatArray, FloatArray]:
    """Two normals of two words; the angle's top bit is the half turn, and turns the radius over."""
    half_turn = (angle_word >> np.uint64(31)).astype(np.float64)
    radius = np.sqrt(-2 * _log((radius_word + 0.5) * 2.0**-32)) * (1 - 2 * half_turn)
    angle = ((angle_word & np.uint64(2**31 - 1)) + 0.5) * (math.pi * 2.0**-31) - math.pi / 2
    square = angle * angle
    cos, sin = _polynomial(_COS_SERIES, square), angle * _polynomial(_SIN_SERIES, square)
    return radius * cos, radius * sin


def _log(u: NDArray[np.floating]) -> FloatArray:
    """Natural logarithm of u in (0, 1): that of the exponent, and log m = 2 artanh of the rest."""
    bits = u.view(np.int64)
    exponent = (bits >> 52) - 1023
    mantissa = ((bits & (2**52 - 1)) | _BITS_OF_ONE).view(np.float64)  # [1, 2), centred at √2
    s = (mantissa - _SQRT_2) / (mantissa + _SQRT_2)
    return (exponent + 0.5) * _LOG_2 + s * _polynomial(_LOG_SERIES, s * s)


def _polynomial(coefficients: tuple[float, ...], x: FloatArray) -> FloatArray:
    total = np.full_like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        total *= x
        total += coefficient
    return total
