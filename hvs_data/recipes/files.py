"""Recipes as plain data, and as the JSON and TOML files that configurations are kept in."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

from hvs_data.errors import RecipeError
from hvs_data.recipes.masking import Masking
from hvs_data.recipes.spec import ColorJitter, Erasing, Recipe, Role, Twin

_PARTS = {"jitter": ColorJitter, "erase": Erasing, "masking": Masking}
Made = TypeVar("Made")


def to_dict(recipe: Recipe) -> dict[str, Any]:
    """All fields of a recipe as numbers, texts, lists and dictionaries; what is None is left out."""
    return _plain(asdict(recipe))


def from_dict(values: Mapping[str, Any]) -> Recipe:
    """The recipe that a dictionary of plain data describes, of :func:`to_dict` or written by hand.

    What is left out is as :class:`Recipe` and :class:`Role` have it by default.

    Raises:
        RecipeError: no dictionary, fields that do not exist, or values that mean nothing.
    """
    given = dict(_checked("a recipe", Recipe, values))
    roles = given.get("roles", ())
    if not isinstance(roles, (list, tuple)):
        raise RecipeError(f"roles must be a list of dictionaries, one for each role, got {type(roles).__name__}")
    given["roles"] = tuple(_made(f"role {number}", Role, role) for number, role in enumerate(roles))
    given["twins"] = tuple(_made(f"twin {number}", Twin, twin) for number, twin in enumerate(given.get("twins", ())))
    return _made("a recipe", Recipe, given)


def save(recipe: Recipe, path: str | os.PathLike[str]) -> None:
    """Write a recipe to a file, in JSON or TOML by its ending, in place of an earlier one.

    Raises:
        RecipeError: another ending.
    """
    text = _to_toml(to_dict(recipe)) if _ending(path) == ".toml" else json.dumps(to_dict(recipe), indent=2) + "\n"
    beside = Path(f"{os.fspath(path)}.new")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)


def load(path: str | os.PathLike[str]) -> Recipe:
    """The recipe in a JSON or TOML file.

    Raises:
        RecipeError: another ending, no such file, a file that is not of its form, or that holds no recipe; the message names the file.
    """
    ending = _ending(path)
    try:
        text = Path(path).read_text(encoding="utf-8")
        return from_dict(tomllib.loads(text) if ending == ".toml" else json.loads(text))
    except OSError as error:
        raise RecipeError(f"expected a recipe in {os.fspath(path)}, got {error.strerror or error}; name a file of recipes.save") from error
    except (ValueError, TypeError) as error:  # RecipeError is one
        raise RecipeError(f"{os.fspath(path)}: {error}") from error


def _ending(path: str | os.PathLike[str]) -> str:
    ending = os.path.splitext(os.fspath(path))[1].lower()
    if ending not in (".json", ".toml"):
        raise RecipeError(f"expected a file that ends in .json or .toml, got {os.fspath(path)!r}")
    return ending


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items() if item is not None}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _checked(what: str, kind: type, values: Any) -> Mapping[str, Any]:
    if not isinstance(values, Mapping):
        raise RecipeError(f"expected {what} as a dictionary, got {type(values).__name__}")
    known = [field.name for field in fields(kind)]
    unknown = sorted(set(map(str, values)) - set(known))
    if unknown:
        raise RecipeError(f"expected fields of {what} among {', '.join(known)}, got {', '.join(unknown)}")
    return values


def _made(what: str, kind: type[Made], values: Any) -> Made:
    """A frozen record of its fields, those that are records themselves made first."""
    given = {
        name: _made(f"{name} of {what}", _PARTS[name], value) if name in _PARTS and isinstance(value, Mapping) else value
        for name, value in _checked(what, kind, values).items()
    }
    try:
        return kind(**given)
    except TypeError as error:  # a field without a default is missing
        raise RecipeError(f"expected all fields that {what} must have, got {sorted(given)} ({error})") from error


def _to_toml(values: Mapping[str, Any]) -> str:
    """TOML of plain data: values first, then tables, and lists of tables as such."""
    return "\n".join(_toml_lines(values, "")) + "\n"


def _toml_lines(values: Mapping[str, Any], prefix: str) -> list[str]:
    def is_table_list(value: Any) -> bool:
        return isinstance(value, list) and any(isinstance(item, Mapping) for item in value)

    # numbers, texts and lists look the same in JSON
    lines = [f"{name} = {json.dumps(item)}" for name, item in values.items() if not isinstance(item, Mapping) and not is_table_list(item)]
    for name, item in values.items():
        if isinstance(item, Mapping):
            lines += ["", f"[{prefix}{name}]", *_toml_lines(item, f"{prefix}{name}.")]
        elif is_table_list(item):
            for part in item:
                lines += ["", f"[[{prefix}{name}]]", *_toml_lines(part, f"{prefix}{name}.")]
    return lines
