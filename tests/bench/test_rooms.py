"""The plan of bench/, read from the source: questions import rooms, a room imports only rooms below it, and nothing goes in a circle."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BENCH = ROOT / "bench"

# A room: the rooms of which its files may import. A file at the top is a question, which imports any room and no other question.
MAY_IMPORT = {
    "measuring": set(),
    "data": set(),
    "gpu_code": {"measuring", "data"},
    "loaders": {"measuring", "data"},
    "pretraining": {"measuring", "data"},
    "selection": {"measuring", "data", "pretraining"},
    "device": {"measuring", "data", "loaders", "pretraining", "selection"},
    "reporting": {"measuring", "pretraining"},
}


def sources() -> dict[str, str]:
    """Source of every module, by the name under which it is imported."""
    return {".".join(path.relative_to(BENCH).with_suffix("").parts): path.read_text() for path in sorted(BENCH.rglob("*.py"))}


def imports_of(source: str, modules: dict[str, str]) -> set[str]:
    """Modules of bench/ that a source imports, at its top or later."""
    named: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            named |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            whole = "." * node.level + (node.module or "")
            named |= {f"{whole}.{alias.name}" if f"{whole}.{alias.name}" in modules else whole for alias in node.names}
    return {name for name in named if name in modules or name.partition(".")[0] in ("harness", "")}


def broken_rules(modules: dict[str, str]) -> list[str]:
    """One line for every breach in a tree of modules."""
    graph = {name: imports_of(source, modules) for name, source in modules.items()}
    breaches = [
        f"{name}: {why}" for name, imported in graph.items() for other in sorted(imported) for why in breach_of(name, other, modules)
    ]
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        breaches.append(f"{' -> '.join(error.args[1])}: a circle")
    return breaches


def breach_of(importer: str, imported: str, modules: dict[str, str]) -> list[str]:
    room, other = (name.split(".")[1] if name.startswith("harness.") else None for name in (importer, imported))
    if imported not in modules:
        return [f"imports {imported}, which is no file of bench/; name the file, from harness down"]
    if room is not None and room not in MAY_IMPORT and room != "__init__":
        return [f"{room} is a room without rules; add it to MAY_IMPORT"]
    if other is None:
        return [f"imports the question {imported}; move what both need into a room"]
    if room is not None and other != room and other not in MAY_IMPORT.get(room, set()):
        return [f"{room} must not import from {other}"]
    return []


def test_arrows_point_down_and_nothing_goes_in_a_circle() -> None:
    modules = sources()
    assert {"pretrain", "harness.measuring.timing"} <= set(modules)
    assert broken_rules(modules) == []


TREE = {
    "speed": "from harness.measuring import timing\nfrom harness.reporting.tables import table",
    "harness.measuring.timing": "import time",
    "harness.pretraining.runs": "from harness.measuring.timing import Spread",
    "harness.reporting.tables": "from harness.pretraining import runs",
    "harness.selection.costs": "import torch\nfrom harness.selection.settings import EXACT",
    "harness.selection.settings": "",
}


def test_a_tree_that_keeps_the_rules_passes() -> None:
    assert broken_rules(TREE) == []


@pytest.mark.parametrize(
    ("module", "source", "breach"),
    [
        ("cost", "import speed", "imports the question speed"),
        ("harness.selection.settings", "def late():\n    import speed", "imports the question speed"),
        ("harness.measuring.timing", "from harness.reporting.tables import table", "measuring must not import from reporting"),
        ("harness.pretraining.runs", "from harness.selection import settings", "pretraining must not import from selection"),
        ("harness.selection.settings", "def late():\n    from harness.selection.costs import cost", "a circle"),
        ("harness.kitchen.stove", "import harness.measuring.timing", "a room without rules"),
        ("harness.measuring.timing", "from .missing import name", "no file of bench/"),
        ("speed", "from harness.measuring.missing import name", "no file of bench/"),
    ],
)
def test_a_breach_is_found(module: str, source: str, breach: str) -> None:
    assert any(breach in line for line in broken_rules({**TREE, module: source}))


def test_every_room_has_its_rules_and_its_line_on_the_map() -> None:
    rooms = {path.parent.name for path in BENCH.glob("harness/*/__init__.py")}
    assert rooms == set(MAY_IMPORT)
    listed = re.findall(r"^(\w+):", (BENCH / "harness" / "__init__.py").read_text(), flags=re.M)
    assert set(listed) == rooms
    # no room imports one that comes after it
    assert all(listed.index(other) < listed.index(room) for room, others in MAY_IMPORT.items() for other in others)


def test_every_question_is_in_the_readme_with_its_command() -> None:
    questions = {path.name for path in BENCH.glob("*.py")}
    assert set(re.findall(r"(?<!tests/)bench/(\w+\.py)", (BENCH / "README.md").read_text())) == questions


def test_tests_lie_where_the_files_lie_that_they_test() -> None:
    here = Path(__file__).parent
    tests = [path.relative_to(here) for path in here.rglob("test_*.py") if path != Path(__file__)]
    assert [path for path in tests if not (BENCH / path.with_name(path.name.removeprefix("test_"))).exists()] == []


def test_tests_that_come_before_times_exist() -> None:
    for path in BENCH.glob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "TESTS":
                assert [named for named in ast.literal_eval(node.value) if "/" in named and not (ROOT / named).exists()] == [], path.name


def test_no_name_hides_a_package() -> None:
    # bench/ comes first on the path of what is run from it
    roots = {name.partition(".")[0] for name in sources()}
    assert roots & (set(importlib.metadata.packages_distributions()) | set(sys.stdlib_module_names)) == set()
