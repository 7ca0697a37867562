"""The map of the house: its layers are those that are enforced, and every file that it names is there."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ARCHITECTURE, CONTRIBUTING = ROOT / "docs" / "architecture.md", ROOT / "CONTRIBUTING.md"
# paths of the architecture are told as in imports, without the package's name
BASES = (ROOT, ROOT / "hvs_data")


def enforced_layers() -> dict[int, tuple[str, ...]]:
    spec = importlib.util.spec_from_file_location("the_layers", ROOT / "tests" / "test_layers.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where its dataclasses look it up
    spec.loader.exec_module(module)
    return module.LAYERS


def test_the_table_of_layers_is_the_one_that_is_enforced():
    rows = re.findall(r"^\| (\d+) \| ([^|]+) \|", ARCHITECTURE.read_text(), flags=re.M)
    assert {int(layer): tuple(re.findall(r"`(\w+)`", rooms)) for layer, rooms in rows} == enforced_layers()


@pytest.mark.parametrize("page", [ARCHITECTURE, CONTRIBUTING], ids=lambda page: page.name)
def test_every_file_that_is_named_is_there(page):
    named = re.findall(r"`([\w./-]+(?:\.(?:py|md|toml)|/))`", page.read_text())
    assert len(named) > 20
    missing = [name for name in named if not any((base / name).exists() for base in BASES)]
    assert missing == []


@pytest.mark.parametrize("way", ["an image", "a row", "a loss"])
def test_each_way_is_told_in_ten_lines(way):
    section = ARCHITECTURE.read_text().split(f"## The way of {way}\n")[1].split("\n## ")[0]
    assert re.findall(r"^(\d+)\. ", section, flags=re.M) == [str(number) for number in range(1, 11)]


def test_names_in_the_map_are_defined_where_it_says():
    for name, file in (
        ("_HOME_OF", "hvs_data/__init__.py"),
        ("open_source", "hvs_data/sources/__init__.py"),
        ("Engine", "pipelines/engine.py"),
    ):
        assert re.search(rf"\b{name}\b", (ROOT / file).read_text())
    assert re.search(r"class HostCopy\b", (ROOT / "hvs_data/selection/geometry.py").read_text())
