"""torch's functions that seed, read and set the process' generators: for a thread with a stream, those of the stream.

Datasets that augment an image and its mask alike call ``torch.manual_seed(seed)`` before each, and ``fork_rng`` reads and sets states.
On a loader's thread that would seed the trainer's generators, or roll them back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from hvs_data.drawing.numbers import Numbers

_CPU = torch.device("cpu")

Own = Callable[[Numbers], Callable[..., Any]]


def _device(device: Any) -> torch.device:
    return torch.device("cuda", device) if isinstance(device, int) else torch.device(device)


def _seed_all(numbers: Numbers) -> Callable[[], int]:
    def seed() -> int:
        number = numbers.new_seed()
        numbers.seed_torch(number)
        return number

    return seed


def _set_state(numbers: Numbers) -> Callable[..., None]:
    def set_rng_state(new_state: Tensor, device: Any = _CPU) -> None:
        numbers.torch_on(_device(device)).set_state(new_state)

    return set_rng_state


def _set_cuda_state(numbers: Numbers) -> Callable[..., None]:
    set_state = _set_state(numbers)
    return lambda new_state, device="cuda": set_state(new_state, device)


OF_TORCH: dict[str, Own] = {
    "manual_seed": lambda numbers: numbers.seed_torch,
    "seed": _seed_all,
    "initial_seed": lambda numbers: numbers.torch_on(_CPU).initial_seed,
    "get_rng_state": lambda numbers: numbers.torch_on(_CPU).get_state,
    "set_rng_state": _set_state,
}
OF_CUDA: dict[str, Own] = {
    "manual_seed": lambda numbers: numbers.seed_torch,
    "manual_seed_all": lambda numbers: numbers.seed_torch,
    "get_rng_state": lambda numbers: lambda device="cuda": numbers.torch_on(_device(device)).get_state(),
    "set_rng_state": _set_cuda_state,
}
