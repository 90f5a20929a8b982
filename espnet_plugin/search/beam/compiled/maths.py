"""Arithmetic of the compiled search: joint network and softmax, made to be vectorised by LLVM.

float32 has its own exponential, as the C library's is called once per number; float64 uses the
library's, for exactness.

Shapes: M rows (pairs of frame and prediction-network state), J joint size, V vocabulary with blank.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

TANH, RELU, SILU = 0, 1, 2
ACTIVATIONS = {"tanh": TANH, "relu": RELU, "silu": SILU}
NEG_INF = -math.inf

# Sums may be taken in any order. -inf must stay what it is: no "ninf", "nnan".
_SUMS = {"reassoc", "contract", "nsz"}
_LOG2_E = np.float32(1.0 / math.log(2.0))
# ln 2 = high + low; high has trailing zeros, so that its product with a small integer is exact.
_LN2_HIGH = np.float32(0.693145751953125)
_LN2_LOW = np.float32(math.log(2.0) - 0.693145751953125)
_FACTORIALS = tuple(np.float32(1.0 / math.factorial(n)) for n in range(8))


@njit(fastmath={"contract"}, error_model="numpy")  # type: ignore[untyped-decorator]
def _exp32(x: Any) -> Any:
    """e^x within 2e-7 of itself, for float32; 0 below -87, no more than e^88."""
    below = x < np.float32(-87.0)
    x = min(max(x, np.float32(-87.0)), np.float32(88.0))
    n = np.int32(x * _LOG2_E + np.float32(128.5)) - np.int32(128)  # to the nearest
    rest = x - np.float32(n) * _LN2_HIGH
    rest = rest - np.float32(n) * _LN2_LOW  # within ± ln 2 / 2
    p = _FACTORIALS[7]
    p = p * rest + _FACTORIALS[6]
    p = p * rest + _FACTORIALS[5]
    p = p * rest + _FACTORIALS[4]
    p = p * rest + _FACTORIALS[3]
    p = p * rest + _FACTORIALS[2]
    p = p * rest + _FACTORIALS[1]
    p = p * rest + _FACTORIALS[0]
    power = np.int32((n + np.int32(127)) << np.int32(23)).view(np.float32)  # 2^n by its bits
    return np.float32(0.0) if below else p * power


@njit(error_model="numpy")  # type: ignore[untyped-decorator]
def _exp(x: Any, size: int) -> Any:
    """e^x in the type of x, which has ``size`` bytes; the branch is gone once it is compiled."""
    return _exp32(x) if size == 4 else math.exp(x)


@njit(fastmath={"contract", "nsz"}, error_model="numpy")  # type: ignore[untyped-decorator]
def hidden_layer(encoder: Any, predicted: Any, activation: int, out: Any) -> None:
    """f(encoder [J] + predicted [J]) -> out [J]."""
    one = encoder.dtype.type(1.0)
    if activation == TANH:
        for j in range(out.shape[0]):
            power = _exp((one + one) * (encoder[j] + predicted[j]), out.itemsize)
            out[j] = one - (one + one) / (power + one)
    elif activation == RELU:
        for j in range(out.shape[0]):
            out[j] = max(encoder[j] + predicted[j], one - one)
    else:
        for j in range(out.shape[0]):
            x = encoder[j] + predicted[j]
            out[j] = x / (one + _exp(-x, out.itemsize))


@njit(fastmath=_SUMS, error_model="numpy")  # type: ignore[untyped-decorator]
def _last_labels(weight: Any, bias: Any, hidden: Any, out: Any) -> None:
    """The output layer's last V modulo 4 labels, one by one."""
    vocab, size = weight.shape
    for v in range(vocab - vocab % 4, vocab):
        for i in range(hidden.shape[0]):
            total = weight.dtype.type(0.0)
            for j in range(size):
                total += weight[v, j] * hidden[i, j]
            out[i, v] = total + bias[v]


@njit(fastmath=_SUMS, error_model="numpy")  # type: ignore[untyped-decorator]
def output_layer(weight: Any, bias: Any, hidden: Any, out: Any) -> None:
    """hidden [M, J] times weight [V, J] transposed, plus bias [V] -> out [M, V].

    A block of 4 x 4 sums stays in registers; so the weights are read once, whatever M is.
    """
    vocab, size = weight.shape
    zero = weight.dtype.type(0.0)
    for v in range(0, vocab - vocab % 4, 4):
        w0, w1, w2, w3 = weight[v], weight[v + 1], weight[v + 2], weight[v + 3]
        for i in range(0, hidden.shape[0], 4):
            left = min(hidden.shape[0] - i, 4)
            s00 = s10 = s20 = s30 = s01 = s11 = s21 = s31 = zero
            s02 = s12 = s22 = s32 = s03 = s13 = s23 = s33 = zero
            h0 = hidden[i]
            if left == 1:
                for j in range(size):
                    x0 = h0[j]
                    s00 += w0[j] * x0
                    s10 += w1[j] * x0
                    s20 += w2[j] * x0
                    s30 += w3[j] * x0
            else:  # of two or three rows, the last is computed more than once
                h1 = hidden[i + 1]
                h2, h3 = hidden[i + min(2, left - 1)], hidden[i + left - 1]
                for j in range(size):
                    x0, x1, x2, x3 = h0[j], h1[j], h2[j], h3[j]
                    y0, y1, y2, y3 = w0[j], w1[j], w2[j], w3[j]
                    s00 += y0 * x0
                    s10 += y1 * x0
                    s20 += y2 * x0
                    s30 += y3 * x0
                    s01 += y0 * x1
                    s11 += y1 * x1
                    s21 += y2 * x1
                    s31 += y3 * x1
                    s02 += y0 * x2
                    s12 += y1 * x2
                    s22 += y2 * x2
                    s32 += y3 * x2
                    s03 += y0 * x3
                    s13 += y1 * x3
                    s23 += y2 * x3
                    s33 += y3 * x3
                last = i + left - 1
                out[last, v], out[last, v + 1] = s03 + bias[v], s13 + bias[v + 1]
                out[last, v + 2], out[last, v + 3] = s23 + bias[v + 2], s33 + bias[v + 3]
                if left > 2:
                    out[i + 2, v], out[i + 2, v + 1] = s02 + bias[v], s12 + bias[v + 1]
                    out[i + 2, v + 2], out[i + 2, v + 3] = s22 + bias[v + 2], s32 + bias[v + 3]
                    out[i + 1, v], out[i + 1, v + 1] = s01 + bias[v], s11 + bias[v + 1]
                    out[i + 1, v + 2], out[i + 1, v + 3] = s21 + bias[v + 2], s31 + bias[v + 3]
            out[i, v], out[i, v + 1] = s00 + bias[v], s10 + bias[v + 1]
            out[i, v + 2], out[i, v + 3] = s20 + bias[v + 2], s30 + bias[v + 3]
    _last_labels(weight, bias, hidden, out)


@njit(fastmath=_SUMS, error_model="numpy")  # type: ignore[untyped-decorator]
def _sum_of_powers(logits: Any, top: Any) -> Any:
    total = logits.dtype.type(0.0)
    for v in range(logits.shape[0]):
        total += _exp(logits[v] - top, logits.itemsize)
    return total


@njit(fastmath={"nnan", "nsz"}, error_model="numpy")  # type: ignore[untyped-decorator]
def _largest(logits: Any) -> Any:
    top = logits[0]
    for v in range(logits.shape[0]):
        top = max(top, logits[v])
    return top


@njit(error_model="numpy")  # type: ignore[untyped-decorator]
def log_normaliser(logits: Any) -> float:
    """log of the sum of e^logits [V], in float64."""
    top = _largest(logits)
    return float(top) + math.log(float(_sum_of_powers(logits, top)))


@njit(error_model="numpy")  # type: ignore[untyped-decorator]
def combine(first: float, second: float, best_path: bool) -> float:
    """Sum of two paths' scores: log-add, or the better one."""
    high, low = (first, second) if first >= second else (second, first)
    if best_path or low == NEG_INF:
        return high
    return high + math.log1p(math.exp(low - high))
