"""The lowest versions come from pyproject.toml, every one of them."""

from __future__ import annotations

import runpy
import tomllib
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).with_name("versions.py")
lowest = runpy.run_path(str(SCRIPT))["lowest"]


def project(*dependencies: str, **extras: list[str]) -> dict[str, Any]:
    return {"name": "this", "dependencies": list(dependencies), "optional-dependencies": extras}


def test_each_bound_is_its_lowest_version() -> None:
    asked = project("one>=2.6", "two[http]>=2024.6", three=["three-four>=0.17,<0.18"], five=["five==2.0.8"])
    assert lowest(asked) == {"one": "2.6", "two": "2024.6", "three-four": "0.17", "five": "2.0.8"}


def test_of_several_bounds_the_highest_holds_for_all() -> None:
    assert lowest(project("one>=1.9", a=["one>=1.10"], b=["one>=1.2"])) == {"one": "1.10"}


def test_extras_made_of_extras_ask_for_nothing_of_their_own() -> None:
    assert lowest(project("one>=1", a=["two>=2"], all=["this[a]"])) == {"one": "1", "two": "2"}


@pytest.mark.parametrize("entry", ["one", "one<3", "one~=1.2", "one>1", "one>=1; python_version<'3.12'"])
def test_what_promises_no_lowest_version_is_an_error(entry: str) -> None:
    with pytest.raises(ValueError, match="expected .*name>=version"):
        lowest(project(entry))


def test_the_package_promises_a_lowest_version_of_everything() -> None:
    asked = tomllib.loads((SCRIPT.parents[2] / "pyproject.toml").read_text())["project"]
    names = [entry for group in (asked["dependencies"], *asked["optional-dependencies"].values()) for entry in group]
    assert lowest(asked).keys() == {name for entry in names if (name := entry.split("[")[0].split(">")[0].split("=")[0]) != "hvs_data"}


def test_what_is_printed_is_what_pip_takes(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(SCRIPT), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    assert lines and all(line.count("==") == 1 and not line.startswith("hvs") for line in lines)
    assert any(line.startswith("torch==") for line in lines)
