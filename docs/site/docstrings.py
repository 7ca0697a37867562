"""How docstrings of this package become Markdown: a griffe extension for mkdocstrings.

Docstrings are written in Google's style, with Sphinx's roles for references. What a Markdown page would show badly is rewritten when the
package is read; the source stays as it is.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from typing import Any

import griffe

_ROLE = re.compile(r":(?:class|func|meth|mod|attr):`(~?)(?:([^`<]+) <([^`>]+)>|([^`]+))`")
_CODE = re.compile(r"(``.+?``|`[^`]+`)", re.DOTALL)
_SECTION = re.compile(r"(Args|Attributes|Returns|Yields|Raises):$")
_MANY_NAMES = re.compile(r"(\w+(?:, \w+)+): ")
_RULE = re.compile(r"=+(?: +=+)+$")


class HouseStyle(griffe.Extension):
    """Rewrites every docstring of the package, and says what names of types stand for."""

    def on_package(self, *, pkg: griffe.Module, **kwargs: object) -> None:
        for its in _objects(pkg, set()):
            if its.docstring is not None:
                its.docstring.value = markdown(its.docstring.value, _paths_seen_from(its))
            if isinstance(its, griffe.Function):
                for parameter in its.parameters:
                    parameter.annotation = spelled_out(parameter.annotation, pkg)
                its.returns = spelled_out(its.returns, pkg)
            elif isinstance(its, griffe.Attribute) and not _is_alias(its):
                its.annotation = spelled_out(its.annotation, pkg)
            elif isinstance(its, griffe.Class) and "NamedTuple" in map(str, its.bases):
                its.set_member("__init__", _init_of_tuple(its, pkg))


def _init_of_tuple(named_tuple: griffe.Class, package: griffe.Module) -> griffe.Function:
    """How a NamedTuple is made, which griffe knows of dataclasses only."""
    kind = griffe.ParameterKind.positional_or_keyword
    fields_of = (its for its in named_tuple.members.values() if isinstance(its, griffe.Attribute) and its.annotation is not None)
    parameters = [
        griffe.Parameter(its.name, annotation=spelled_out(its.annotation, package), kind=kind, default=its.value) for its in fields_of
    ]
    return griffe.Function("__init__", parameters=griffe.Parameters(griffe.Parameter("self", kind=kind), *parameters))


def spelled_out(annotation: Any, package: griffe.Module) -> Any:
    """An annotation with what the package's own names of types, such as ``Scheduled``, stand for: their pages are nowhere."""
    if isinstance(annotation, griffe.ExprName) and annotation.canonical_path.startswith(f"{package.name}."):
        try:
            named = package[annotation.canonical_path.partition(".")[2]]
        except (KeyError, griffe.AliasResolutionError):
            return annotation
        if named.is_attribute and _is_alias(named):
            # a string, with its quotes, where the names are imported for type checkers only
            return ast.literal_eval(named.value) if isinstance(named.value, str) else spelled_out(named.value, package)
    elif isinstance(annotation, griffe.Expr):
        inside = {its.name: _each(getattr(annotation, its.name), package) for its in fields(annotation)}
        return replace(annotation, **inside)
    return annotation


def _each(part: Any, package: griffe.Module) -> Any:
    return [spelled_out(its, package) for its in part] if isinstance(part, list) else spelled_out(part, package)


def _is_alias(attribute: Any) -> bool:
    """Whether a name stands for a type: it says so, or is the union of types."""
    return str(attribute.annotation) == "TypeAlias" or (attribute.annotation is None and isinstance(attribute.value, griffe.ExprBinOp))


def markdown(docstring: str, path_of: Callable[[str], str]) -> str:
    """A docstring as griffe's parser and Markdown want it.

    Args:
        docstring: as it is written, without its indentation.
        path_of: the full path of a name in a role.
    """
    return references("\n".join(_sections(list(_tables(docstring.splitlines())))), path_of)


def references(text: str, path_of: Callable[[str], str]) -> str:
    """Roles become links, where the site has a page for what they name, and signs that Markdown would take for its own are escaped."""
    links: list[str] = []

    def link(role: re.Match[str]) -> str:
        short, title, target, plain = role.groups()
        name = (target or plain).removesuffix("()")
        shown = title or (plain.rpartition(".")[2] if short else plain)
        links.append(f'<autoref identifier="{path_of(name)}" optional><code>{shown}</code></autoref>')
        return f"`{len(links) - 1}\0`"

    parts = _CODE.split(_ROLE.sub(link, text))
    for at, part in enumerate(parts):
        if at % 2 == 0:
            parts[at] = re.sub(r"(?m)(?<=[^ ])\*|\*(?=[^ ])", r"\*", part.replace("<", "&lt;"))
        elif part.endswith("\0`"):
            parts[at] = links[int(part[1:-2])]
    return "".join(parts)


def _sections(lines: list[str]) -> Iterator[str]:
    """Sections in the form that griffe's parser knows.

    "a, b: text" is one row for each name, with its own type and default. What is returned has a description alone, and the parser would
    take the words before a colon for its type; an empty type makes it take the signature's.
    """
    section, at = "", 0
    while at < len(lines):
        line = lines[at]
        at += 1
        if line and not line.startswith(" "):
            heading = _SECTION.match(line)
            section = heading[1] if heading else ""
            yield line
            if section in ("Returns", "Yields") and at < len(lines):
                yield "    : " + lines[at].strip()
                at += 1
            continue
        names = _MANY_NAMES.match(line[4:]) if section in ("Args", "Attributes") else None
        if names is None:
            yield line
            continue
        rest = [line[4 + names.end() :]]
        while at < len(lines) and (not lines[at] or lines[at].startswith("     ")):
            rest.append(lines[at])
            at += 1
        for name in names[1].split(", "):
            yield f"    {name}: {rest[0]}"
            yield from rest[1:]


def _tables(lines: list[str]) -> Iterator[str]:
    """Tables between lines of equals signs, as Markdown's."""
    at = 0
    while at < len(lines):
        if not _RULE.match(lines[at].strip()):
            yield lines[at]
            at += 1
            continue
        indent = re.match(" *", lines[at])[0]  # type: ignore[index]
        spans = [its.span() for its in re.finditer("=+", lines[at])]
        rows: list[list[str]] = []
        rules = 1
        at += 1
        # two rules, or three where the first row is a header
        while rules < 3 and not (rules == 2 and (at == len(lines) or not lines[at].strip())):
            line = lines[at]
            at += 1
            if _RULE.match(line.strip()):
                rules += 1
                continue
            # the last column may be longer than its rule
            cells = [line[start : end if end != spans[-1][1] else None].strip() for start, end in spans]
            if rows and not cells[0]:
                rows[-1] = [f"{above} {below}".strip() for above, below in zip(rows[-1], cells, strict=True)]
            else:
                rows.append(cells)
        if rules == 2:
            rows.insert(0, [""] * len(spans))
        rows.insert(1, ["---"] * len(spans))
        yield from (f"{indent}| {' | '.join(row)} |" for row in rows)


def _objects(its: griffe.Object, seen: set[str]) -> Iterator[griffe.Object]:
    if its.path in seen:
        return
    seen.add(its.path)
    yield its
    for member in its.members.values():
        if isinstance(member, griffe.Object):
            yield from _objects(member, seen)


def _paths_seen_from(its: griffe.Object) -> Callable[[str], str]:
    """What a name means in a docstring: a full path, a member of the class or of one of its bases, or a name of the module."""

    def path_of(name: str) -> str:
        if name.startswith("hvs_data"):
            return name
        first, _, rest = name.partition(".")
        owner = its if its.is_class else its.parent
        if owner is not None and owner.is_class and first in owner.all_members:
            path = owner.all_members[first].canonical_path
        else:
            try:
                path = its.module[first].canonical_path
            except (KeyError, griffe.AliasResolutionError):
                return name
        return f"{path}.{rest}" if rest else path

    return path_of
