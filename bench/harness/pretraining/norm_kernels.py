"""Batch normalisation, short cut and ReLU of bfloat16 rows, in as few passes as the statistics allow; sums are float32."""

# Axes: R position of all images, C channel. Kernels take rows of several positions each, whose sums grow side by side.

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

Bits = NDArray[np.uint16]
Floats = NDArray[np.float32]

# numbers of a row, where the number of positions can be divided so
LANES = 128

# a product and a sum may become one instruction; NaN and infinity stay what they are
_jit = numba.njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract"})


def forward(
    input_RC: Bits, shortcut_RC: Bits | None, weight_C: Floats, bias_C: Floats, eps: float, output_RC: Bits
) -> tuple[Floats, Floats]:
    """Write max(0, (input - mean) / sqrt(variance + eps) * weight + bias + shortcut).

    Returns:
        mean float32 [C], variance float32 [C] (biased).
    """
    input, output = _wide(input_RC), _wide(output_RC)
    if shortcut_RC is None:
        return _forward(input, weight_C, bias_C, np.float32(eps), output)
    return _forward_beside(input, _wide(shortcut_RC), weight_C, bias_C, np.float32(eps), output)


def backward(
    input_RC: Bits,
    output_RC: Bits,
    grad_RC: Bits,
    weight_C: Floats,
    mean_C: Floats,
    variance_C: Floats,
    eps: float,
    grad_input_RC: Bits,
    grad_shortcut_RC: Bits | None,
) -> tuple[Floats, Floats]:
    """Write the gradients of :func:`forward`'s inputs, from that of its output.

    Returns:
        gradients of the weight and the bias, float32 [C].
    """
    output, grad = _wide(output_RC), _wide(grad_RC)
    if grad_shortcut_RC is not None:
        _let_through(output, grad, _wide(grad_shortcut_RC))
    return _backward(_wide(input_RC), output, grad, weight_C, mean_C, variance_C, np.float32(eps), _wide(grad_input_RC))


def _wide(rows: Bits) -> Bits:
    positions, channels = rows.shape
    return rows.reshape(positions // math.gcd(positions, max(1, LANES // channels)), -1)


@_jit
def _forward(input: Any, weight: Any, bias: Any, eps: Any, output: Any) -> Any:
    mean, variance, factor, shift = _statistics(input, weight, bias, eps)
    for row in range(input.shape[0]):
        for lane in range(input.shape[1]):
            value = _float(input[row, lane]) * factor[lane] + shift[lane]
            output[row, lane] = _bits(np.float32(0) if value < 0 else value)
    return mean, variance


@_jit
def _forward_beside(input: Any, shortcut: Any, weight: Any, bias: Any, eps: Any, output: Any) -> Any:
    mean, variance, factor, shift = _statistics(input, weight, bias, eps)
    for row in range(input.shape[0]):
        for lane in range(input.shape[1]):
            value = _float(input[row, lane]) * factor[lane] + shift[lane] + _float(shortcut[row, lane])
            output[row, lane] = _bits(np.float32(0) if value < 0 else value)
    return mean, variance


@_jit
def _statistics(input: Any, weight: Any, bias: Any, eps: Any) -> Any:
    """Mean and variance of the channels; a factor and a shift of every lane, which make the normalised numbers."""
    channels, lanes = len(weight), input.shape[1]
    positions = np.float32(input.size // channels)
    total = np.zeros(lanes, np.float32)
    for row in range(input.shape[0]):
        for lane in range(lanes):
            total[lane] += _float(input[row, lane])
    mean = _of_channels(total, channels) / positions
    its_mean = _of_lanes(mean, lanes)
    total[:] = 0
    for row in range(input.shape[0]):
        for lane in range(lanes):
            apart = _float(input[row, lane]) - its_mean[lane]
            total[lane] += apart * apart
    variance = _of_channels(total, channels) / positions
    factor = weight / np.sqrt(variance + eps)
    return mean, variance, _of_lanes(factor, lanes), _of_lanes(bias - mean * factor, lanes)


@_jit
def _backward(input: Any, output: Any, grad: Any, weight: Any, mean: Any, variance: Any, eps: Any, grad_input: Any) -> Any:
    channels, lanes = len(weight), input.shape[1]
    positions = np.float32(input.size // channels)
    its_mean = _of_lanes(mean, lanes)
    total, moment = np.zeros(lanes, np.float32), np.zeros(lanes, np.float32)
    for row in range(input.shape[0]):
        for lane in range(lanes):
            kept = _kept(grad[row, lane], output[row, lane])
            total[lane] += kept
            moment[lane] += kept * (_float(input[row, lane]) - its_mean[lane])
    grad_bias = _of_channels(total, channels)
    inverse = np.float32(1) / np.sqrt(variance + eps)
    grad_weight = _of_channels(moment, channels) * inverse
    # weight / deviation * (grad - its mean - normalised input * mean of (grad * normalised input)), by the factors of grad, input and 1
    factor = weight * inverse
    slope = -factor * inverse * grad_weight / positions
    of_grad, of_input = _of_lanes(factor, lanes), _of_lanes(slope, lanes)
    alone = _of_lanes(-factor * grad_bias / positions - slope * mean, lanes)
    for row in range(input.shape[0]):
        for lane in range(lanes):
            kept = _kept(grad[row, lane], output[row, lane])
            grad_input[row, lane] = _bits(of_grad[lane] * kept + of_input[lane] * _float(input[row, lane]) + alone[lane])
    return grad_weight, grad_bias


@_jit
def _let_through(output: Any, grad: Any, grad_shortcut: Any) -> None:
    for row in range(grad.shape[0]):
        for lane in range(grad.shape[1]):
            grad_shortcut[row, lane] = grad[row, lane] if output[row, lane] & np.uint16(0x7FFF) != 0 else np.uint16(0)


@_jit
def _of_channels(sums: Any, channels: Any) -> Any:
    whole = np.zeros(channels, np.float32)
    for lane in range(len(sums)):
        whole[lane % channels] += sums[lane]
    return whole


@_jit
def _of_lanes(values: Any, lanes: Any) -> Any:
    repeated = np.empty(lanes, np.float32)
    for lane in range(lanes):
        repeated[lane] = values[lane % len(values)]
    return repeated


@_jit
def _float(bits: Any) -> Any:
    return np.uint32(np.uint32(bits) << np.uint32(16)).view(np.float32)


@_jit
def _bits(value: Any) -> Any:
    """Rounded to the nearest bfloat16, and to the even one of two."""
    word = np.float32(value).view(np.uint32)
    odd = np.uint32(np.uint32(word >> np.uint32(16)) & np.uint32(1))
    return np.uint16(np.uint32(word + np.uint32(0x7FFF) + odd) >> np.uint32(16))


@_jit
def _kept(grad: Any, output: Any) -> Any:
    """The gradient where the ReLU let something through."""
    return _float(grad) if output & np.uint16(0x7FFF) != 0 else np.float32(0)
