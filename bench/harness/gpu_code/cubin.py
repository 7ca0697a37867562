"""A compiled kernel's file, read with the tools that come with Triton: its machine code, its registers, its constants."""

from __future__ import annotations

import re
import struct
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import triton

from harness.gpu_code import listing
from harness.gpu_code.listing import Instruction

TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
# Of the file's notes on a kernel: one with a length, where arguments begin in constant memory, and where one of them lies.
_SIZED, _ARGUMENTS, _ARGUMENT = 0x04, 0x0A, 0x17
_EMPTY = 8  # kind of a section that takes no room in the file


@dataclass(frozen=True)
class Code:
    """A compiled kernel.

    Attributes:
        registers: of a thread.
        spilled: bytes of memory that a thread keeps for lack of registers.
        banks: constant memory by bank, as it comes with the code.
        arguments: bytes from the beginning of bank 0 at which each argument lies.
    """

    kernel: str
    instructions: tuple[Instruction, ...]
    registers: int
    spilled: int
    banks: Mapping[int, bytes]
    arguments: tuple[int, ...]


@cache
def read(cubin: bytes) -> Code:
    """Take a compiled kernel apart.

    Raises:
        ValueError: it is of another form.
        RuntimeError: a tool failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(cubin)
        usage = _output("cuobjdump", "-res-usage", str(path))
        text = _output("nvdisasm", "-c", "-g", str(path))
    found = re.search(r"Function (\S+):\s+REG:(\d+) STACK:(\d+).*LOCAL:(\d+)", usage)
    if found is None:
        raise ValueError(f"expected a kernel's resources from cuobjdump, got {usage!r}")
    sections = _sections(cubin)
    banks = {int(bank[1]): data for name, data in sections.items() if (bank := re.fullmatch(rf"\.nv\.constant(\d)\.{found[1]}", name))}
    arguments = _arguments(sections[f".nv.info.{found[1]}"])
    return Code(found[1], listing.instructions(text), int(found[2]), int(found[3]) + int(found[4]), banks, arguments)


def _output(tool: str, *arguments: str) -> str:
    done = subprocess.run([str(TOOLS / tool), *arguments], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{tool} failed: {done.stderr}")
    return done.stdout


def _sections(cubin: bytes) -> dict[str, bytes]:
    """Content of an ELF file's sections, by name."""
    (start,) = struct.unpack_from("<Q", cubin, 40)
    size, count, names = struct.unpack_from("<HHH", cubin, 58)
    headers = [struct.unpack_from("<IIQQQQ", cubin, start + size * number) for number in range(count)]
    content = {}
    for name, kind, _, _, offset, length in headers:
        begin = headers[names][4] + name
        content[cubin[begin : cubin.index(b"\0", begin)].decode()] = b"" if kind == _EMPTY else cubin[offset : offset + length]
    return content


def _arguments(notes: bytes) -> tuple[int, ...]:
    """Where each argument lies in bank 0."""
    at, base, offsets = 0, 0, {}
    while at < len(notes):
        form, attribute, length = struct.unpack_from("<BBH", notes, at)
        at += 4
        if form != _SIZED:
            continue
        if attribute == _ARGUMENTS:
            (base,) = struct.unpack_from("<H", notes, at + 4)
        elif attribute == _ARGUMENT:
            ordinal, offset = struct.unpack_from("<HH", notes, at + 4)
            offsets[ordinal] = offset
        at += length
    return tuple(base + offsets[ordinal] for ordinal in range(len(offsets)))
