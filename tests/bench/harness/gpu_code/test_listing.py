"""Operands and instructions as nvdisasm writes them."""

from __future__ import annotations

import pytest

from harness.gpu_code.listing import UNIFORM, UNIFORM_PREDICATES, Operand, instructions, operand

LISTING = """
	.section	.text.kernel,"ax",@progbits
kernel:
.text.kernel:
	//## File "/somewhere/kernel.py", line 12
        /*0000*/                   LDC R1, c[0x0][0x28] ;
        /*0010*/              @!P0 BRA `(.L_x_1) ;
	//## File "/somewhere/else.py", line 3 inlined at "/somewhere/kernel.py", line 13
.L_x_0:
        /*0020*/                   UIADD3 UR4, UP0, -UR4, 0x8, URZ ;
        /*0030*/               @P1 BRA `(.L_x_0) ;
.L_x_1:
        /*0040*/                   BRX R18 -0x50                                     (*"BRANCH_TARGETS .L_x_0,.L_x_1"*);
"""


def test_instructions_know_their_place() -> None:
    load, out, add, back, anywhere = instructions(LISTING)
    assert [its.line for its in (load, out, add, back)] == [("kernel.py", 12), ("kernel.py", 12), ("else.py", 3), ("else.py", 3)]
    assert (load.name, load.guard, load.address) == ("LDC", None, 0)
    assert (out.name, out.guard, out.target) == ("BRA", Operand("predicate", 0, inverted=True), 0x40)
    assert (add.name, add.uniform, len(add.operands)) == ("IADD3", True, 5)
    assert back.target == 0x20
    assert [its.kind for its in anywhere.operands] == ["register", "number"]


def test_instructions_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match="16 bytes apart"):
        instructions("/*0000*/ NOP ;\n/*0008*/ NOP ;")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("R12.reuse", Operand("register", 12)),
        ("-|R3|", Operand("register", 3, negative=True, absolute=True)),
        ("~UR5", Operand("register", UNIFORM + 5, inverted=True)),
        ("RZ", Operand("register", -1)),
        ("R55.H1", Operand("register", 55, selected="H1")),
        ("-R38.reuse.F32x2.HI_LO", Operand("register", 38, negative=True, selected="F32x2.HI_LO")),
        ("!UPT", Operand("predicate", UNIFORM_PREDICATES + 7, inverted=True)),
        ("-0x2140", Operand("number", text="-0x2140")),
        ("1.525902189314365387e-05", Operand("number", text="1.525902189314365387e-05")),
        ("-INF", Operand("number", text="-INF")),
        ("c[0x0][0x210]", Operand("constant", 0, offset=0x210)),
        ("-c[0x2][R2+0x4]", Operand("constant", 2, offset=4, parts=((2, False, 1),), negative=True)),
        ("desc[UR6][R10.64+-0xc]", Operand("memory", offset=-12, parts=((10, True, 1),))),
        ("[R3.X4+UR5+0x10]", Operand("memory", offset=16, parts=((3, False, 4), (UNIFORM + 5, False, 1)))),
        ("SR_CTAID.X", Operand("special", text="SR_CTAID.X")),
        ("B1", Operand("barrier", 1)),
        ("gdesc[UR4]", Operand("unknown", text="gdesc[UR4]")),
    ],
)
def test_operands(text: str, expected: Operand) -> None:
    assert operand(text) == expected
