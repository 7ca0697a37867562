"""Layers of a ResNet that use a CPU core better than PyTorch's where networks and images are small, with the same results but for rounding.

They are what PyTorch's are in all but training in bfloat16 on a CPU: there a step of the lab's ResNet takes 0.8 of the time.
"""

# Axes: N image, C channel in, D channel out, H W out, S side in, K side of the kernel, R position of all images.

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from harness.pretraining import norm_kernels

# Of a map of so many positions a matrix product makes the weights' gradient in a half to a ninth of oneDNN's time, measured on a Xeon
# with AMX. Of larger ones the copies that it needs leave the cache.
SMALL_MAP = 16


class Convolution(nn.Conv2d):
    """A square convolution without a bias, padded by half of its kernel: [N, C, S, S] -> [N, D, H, W]."""

    def __init__(self, channels: int, out_channels: int, kernel: int, stride: int = 1):
        super().__init__(channels, out_channels, kernel, stride, padding=kernel // 2, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        if not torch.is_grad_enabled() or not _in_bfloat16(input):
            return super().forward(input)
        positions = len(range(0, input.shape[-2], self.stride[0])) * len(range(0, input.shape[-1], self.stride[1]))
        if self.kernel_size[0] > 1 and positions > SMALL_MAP:
            return super().forward(input)
        return _Convolved.apply(input.to(torch.bfloat16), self.weight.to(torch.bfloat16), self.stride[0])


class NormReLU(nn.BatchNorm2d):
    """Batch normalisation, a short cut added to it if there is one, and a ReLU: [N, C, S, S] -> [N, C, S, S]."""

    def forward(self, input: Tensor, shortcut: Tensor | None = None) -> Tensor:
        fits = input.dtype == torch.bfloat16 and input.device.type == "cpu" and self.training
        if not fits or not all(_is_channels_last(one) for one in (input, shortcut) if one is not None):
            normalised = super().forward(input)
            return F.relu(normalised if shortcut is None else normalised + shortcut)
        output, mean, variance = _Normalised.apply(input, shortcut, self.weight, self.bias, self.eps)
        if self.track_running_stats:
            self._follow(mean, variance, input.numel() // input.shape[1])
        return output

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor, positions: int) -> None:
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        assert self.momentum is not None
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * (positions / max(1, positions - 1)), self.momentum)


class _Convolved(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor, stride: int) -> Tensor:
        ctx.save_for_backward(input, weight)
        ctx.stride = stride
        return F.conv2d(input, weight, stride=stride, padding=weight.shape[-1] // 2)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, None]:  # type: ignore[override]
        input, weight = ctx.saved_tensors
        channels_out, channels, kernel, _ = weight.shape
        grad_RD = grad.permute(0, 2, 3, 1).reshape(-1, channels_out)
        grad_weight = (grad_RD.T @ _patches(input, kernel, ctx.stride)).view(channels_out, kernel, kernel, channels)
        return _input_gradient(grad, input, weight, ctx.stride), grad_weight.permute(0, 3, 1, 2), None


def _patches(input: Tensor, kernel: int, stride: int) -> Tensor:
    """What each position of a convolution's output sees: [R, K K C]."""
    edge = kernel // 2
    padded = F.pad(input.permute(0, 2, 3, 1), (0, 0, edge, edge, edge, edge))
    windows_NHWCKK = padded.unfold(1, kernel, stride).unfold(2, kernel, stride)
    return windows_NHWCKK.permute(0, 1, 2, 4, 5, 3).reshape(-1, kernel * kernel * input.shape[1])


def _input_gradient(grad: Tensor, input: Tensor, weight: Tensor, stride: int) -> Tensor:
    edge = weight.shape[-1] // 2
    wanted = [True, False, False]
    grad_input, _, _ = torch.ops.aten.convolution_backward(
        grad, input, weight, None, [stride, stride], [edge, edge], [1, 1], False, [0, 0], 1, wanted
    )
    return grad_input


class _Normalised(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, input: Tensor, shortcut: Tensor | None, weight: Tensor, bias: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        output = torch.empty_like(input)
        mean, variance = norm_kernels.forward(
            _rows(input), None if shortcut is None else _rows(shortcut), _numbers(weight), _numbers(bias), eps, _rows(output)
        )
        ctx.save_for_backward(input, output, weight)
        ctx.statistics, ctx.eps, ctx.shortcut = (mean, variance), eps, shortcut is not None
        mean, variance = torch.from_numpy(mean), torch.from_numpy(variance)
        ctx.mark_non_differentiable(mean, variance)
        return output, mean, variance

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor, Tensor | None, Tensor, Tensor, None]:  # type: ignore[override]
        input, output, weight = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last)
        grad_input = torch.empty_like(input)
        grad_shortcut = torch.empty_like(input) if ctx.shortcut else None
        grad_weight, grad_bias = norm_kernels.backward(
            _rows(input),
            _rows(output),
            _rows(grad),
            _numbers(weight),
            *ctx.statistics,
            ctx.eps,
            _rows(grad_input),
            None if grad_shortcut is None else _rows(grad_shortcut),
        )
        return grad_input, grad_shortcut, torch.from_numpy(grad_weight), torch.from_numpy(grad_bias), None


def _in_bfloat16(input: Tensor) -> bool:
    autocast = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    return autocast and input.device.type == "cpu"


def _is_channels_last(tensor: Tensor) -> bool:
    return tensor.dtype == torch.bfloat16 and tensor.is_contiguous(memory_format=torch.channels_last)


def _rows(tensor: Tensor) -> NDArray[Any]:
    """The bits of a bfloat16 tensor [N, C, S, S] in channels-last order, without a copy: uint16 [R, C]."""
    return tensor.detach().permute(0, 2, 3, 1).reshape(-1, tensor.shape[1]).view(torch.uint16).numpy()


def _numbers(tensor: Tensor) -> NDArray[Any]:
    return tensor.detach().numpy()
