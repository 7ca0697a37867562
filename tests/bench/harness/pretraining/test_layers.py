"""The lab's layers against float64 arithmetic, and against PyTorch's where they hand over to it."""

# Axes: N image, C channel, S side.

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import hvs_data as hvs
from harness.pretraining.layers import SMALL_MAP, Convolution, NormReLU
from harness.pretraining.networks import BasicBlock

# the largest relative error of rounding to bfloat16, and of an operation in float32
BFLOAT16, FLOAT32 = 2**-8, 2**-24


def pixels(*shape: int, seed: int = 0, offset: float = 0.0) -> Tensor:
    numbers = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) + offset
    return numbers.bfloat16().contiguous(memory_format=torch.channels_last)


def norm_of(channels: int, seed: int = 1) -> NormReLU:
    norm = NormReLU(channels)
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        norm.weight.uniform_(0.5, 1.5, generator=draw)
        norm.bias.uniform_(-0.5, 0.5, generator=draw)
    return norm


def exact(norm: NormReLU, input: Tensor, shortcut: Tensor | None) -> tuple[Tensor, list[Tensor]]:
    """What the norm should give before the ReLU, in float64, and its leaves: input, weight, bias, short cut."""
    leaves = [one.detach().double().requires_grad_() for one in (input, norm.weight, norm.bias, *([] if shortcut is None else [shortcut]))]
    normalised = F.batch_norm(leaves[0], None, None, leaves[1], leaves[2], training=True, eps=norm.eps)
    return (normalised if shortcut is None else normalised + leaves[3]), leaves


@settings(deadline=None, max_examples=30)
@given(
    images=st.integers(1, 9),
    channels=st.sampled_from([1, 3, 16, 48, 128, 200]),
    side=st.integers(1, 9),
    with_shortcut=st.booleans(),
    offset=st.sampled_from([0.0, 3.0]),
    seed=st.integers(0, 1000),
)
def test_a_training_norm_is_what_float64_says(images: int, channels: int, side: int, with_shortcut: bool, offset: float, seed: int) -> None:
    if images * side * side < 2:
        return  # no variance
    norm = norm_of(channels)
    input = pixels(images, channels, side, side, seed=seed, offset=offset).requires_grad_()
    shortcut = pixels(images, channels, side, side, seed=seed + 1).requires_grad_() if with_shortcut else None
    grad = pixels(images, channels, side, side, seed=seed + 2)
    output = norm(input, shortcut)
    output.backward(grad)

    its, leaves = exact(norm, input, shortcut)
    count = input.numel() // channels
    deviation = leaves[0].detach().var((0, 2, 3), unbiased=False).add(norm.eps).sqrt()[:, None, None]
    # a sum of `count` floats errs by that many roundings at most; every number is divided by the deviation
    slack = 8 * (count + 8) * FLOAT32
    largest = leaves[0].detach().abs().amax() + 1
    within = BFLOAT16 * its.relu().abs() + slack * (largest / deviation + its.abs().amax() + 1)
    assert ((output.double() - its.relu()).abs() <= within).all()

    # where the exact number is near 0 either side of the kink is right, so the gradient's gate is the output's own
    its.backward(grad.double() * (output > 0))
    gradients = [input.grad, norm.weight.grad, norm.bias.grad, *([] if shortcut is None else [shortcut.grad])]
    steepest = leaves[0].grad.abs().amax() + ((leaves[1].detach().abs()[:, None, None] / deviation) * grad.double().abs().amax()).amax()
    bounds = [
        BFLOAT16 * leaves[0].grad.abs() + slack * steepest * (1 + (largest / deviation) ** 2),
        (slack * count * grad.double().abs().amax() * largest / deviation).flatten(),
        slack * count * grad.double().abs().amax(),
        torch.zeros(()),
    ]
    for got, leaf, bound in zip(gradients, leaves, bounds, strict=False):
        assert got is not None and leaf.grad is not None
        assert ((got.double() - leaf.grad).abs() <= bound).all()


def test_running_statistics_follow_as_those_of_pytorch() -> None:
    ours, theirs = norm_of(16), nn.BatchNorm2d(16)
    for seed in range(3):
        input = pixels(4, 16, 5, 5, seed=seed, offset=1.0)
        ours(input), theirs(input.float())
    assert ours.num_batches_tracked == 3
    torch.testing.assert_close(ours.running_mean, theirs.running_mean)
    torch.testing.assert_close(ours.running_var, theirs.running_var)


def test_numbers_that_are_not_finite_are_not_hidden() -> None:
    input = pixels(2, 16, 4, 4)
    input[0, 3, 1, 1] = torch.inf
    output = norm_of(16)(input)
    assert output[:, 3].isnan().any()
    assert output[:, :3].isfinite().all()


@pytest.mark.parametrize("kind", ["float32", "evaluation", "channels_first"])
def test_elsewhere_it_is_pytorchs_own(kind: str) -> None:
    norm, input, shortcut = norm_of(16), pixels(4, 16, 5, 5), pixels(4, 16, 5, 5, seed=1)
    if kind == "float32":
        input, shortcut = input.float(), shortcut.float()
    elif kind == "evaluation":
        norm.eval()
    else:
        input = input.contiguous()
    assert torch.equal(norm(input, shortcut), F.relu(nn.BatchNorm2d.forward(norm, input) + shortcut))


def test_scoring_leaves_no_trace() -> None:
    norm, input = norm_of(16), pixels(4, 16, 5, 5)
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    with hvs.scoring(norm):
        scored = norm(input)
    assert all(torch.equal(value, before[name]) for name, value in norm.state_dict().items())
    assert not scored.requires_grad
    assert torch.equal(scored, norm(input))


@settings(deadline=None, max_examples=30)
@given(
    channels=st.sampled_from([3, 16, 32]),
    out_channels=st.sampled_from([16, 48]),
    side=st.integers(1, 9),
    kernel=st.sampled_from([1, 3]),
    stride=st.sampled_from([1, 2]),
    seed=st.integers(0, 1000),
)
def test_a_convolution_is_pytorchs_and_its_weights_gradient_what_float64_says(
    channels: int, out_channels: int, side: int, kernel: int, stride: int, seed: int
) -> None:
    ours = Convolution(channels, out_channels, kernel, stride)
    theirs = nn.Conv2d(channels, out_channels, kernel, stride, padding=kernel // 2, bias=False)
    theirs.load_state_dict(ours.state_dict())
    images = pixels(5, channels, side, side, seed=seed)
    inputs = [images.clone().requires_grad_() for _ in range(2)]
    with torch.autocast("cpu", torch.bfloat16):
        output, its_output = ours(inputs[0]), theirs(inputs[1])
    grad = pixels(*output.shape, seed=seed + 1)
    output.backward(grad)
    its_output.backward(grad)
    assert torch.equal(output, its_output) and torch.equal(inputs[0].grad, inputs[1].grad)
    if kernel > 1 and output[0, 0].numel() > SMALL_MAP:
        assert torch.equal(ours.weight.grad, theirs.weight.grad)
        return
    weight = ours.weight.detach().double().requires_grad_()
    F.conv2d(images.double(), weight, stride=stride, padding=kernel // 2).backward(grad.double())
    # rounded once, of a float32 sum of so many products, none of which is above 16
    count = output.numel() // out_channels
    bound = BFLOAT16 * weight.grad.abs() + count**2 * FLOAT32 * 16
    assert ((ours.weight.grad.double() - weight.grad).abs() <= bound).all()


def test_a_block_is_torchvisions() -> None:
    from torchvision.models.resnet import BasicBlock as TheirBlock

    shortcut = nn.Sequential(nn.Conv2d(16, 32, 1, 2, bias=False), nn.BatchNorm2d(32))
    theirs, ours = TheirBlock(16, 32, 2, shortcut), BasicBlock(16, 32, 2)
    ours.load_state_dict(theirs.state_dict())
    input = torch.randn(4, 16, 8, 8)
    torch.testing.assert_close(ours(input), theirs(input))
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict())
