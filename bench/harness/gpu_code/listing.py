"""Machine code as text: what nvdisasm and cuobjdump, which come with Triton, tell of a compiled kernel."""

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

TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
STEP = 16  # bytes of an instruction


@dataclass(frozen=True)
class Operand:
    """One operand, as it is written.

    Attributes:
        kind: "register", "predicate", "number", "constant" (in a bank), "memory", "special" or "barrier".
        index: of a register, uniform ones counted from ``UNIFORM`` on; a bank's number; -1 for the register that is always 0.
        text: the number, the special register's name, or what kind of register an address is built of.
        offset: bytes, of a constant or an address.
        parts: registers of an address: (index, 64 bits).
    """

    kind: str
    index: int = -1
    text: str = ""
    offset: int = 0
    parts: tuple[tuple[int, bool], ...] = ()
    negative: bool = False
    absolute: bool = False
    inverted: bool = False
    selected: str = ""


UNIFORM = 256  # registers of a warp follow those of its threads
UNIFORM_PREDICATES = 8


@dataclass(frozen=True)
class Instruction:
    """One instruction.

    Attributes:
        name, modifiers: as in IMAD and WIDE, U32; of a uniform instruction without its U.
        uniform: it is one of the whole warp.
        guard: predicate without which it does nothing.
        target: address to jump to.
        line: file and line of the source.
    """

    address: int
    text: str
    name: str
    modifiers: tuple[str, ...]
    uniform: bool
    guard: Operand | None
    operands: tuple[Operand, ...]
    target: int | None
    line: tuple[str, int]


@dataclass(frozen=True)
class Code:
    """A compiled kernel.

    Attributes:
        instructions: by address, STEP bytes apart, from 0 on.
        registers, stack, shared: of a thread; bytes of a thread; bytes of a program that are known at compile time.
        banks: constant memory by bank, as it comes with the code.
        parameters: bytes from the beginning of bank 0 at which each argument lies.
    """

    kernel: str
    instructions: tuple[Instruction, ...]
    registers: int
    stack: int
    banks: Mapping[int, bytes]
    parameters: tuple[int, ...]


@cache
def read(cubin: bytes) -> Code:
    """Disassemble a kernel."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(cubin)
        usage = _output("cuobjdump", "-res-usage", str(path))
        listing = _output("nvdisasm", "-c", "-g", str(path))
    found = re.search(r"Function (\S+):\s+REG:(\d+) STACK:(\d+).*LOCAL:(\d+)", usage)
    if found is None:
        raise ValueError(f"expected a kernel's resources from cuobjdump, got {usage!r}")
    name, registers, stack, local = found[1], *map(int, found.groups()[1:])
    banks, parameters = _sections(cubin, name)
    return Code(name, _instructions(listing), registers, stack + local, banks, parameters)


def _output(tool: str, *arguments: str) -> str:
    done = subprocess.run([str(TOOLS / tool), *arguments], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{tool} failed: {done.stderr}")
    return done.stdout


def _sections(cubin: bytes, kernel: str) -> tuple[dict[int, bytes], tuple[int, ...]]:
    """Constant banks that come with the code, and where each argument lies in bank 0."""
    (start,) = struct.unpack_from("<Q", cubin, 40)
    size, count, names = struct.unpack_from("<HHH", cubin, 58)
    headers = [struct.unpack_from("<IIQQQQIIQQ", cubin, start + size * number) for number in range(count)]
    content = {}
    for name, kind, _, _, offset, length, *_ in headers:
        begin = headers[names][4] + name
        content[cubin[begin : cubin.index(b"\0", begin)].decode()] = b"" if kind == 8 else cubin[offset : offset + length]
    banks = {int(found[1]): data for name, data in content.items() if (found := re.fullmatch(rf"\.nv\.constant(\d)\.{kernel}", name))}
    info, at, base, offsets = content[f".nv.info.{kernel}"], 0, 0, {}
    while at < len(info):
        form, attribute, length = struct.unpack_from("<BBH", info, at)
        at += 4
        if form != 4:
            continue
        if attribute == 0x0A:
            (base,) = struct.unpack_from("<H", info, at + 4)
        elif attribute == 0x17:
            ordinal, offset = struct.unpack_from("<HH", info, at + 4)
            offsets[ordinal] = offset
        at += length
    return banks, tuple(base + offsets[ordinal] for ordinal in range(len(offsets)))


def _instructions(listing: str) -> tuple[Instruction, ...]:
    labels: dict[str, int] = {}
    found: list[tuple[int, str, tuple[str, int]]] = []
    waiting: list[str] = []
    line = ("", 0)
    for text in listing.splitlines():
        if label := re.match(r"\s*([.$\w]+):\s*$", text):
            waiting.append(label[1])
        elif source := re.match(r'\s*//## File "([^"]*)", line (\d+)', text):
            line = (Path(source[1]).name, int(source[2]))
        elif code := re.match(r"\s*/\*([0-9a-f]{4,})\*/\s+(.*?)\s*;", text):
            address = int(code[1], 16)
            labels.update(dict.fromkeys(waiting, address))
            waiting = []
            found.append((address, code[2], line))
    if [address for address, _, _ in found] != [STEP * position for position in range(len(found))]:
        raise ValueError("expected one function's instructions side by side")
    return tuple(_instruction(address, text, line, labels) for address, text, line in found)


def _instruction(address: int, text: str, line: tuple[str, int], labels: Mapping[str, int]) -> Instruction:
    text = re.sub(r"\(\*.*?\*\)", "", text).strip()
    guarded = re.match(r"@(!?U?P\w+)\s+(.*)", text)
    guard, rest = (operand(guarded[1]), guarded[2]) if guarded else (None, text)
    head, _, tail = rest.partition(" ")
    name, *modifiers = head.split(".")
    uniform = name.startswith("U") and name not in ("UBLKCP", "UTMALDG", "UTMASTG")
    target, operands = None, []
    # a space divides the last two operands of BRX
    for piece in filter(None, (part.strip() for part in re.split(r",(?![^\[]*\])", tail))):
        if label := re.search(r"`\((.*)\)", piece):
            target = labels.get(label[1], 0)
            piece = piece[: label.start()].strip()
        operands += [operand(part) for part in piece.split()]
    return Instruction(address, text, name[1:] if uniform else name, tuple(modifiers), uniform, guard, tuple(operands), target, line)


def operand(text: str) -> Operand:
    """One operand from its text."""
    whole, text = text, text.replace(".reuse", "")
    inverted = text[:1] in ("!", "~")
    text = text[1:] if inverted else text
    negative = bool(re.match(r"-(?=[|RUc])", text))
    text = text[1:] if negative else text
    absolute = text.startswith("|")
    text = text.strip("|")
    signs = {"negative": negative, "absolute": absolute, "inverted": inverted}
    if register := re.fullmatch(r"(U?)R(Z|\d+)(?:\.([\w.]+))?", text):
        return Operand("register", _index(register[1], register[2]), selected=register[3] or "", **signs)
    if predicate := re.fullmatch(r"(U?)P(T|\d)", text):
        number = 7 if predicate[2] == "T" else int(predicate[2])
        return Operand("predicate", number + (UNIFORM_PREDICATES if predicate[1] else 0), **signs)
    if constant := re.fullmatch(r"c\[(0x\w+|UR\d+)\]\[(.*)\]", text):
        parts, offset = _address(constant[2])
        return Operand("constant", int(constant[1], 16), offset=offset, parts=parts, **signs)
    if memory := re.fullmatch(r"(?:desc\[(\w+)\])?\[(.*)\]", text):
        parts, offset = _address(memory[2])
        return Operand("memory", offset=offset, parts=parts)
    if text.startswith("SR"):
        return Operand("special", text=text)
    if re.fullmatch(r"B\d+", text):
        return Operand("barrier", int(text[1:]))
    if re.fullmatch(r"[-+]?(?:0x[0-9a-f]+|\d+(?:\.\d*)?(?:e[-+]?\d+)?|INF|QNAN|SNAN)", text):
        return Operand("number", text=text, **signs)
    return Operand("unknown", text=whole)


def _index(uniform: str, number: str) -> int:
    return -1 if number == "Z" else int(number) + (UNIFORM if uniform else 0)


def _address(text: str) -> tuple[tuple[tuple[int, bool], ...], int]:
    """Registers and the constant of which an address is the sum."""
    parts, offset = [], 0
    for piece in text.replace("-", "+-").split("+"):
        if register := re.fullmatch(r"(U?)R(Z|\d+)(\.\w+)?(?:\.X\d+)?", piece.strip()):
            if register[2] != "Z":
                parts.append((_index(register[1], register[2]), (register[3] or "").startswith(".64")))
        elif piece.strip():
            offset += int(piece, 16)
    return tuple(parts), offset
