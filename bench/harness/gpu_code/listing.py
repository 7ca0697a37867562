"""Machine code of NVIDIA's GPUs as text, as nvdisasm writes it, taken apart."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

STEP = 16  # bytes of an instruction
UNIFORM = 256  # registers of a warp follow those of its threads
UNIFORM_PREDICATES = 8  # and so do its predicates

_NUMBER = re.compile(r"[-+]?(?:0x[0-9a-f]+|\d+(?:\.\d*)?(?:e[-+]?\d+)?|INF|QNAN|SNAN)")
_REGISTER = re.compile(r"(U?)R(Z|\d+)(?:\.([\w.]+))?")
_PREDICATE = re.compile(r"(U?)P(T|\d)")
_CONSTANT = re.compile(r"c\[(0x\w+)\]\[(.*)\]")
_MEMORY = re.compile(r"(?:desc\[\w+\])?\[(.*)\]")
_OF_ADDRESS = re.compile(r"(U?)R(Z|\d+)(?:\.(64|U32))?(?:\.X(\d+))?")


@dataclass(frozen=True)
class Operand:
    """One operand, as it is written.

    Attributes:
        kind: "register", "predicate", "number", "constant", "memory", "special" register, "barrier", or "unknown".
        index: of a register or predicate, ``UNIFORM`` more for a uniform one, or of a barrier or a constant's bank; -1 for the register
            that is always 0.
        text: the number, or the name.
        offset: bytes, of a constant or an address.
        parts: registers of an address: index, whether it is one of two that hold 64 bits, factor.
        negative, absolute, inverted: -R1, |R1|, and ~R1 or !P1.
        selected: part of a register, as in R1.H1.
    """

    kind: str
    index: int = -1
    text: str = ""
    offset: int = 0
    parts: tuple[tuple[int, bool, int], ...] = ()
    negative: bool = False
    absolute: bool = False
    inverted: bool = False
    selected: str = ""


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


def instructions(listing: str) -> tuple[Instruction, ...]:
    """Instructions of a listing of one function, ``STEP`` bytes apart.

    Raises:
        ValueError: the listing is of another form.
    """
    labels: dict[str, int] = {}
    found: list[tuple[int, str, tuple[str, int]]] = []
    line = ("", 0)
    for text in listing.splitlines():
        if label := re.match(r"\s*([.$\w]+):\s*$", text):
            labels[label[1]] = STEP * len(found)
        elif source := re.match(r'\s*//## File "([^"]*)", line (\d+)', text):
            line = (Path(source[1]).name, int(source[2]))
        elif code := re.match(r"\s*/\*([0-9a-f]{4,})\*/\s+(.*?)\s*;", text):
            found.append((int(code[1], 16), code[2], line))
    if [address for address, *_ in found] != [STEP * position for position in range(len(found))]:
        raise ValueError(f"expected a function's instructions {STEP} bytes apart, got others")
    return tuple(_instruction(address, text, line, labels) for address, text, line in found)


def _instruction(address: int, text: str, line: tuple[str, int], labels: Mapping[str, int]) -> Instruction:
    text = re.sub(r"\s*\(\*.*?\*\)", "", text)
    guard, rest = None, text
    if guarded := re.match(r"@(\S+)\s+(.*)", text):
        guard, rest = operand(guarded[1]), guarded[2]
    head, _, tail = rest.partition(" ")
    name, *modifiers = head.split(".")
    uniform = name.startswith("U")
    target, operands = None, []
    for piece in filter(None, (part.strip() for part in re.split(r",(?![^\[]*\])", tail))):
        if label := re.search(r"`\((.*)\)", piece):
            target = labels.get(label[1])
            piece = piece[: label.start()]
        # BRX has a space between its two
        operands += [operand(part) for part in piece.split()]
    return Instruction(address, text, name[1:] if uniform else name, tuple(modifiers), uniform, guard, tuple(operands), target, line)


def operand(text: str) -> Operand:
    """One operand from its text."""
    rest = text.replace(".reuse", "")
    inverted = rest[:1] in ("!", "~")
    rest = rest[1:] if inverted else rest
    negative = rest[:1] == "-" and not _NUMBER.fullmatch(rest)
    rest = rest[1:] if negative else rest
    absolute = rest.startswith("|")
    signs = {"negative": negative, "absolute": absolute, "inverted": inverted}
    rest = rest.replace("|", "")
    if register := _REGISTER.fullmatch(rest):
        return Operand("register", _index(register[1], register[2]), selected=register[3] or "", **signs)
    if predicate := _PREDICATE.fullmatch(rest):
        number = UNIFORM_PREDICATES - 1 if predicate[2] == "T" else int(predicate[2])
        return Operand("predicate", number + (UNIFORM_PREDICATES if predicate[1] else 0), **signs)
    if constant := _CONSTANT.fullmatch(rest):
        parts, offset = _address(constant[2])
        return Operand("constant", int(constant[1], 16), offset=offset, parts=parts, **signs)
    if memory := _MEMORY.fullmatch(rest):
        parts, offset = _address(memory[1])
        return Operand("memory", offset=offset, parts=parts)
    if rest.startswith("SR"):
        return Operand("special", text=rest)
    if barrier := re.fullmatch(r"B(\d+)", rest):
        return Operand("barrier", int(barrier[1]))
    if rest == "PR":  # all predicates
        return Operand("special", text=rest)
    return Operand("number" if _NUMBER.fullmatch(rest) else "unknown", text=rest, **signs)


def _index(uniform: str, number: str) -> int:
    return -1 if number == "Z" else int(number) + (UNIFORM if uniform else 0)


def _address(text: str) -> tuple[tuple[tuple[int, bool, int], ...], int]:
    """Registers and the constant of which an address is the sum."""
    parts, offset = [], 0
    for piece in filter(None, text.replace("-", "+-").split("+")):
        if register := _OF_ADDRESS.fullmatch(piece):
            if register[2] != "Z":
                parts.append((_index(register[1], register[2]), register[3] == "64", int(register[4] or 1)))
        else:
            offset += int(piece, 16)
    return tuple(parts), offset
