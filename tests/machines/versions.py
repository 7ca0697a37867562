"""The lowest versions that pyproject.toml promises, one a line, as pip's --constraint takes them.

    python tests/machines/versions.py > lowest.txt
    pip install --constraint lowest.txt '.[test]'

pip alone takes the newest of everything, so that a lower bound which no longer holds goes unnoticed.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
# a name, what it brings along, and the first version that will do: "fsspec[http]>=2024.6", "ruff>=0.17,<0.18", "albumentations==2.0.8"
REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(\[[^]]*\])?\s*(>=|==)\s*(?P<version>[0-9][0-9.]*)(\s*,\s*<[0-9.]+)?")


def requirements(project: dict[str, Any]) -> Iterator[str]:
    """All that the package or one of its extras asks for, less the extras that others are made of."""
    for group in (project["dependencies"], *project["optional-dependencies"].values()):
        yield from (entry for entry in group if not entry.startswith(project["name"]))


def lowest(project: dict[str, Any]) -> dict[str, str]:
    """The lowest version of each requirement that satisfies every group which names it.

    Raises:
        ValueError: a requirement is written in a way that this does not read, or has no lower bound at all.
    """
    found: dict[str, str] = {}
    for entry in requirements(project):
        match = REQUIREMENT.fullmatch(entry.strip())
        if match is None:
            raise ValueError(f'expected "name>=version" or "name==version" in {PYPROJECT.name}, got "{entry}"')
        name, version = match["name"], match["version"]
        found[name] = max(version, found.get(name, version), key=lambda text: [int(part) for part in text.split(".")])
    return found


def main() -> None:
    for name, version in lowest(tomllib.loads(PYPROJECT.read_text())["project"]).items():
        # an exact "==2.6" is 2.6.0 and no other
        print(f"{name}=={version}")


if __name__ == "__main__":
    main()
