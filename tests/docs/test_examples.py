"""The example scripts as they are shown: short, each beside what it was before, and counted truly."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
sys.path.insert(0, str(DOCS))
import count_changes  # noqa: E402

SCRIPTS = sorted(path.stem for path in (DOCS / "examples").glob("*.py"))


def test_every_script_is_counted():
    assert sorted(count_changes.TRAINERS) == SCRIPTS


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_are_short_and_have_a_twin_without_hvs_data(name):
    script, before = (folder / f"{name}.py" for folder in (DOCS / "examples", DOCS / "examples" / "before"))
    assert len(script.read_text().splitlines()) <= 60
    for path in (script, before):
        ast.parse(path.read_text())
        assert not re.search(r"[\"'(]/\w+/", path.read_text()), "a path of one machine"
    assert "hvs" in script.read_text() and "hvs" not in before.read_text()


def test_the_table_tells_the_lines_that_changed():
    text = (DOCS / "trainers.md").read_text()
    assert count_changes.rewritten(text) == text, "run: python docs/count_changes.py"


def test_a_change_of_one_line_is_one_added_and_one_removed(tmp_path, monkeypatch):
    (tmp_path / "before").mkdir()
    (tmp_path / "before" / "it.py").write_text("a = 1\n\nb = 2\nc = 3\n")
    (tmp_path / "it.py").write_text("import hvs_data\na = 1\nb = 4\n\n\nc = 3\n")
    monkeypatch.setattr(count_changes, "EXAMPLES", tmp_path)
    assert count_changes.changes("it") == (2, 1)
