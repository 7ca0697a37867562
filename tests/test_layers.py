"""The layer rule, read from the source: an import only ever points down, and heavy packages load when they are used."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("hvs_data", "kernels", "pipelines")

# Rooms by layer: each a module at the top or a folder with all that lies in it. docs/architecture.md gives the reasons. A module in no room
# fails the test: give it one, here and there.
LAYERS = {
    0: ("errors", "types", "arguments", "threads", "drawing"),
    1: ("recipes", "formats"),
    2: ("sources",),
    3: ("kernels",),
    4: ("rows", "rules"),
    5: ("pipelines",),
    6: ("modules",),
    7: ("objectives",),
    8: ("forwards",),
    9: ("policies", "selection"),
    10: ("loaders", "monitoring", "evaluation"),
    11: ("integrations", "demo", "checking", "packing", "commands"),
}
LAYER_OF = {f"hvs_data.{room}": layer for layer, rooms in LAYERS.items() for room in rooms}
TOP = max(LAYERS)
# The kernels know nothing but arrays, and what selects knows nothing of files and pixels. All others import what lies below them.
_PIXELS, _CHOICE = {2, 5}, {6, 7, 8, 9}
MAY_IMPORT = {layer: set(range(layer + 1)) for layer in LAYERS}
MAY_IMPORT |= {3: {0, 3}, 5: {0, 1, 2, 3, 4, 5}} | {layer: set(range(layer + 1)) - _PIXELS for layer in _CHOICE}

# Implementations of one operation, told by the first word of a folder or file below kernels or pipelines, and the packages that each
# may import at its top. They are imported at the top by nothing but themselves, so that those packages load when they are used.
_RENDERS = (LAYER_OF["hvs_data.kernels"], LAYER_OF["hvs_data.pipelines"])
BACKENDS = {"reference": set(), "numba": {"numba", "llvmlite"}, "triton": {"triton"}, "dali": {"nvidia", "kornia"}}
# What runs on the host beside a backend's kernels may be compiled by Numba, too.
HOST_CODE = ("triton", "hvs_data.kernels.numba_compile")
ANYWHERE = {"torch", "numpy"} | set(sys.stdlib_module_names)
DECODERS = {"PIL", "simplejpeg"}  # installed with the package, and needed by all that is decoded


@dataclass(frozen=True)
class Import:
    """One imported thing: `name` of `module`, or the module itself."""

    module: str
    name: str | None
    at_top: bool
    line: int


def house() -> dict[str, str]:
    """Source of every module, by the name under which it is imported."""
    modules = {}
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            if folder == "hvs_data" and parts[1] in FOLDERS:
                continue  # the symlinks
            name = ".".join(parts if parts[-1] != "__init__" else parts[:-1])
            modules[name if folder == "hvs_data" else f"hvs_data.{name}"] = path.read_text()
    return modules


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def statements(node: ast.AST, for_types: bool, at_top: bool = True) -> Iterator[tuple[ast.AST, bool]]:
    """Every node, and whether it runs when the module is imported; what only type checkers see is left out unless it is asked for."""
    for child in ast.iter_child_nodes(node):
        if is_type_checking(child) and not for_types:
            continue
        yield child, at_top
        yield from statements(child, for_types, at_top and not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)))


def imports_of(module: str, source: str, is_package: bool, for_types: bool = False) -> list[Import]:
    found = []
    for node, at_top in statements(ast.parse(source), for_types):
        if isinstance(node, ast.Import):
            found += [Import(alias.name, None, at_top, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = module.split(".")[: len(module.split(".")) - node.level + is_package] if node.level else []
            target = ".".join([*base, *([node.module] if node.module else [])])
            found += [Import(target, alias.name, at_top, node.lineno) for alias in node.names]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module") and isinstance(node.args[0], ast.Constant):
            found.append(Import(str(node.args[0].value), None, at_top, node.lineno))
    return found


def room_of(module: str) -> str:
    return ".".join(module.split(".")[:2])


def circles(edges: dict[str, set[str]]) -> list[list[str]]:
    """Groups of names each of which can be reached from each other one."""

    def reach(start: str) -> set[str]:
        found: set[str] = set()
        waiting = [start]
        while waiting:
            for target in edges.get(waiting.pop(), set()) - found:
                found.add(target)
                waiting.append(target)
        return found

    reached = {name: reach(name) for name in edges}
    groups = {tuple(sorted(other for other in reached[name] if name in reached.get(other, ()))) for name in edges if name in reached[name]}
    return sorted(map(list, groups))


def edges_of(modules: dict[str, str]) -> dict[str, set[str]]:
    """Which modules each one imports, at its top, in a function, or for type checkers alone."""
    packages = {name.rpartition(".")[0] for name in modules}
    edges = {}
    for name, source in modules.items():
        imports = imports_of(name, source, name in packages, for_types=True)
        targets = {f"{found.module}.{found.name}" if f"{found.module}.{found.name}" in modules else found.module for found in imports}
        edges[name] = {target for target in targets if target in modules and target != name}
    return edges


def layer_of(module: str) -> int | None:
    return next((layer for name, layer in LAYER_OF.items() if f"{module}.".startswith(f"{name}.")), None)


def backend_of(module: str) -> str | None:
    words = [part.partition("_")[0] for part in module.split(".")[2:]] if layer_of(module) in _RENDERS else []
    return next((word for word in words if word in BACKENDS), None)


def may_load_at_top(module: str) -> set[str]:
    """Packages that this module may import at its top, besides ours."""
    layer, backend = layer_of(module), backend_of(module)
    allowed = ANYWHERE | (BACKENDS[backend] if backend else set())
    return allowed | DECODERS if layer == LAYER_OF["hvs_data.pipelines"] else allowed


def broken_rules(modules: dict[str, str]) -> list[str]:
    """One line for every breach of the layer rule in a tree of modules."""
    packages = {name.rpartition(".")[0] for name in modules}
    imports = {name: imports_of(name, source, name in packages) for name, source in modules.items()}
    # the face maps public names to modules and is nobody's dependency
    inner = [name for name in modules if name != "hvs_data"]
    breaches = []
    for importer in inner:
        layer = layer_of(importer)
        if layer is None:
            breaches.append(f"{importer}: has no layer; add it to LAYER_OF")
            continue
        for imported in imports[importer]:
            breaches += [f"{importer}:{imported.line}: {why}" for why in breaches_of(importer, layer, imported, imports)]
    return breaches


def breaches_of(importer: str, layer: int, imported: Import, imports: dict[str, list[Import]]) -> Iterator[str]:
    """What is wrong with one import; `imports` has an entry for every module of the tree."""
    backend = backend_of(importer)
    submodule = f"{imported.module}.{imported.name}"
    target = submodule if submodule in imports else imported.module
    package = target.partition(".")[0]
    if package in ("kernels", "pipelines"):
        yield f"imports {target} as a top-level module; it is hvs_data.{target}"
    elif package != "hvs_data":
        free = layer == TOP and room_of(importer) != "hvs_data.commands"
        if imported.at_top and not free and package not in may_load_at_top(importer):
            yield f"imports {package} at its top; import it in the function that needs it"
    elif imported.module == "hvs_data" and layer != TOP:
        yield "imports from the package's face; import from the module that defines the name"
    elif target not in imports:
        yield f"imports {target}, which does not exist"
    elif target != "hvs_data":
        if layer_of(target) not in MAY_IMPORT[layer]:
            yield f"is of layer {layer} and imports {target} of layer {layer_of(target)}"
        if (backend, target) == HOST_CODE:
            return
        if backend and backend_of(target) not in (None, backend):
            yield f"is of backend {backend} and imports {target}"
        if imported.at_top and BACKENDS.get(backend_of(target) or "") and backend_of(target) != backend:
            yield f"imports {target} at its top; import it in the function that needs it"
        if layer != TOP and target == imported.module and imported.name in passed_on(imports[target]):
            yield f"imports {imported.name} from {target}, which imports it itself; import from the module that defines it"


def passed_on(imports: list[Import]) -> set[str]:
    """Names of ours that a module has from another one, and so does not define."""
    return {other.name for other in imports if other.name and other.at_top and other.module.startswith("hvs_data.")}


def test_the_house_keeps_its_layers() -> None:
    modules = house()
    assert {"hvs_data", "hvs_data.types", "hvs_data.kernels.render", "hvs_data.pipelines"} <= set(modules)
    assert broken_rules(modules) == []


def test_nothing_imports_in_a_circle() -> None:
    edges = edges_of({name: source for name, source in house().items() if name != "hvs_data"})
    assert circles(edges) == []
    rooms: dict[str, set[str]] = {}
    for importer, targets in edges.items():
        rooms.setdefault(room_of(importer), set()).update(room_of(target) for target in targets)
    assert circles({room: targets - {room} for room, targets in rooms.items()}) == []


def test_a_circle_is_found() -> None:
    modules = {
        "hvs_data.types": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from hvs_data.rows.boxes import iou",
        "hvs_data.rows.boxes": "def iou():\n    from hvs_data.rows.layout import Layout",
        "hvs_data.rows.layout": "from hvs_data import types",
        "hvs_data.errors": "",
        "hvs_data.recipes": "from hvs_data import types, errors",
    }
    assert circles(edges_of(modules)) == [["hvs_data.rows.boxes", "hvs_data.rows.layout", "hvs_data.types"]]


TREE = {
    "hvs_data": "",
    "hvs_data.errors": "class HvsError(Exception): ...",
    "hvs_data.recipes": "from hvs_data.recipes.spec import Recipe",
    "hvs_data.recipes.spec": "class Recipe: ...",
    "hvs_data.kernels": "",
    "hvs_data.kernels.render": "",
    "hvs_data.kernels.render.reference": "import torch\nfrom hvs_data.errors import HvsError",
    "hvs_data.kernels.render.numba": "import numba",
    "hvs_data.kernels.render.triton_kernel": "def load():\n    import triton",
    "hvs_data.pipelines": "",
    "hvs_data.pipelines.render": "def render():\n    from hvs_data.kernels.render.numba import render",
    "hvs_data.selection.selector": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from hvs_data.pipelines.render import render",
    "hvs_data.loaders": "from hvs_data.recipes.spec import Recipe\nfrom hvs_data.pipelines import render",
    "hvs_data.demo": "import matplotlib\nimport hvs_data as hvs\nfrom hvs_data import recipes\nfrom hvs_data.recipes import Recipe",
    "hvs_data.commands.main": "def main():\n    import hvs_data.demo",
}


def test_a_tree_that_keeps_the_rules_passes() -> None:
    assert broken_rules(TREE) == []


@pytest.mark.parametrize(
    ("module", "source", "breach"),
    [
        ("hvs_data.colours", "", "has no layer"),
        ("hvs_data.errors", "import hvs_data.recipes.spec", "layer 0 and imports hvs_data.recipes.spec of layer 1"),
        ("hvs_data.kernels.render", "from hvs_data.recipes.spec import Recipe", "layer 3 and imports"),
        ("hvs_data.kernels.render", "def late():\n    from ...recipes.spec import Recipe", "layer 3 and imports"),
        ("hvs_data.selection.selector", "from hvs_data import loaders", "package's face"),
        ("hvs_data.selection.selector", "import importlib\nimportlib.import_module('hvs_data.loaders')", "layer 9 and imports"),
        (
            "hvs_data.selection.selector",
            "from hvs_data.pipelines.render import render",
            "layer 9 and imports hvs_data.pipelines.render of layer 5",
        ),
        ("hvs_data.loaders", "import hvs_data", "package's face"),
        ("hvs_data.loaders", "from hvs_data.recipes import Recipe", "which imports it itself"),
        ("hvs_data.loaders", "from hvs_data.missing import name", "does not exist"),
        ("hvs_data.loaders", "from kernels.render import reference", "top-level module"),
        ("hvs_data.loaders", "import pipelines", "top-level module"),
        ("hvs_data.loaders", "import torchvision", "imports torchvision at its top"),
        ("hvs_data.loaders", "class Loader:\n    from PIL import Image", "imports PIL at its top"),
        ("hvs_data.loaders", "try:\n    import numba\nexcept ImportError:\n    numba = None", "imports numba at its top"),
        ("hvs_data.commands.main", "import tqdm", "imports tqdm at its top"),
        ("hvs_data.pipelines.render", "from hvs_data.kernels.render.numba import render", "at its top"),
        ("hvs_data.pipelines.render", "import kornia", "imports kornia at its top"),
        ("hvs_data.kernels.render.reference", "import numba", "imports numba at its top"),
        ("hvs_data.kernels.render.reference", "from hvs_data.kernels.render import numba", "of backend reference"),
        ("hvs_data.kernels.render.numba", "def late():\n    from ..render.reference import x", "of backend numba"),
        ("hvs_data.kernels.render.triton_kernel", "def late():\n    from .reference import x", "of backend triton"),
        ("hvs_data.kernels.render", "from hvs_data.kernels.render import triton_kernel", "at its top"),
    ],
)
def test_a_breach_is_found(module: str, source: str, breach: str) -> None:
    breaches = broken_rules({**TREE, module: source})
    assert any(line.startswith(module) and breach in line for line in breaches), breaches


def test_decoders_may_load_with_the_pipelines() -> None:
    assert broken_rules({**TREE, "hvs_data.pipelines.render": "import simplejpeg\nfrom PIL import Image"}) == []
