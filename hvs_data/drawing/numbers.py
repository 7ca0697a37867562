"""The random numbers of one view or sample."""

from __future__ import annotations

import hashlib
import random
import struct
import threading

import numpy as np
import torch

from hvs_data.errors import HvsError


class Numbers:
    """Streams of random numbers that depend on an identity alone: one for each library, begun when it is first drawn from.

    Args:
        identity: whole numbers from 0 to 2**64 - 1; None where it is not known, which makes drawing an error.
    """

    __slots__ = ("_children", "_closed", "_identity", "_numpy", "_python", "_rng", "_torch", "_torch_seed")

    def __init__(self, identity: tuple[int, ...] | None):
        self._identity = identity
        self._torch: dict[torch.device, torch.Generator] = {}
        self._torch_seed: int | None = None
        self._numpy: np.random.RandomState | None = None
        self._rng: np.random.Generator | None = None
        self._python: random.Random | None = None
        self._children = 0
        self._closed = False

    def torch_on(self, device: torch.device) -> torch.Generator:
        """The generator of torch's operators on a device."""
        if device.type == "cuda" and device.index is None:
            device = torch.device("cuda", torch.cuda.current_device())
        generator = self._torch.get(device)
        if generator is None:
            seed = self._seed(b"torch") if self._torch_seed is None else self._torch_seed
            generator = self._torch[device] = torch.Generator(device).manual_seed(seed)
        return generator

    def seed_torch(self, seed: int) -> torch.Generator:
        """In place of ``torch.manual_seed``: for this stream, on all devices."""
        self._torch_seed = int(seed)
        for generator in self._torch.values():
            generator.manual_seed(self._torch_seed)
        return self.torch_on(torch.device("cpu"))

    def new_seed(self) -> int:
        """64 bits, others at every call."""
        self._children += 1
        return self._seed(b"seed", self._children)

    @property
    def numpy(self) -> np.random.RandomState:
        """In place of the one behind ``numpy.random.rand`` and its like."""
        if self._numpy is None:
            seed = self._seed(b"numpy")
            # making one takes ten times as long as seeding it
            self._numpy = HERE.spare.pop() if HERE.spare else np.random.RandomState(0)
            self._numpy.seed([seed & 0xFFFFFFFF, seed >> 32])
        return self._numpy

    @property
    def drawn(self) -> bool:
        """Whether any of the streams was begun."""
        begun = (self._numpy, self._rng, self._python, self._torch_seed)
        return bool(self._torch or self._children or self._closed) or any(stream is not None for stream in begun)

    def close(self) -> None:
        """Let what can be used again go to this thread's next streams."""
        if self._numpy is not None:
            self._closed = True
            HERE.spare.append(self._numpy)
            self._numpy = None

    def new_random_state(self) -> np.random.RandomState:
        """A generator of numpy's older kind, for a parameter that asks for one."""
        self._children += 1
        return np.random.RandomState(self._seed(b"state", self._children) & 0xFFFFFFFF)

    @property
    def rng(self) -> np.random.Generator:
        """What a parameter ``rng`` is given."""
        if self._rng is None:
            self._rng = np.random.default_rng(self._seed(b"rng"))
        return self._rng

    @property
    def python(self) -> random.Random:
        """In place of the one behind ``random.random`` and its like."""
        if self._python is None:
            self._python = random.Random(self._seed(b"python"))
        return self._python

    def new_rng(self) -> np.random.Generator:
        """A further generator, for ``numpy.random.default_rng()``: another one at every call."""
        self._children += 1
        return np.random.default_rng(self._seed(b"new", self._children))

    def _seed(self, purpose: bytes, number: int = 0) -> int:
        """64 bits that differ between identities, purposes and numbers."""
        if self._identity is None:
            raise HvsError(
                "expected rows with a key, which tells what a stage draws for each view, got rows without one; draw the rows with "
                "hvs_data.sample_views, or give them a key: dataclasses.replace(params, key=...), int64 [B, V]"
            )
        content = struct.pack(f"<{len(self._identity) + 1}Q", *self._identity, number)
        return int.from_bytes(hashlib.blake2b(content, digest_size=8, person=purpose).digest(), "little")


class _Here(threading.local):
    numbers: Numbers | None = None

    def __init__(self) -> None:
        self.spare: list[np.random.RandomState] = []


HERE = _Here()  # the numbers of what this thread is at; None for the process' own generators
