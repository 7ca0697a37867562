"""The documentation site, built as ``make docs`` does: complete, without dead links, and without anything from elsewhere."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import unquote

import pytest

import hvs_data as hvs

pytest.importorskip("material", reason="the docs extra is not installed")
pytest.importorskip("mkdocstrings", reason="the docs extra is not installed")
pytestmark = pytest.mark.slow  # the site is built once

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "docs" / "site" / "mkdocs.yml"
SUBMODULES = [name for name in hvs.__all__ if isinstance(getattr(hvs, name), ModuleType)]
PUBLIC = [
    *(("", name) for name in hvs.__all__ if name not in SUBMODULES),
    *((module, name) for module in SUBMODULES for name in getattr(hvs, module).__all__),
]
ADAPTERS = ["accelerate", "albumentations", "lightly", "lightning", "official", "transformers"]
# Attributes by which a page loads something at once.
LOADS = {("script", "src"), ("img", "src"), ("iframe", "src"), ("source", "src"), ("video", "src"), ("object", "data"), ("link", "href")}


@dataclass
class Read(HTMLParser):
    """A page: its ids, its links, what it loads, its tables of parameters and errors, and its words."""

    ids: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    signatures: list[str] = field(default_factory=list)
    text: str = ""
    outside_of_code: str = ""
    _open: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attributes}
        if "id" in values:
            self.ids.add(values["id"])
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        self.loads += [value for name, value in values.items() if (tag, name) in LOADS and values.get("rel") not in ("prev", "next")]
        if "doc-section-item" in values.get("class", ""):
            self.rows.append([])
        if tag == "td" and self.rows:
            self.rows[-1].append("")
        if "doc-signature" in values.get("class", ""):
            self.signatures.append("")
        if tag not in ("img", "br", "hr", "meta", "link", "input", "path", "svg", "source"):
            self._open.append((tag, values.get("class", "")))

    def handle_endtag(self, tag: str) -> None:
        while self._open and any(its[0] == tag for its in self._open) and self._open.pop()[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        inside = {tag for tag, _ in self._open}
        if inside & {"script", "style"}:
            return
        if "td" in inside and self.rows and self.rows[-1]:
            self.rows[-1][-1] += data
        if any("doc-signature" in names for _, names in self._open):
            self.signatures[-1] += data
        self.text += data
        if not inside & {"pre", "code"}:
            self.outside_of_code += data


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; no proxy answers, so that nothing is fetched to build it."""
    folder = tmp_path_factory.mktemp("site") / "site"
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", str(CONFIG), "--site-dir", str(folder)]
    done = subprocess.run(command, env={**os.environ, **nowhere}, capture_output=True, text=True, cwd=ROOT)
    told = [line for line in done.stderr.splitlines() if line.startswith(("WARNING", "ERROR"))]
    assert (done.returncode, told) == (0, []), done.stderr
    return folder


@cache
def read(path: Path) -> Read:
    page = Read()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def pages(site: Path) -> list[Path]:
    """All pages but the files of the repository that are there as they are, and what a server shows in place of a page that is missing."""
    return [path for path in sorted(site.rglob("*.html")) if path.relative_to(site).parts[0] not in ("repository", "404.html")]


def page_of(module: str, name: str) -> str:
    """Where the reference has a name; one that the face offers too has its page there."""
    offered_above = module and name in hvs.__all__ and getattr(getattr(hvs, module), name) is getattr(hvs, name)
    return f"reference/{name}.html" if offered_above or not module else f"reference/{module}/{name}.html"


def documented(value: Any, section: str) -> dict[str, str]:
    """What a section of a docstring names, and how each entry begins."""
    found = re.search(rf"^{section}:\n(.*?)(?=^\S|\Z)", inspect.getdoc(value) or "", re.DOTALL | re.MULTILINE)
    entries = re.findall(r"^    (\w[\w, ]*): (.*)$", found[1], re.MULTILINE) if found else []
    return {name: text for names, text in entries for name in names.split(", ")}


def plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "", text.lower())


@pytest.mark.parametrize(("module", "name"), PUBLIC, ids=lambda its: its or "face")
def test_a_public_name_has_its_page_with_its_parameters(site: Path, module: str, name: str) -> None:
    value = getattr(getattr(hvs, module), name) if module else getattr(hvs, name)
    page = read(site / page_of(module, name))
    # parameters have a default, attributes have none
    rows = {(row[0].strip(), len(row)): row for row in page.rows}
    parameters = [] if isinstance(value, type) and issubclass(value, BaseException) else list(inspect.signature(value).parameters.values())
    args = documented(value, "Args")
    for parameter in parameters:
        assert re.search(rf"\b{parameter.name}\b", page.signatures[0])
        if not args:
            continue
        _, annotation, description, default = rows[parameter.name, 4]
        assert plain(re.sub(r":\w+:`.*", "", args[parameter.name]))[:20] in plain(description)
        assert annotation.strip() or parameter.annotation is parameter.empty
        required = parameter.default is parameter.empty and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
        assert ("required" in default) == required
    for attribute in documented(value, "Attributes"):
        assert (attribute, 3) in rows
    for error in documented(value, "Raises"):
        assert (error, 2) in rows
    assert plain(re.split(r"[.:]\s|``", inspect.getdoc(value) or "")[0])[:40] in plain(page.text)


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_an_adapter_has_its_page(site: Path, adapter: str) -> None:
    module = importlib.import_module(f"hvs_data.integrations.{adapter}")
    page = read(site / "reference" / "integrations" / f"{adapter}.html")
    assert {f"{module.__name__}.{name}" for name in module.__all__} <= page.ids
    assert page.rows


def test_what_the_guides_import_from_adapters_is_in_the_reference() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in [*(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "examples").glob("*.py")])
    assert set(re.findall(r"hvs_data\.integrations\.(\w+)", text)) - {"transforms"} == set(ADAPTERS)


def test_docstrings_leave_no_marks(site: Path) -> None:
    for path in pages(site):
        if path.relative_to(site).parts[0] == "reference":
            assert re.findall(r":(?:class|func|meth|mod|attr):|``|<autoref|^Args:", read(path).outside_of_code) == [], path


def test_roles_are_links(site: Path) -> None:
    links = read(site / "reference" / "HardViewSelector.html").links
    assert {"scoring.html#hvs_data.scoring", "KeepTokens.html#hvs_data.KeepTokens"} <= set(links)
    assert any(link.startswith("#") and link.endswith(".narrowing") for link in links)
    # from guides to the reference, and back
    assert any(link.startswith("reference/open_source.html") for link in read(site / "sources.html").links)
    assert "../sources.html" in read(site / "reference" / "open_source.html").links


def test_no_internal_link_is_dead(site: Path) -> None:
    dead = []
    for path in pages(site):
        for link in {*read(path).links, *read(path).loads}:
            target, _, anchor = unquote(link).partition("#")
            if re.match(r"\w+:", target):
                continue
            file = (path.parent / target).resolve() if target else path
            if file.is_dir():
                file /= "index.html"
            missing = anchor and file.suffix == ".html" and anchor not in read(file).ids and not anchor.startswith("__")
            if not file.is_file() or missing:
                dead.append(f"{path.relative_to(site)} -> {link}")
    assert dead == []


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    for path in site.rglob("*.html"):
        # also those of an empty host, //host/file
        assert [its for its in read(path).loads if re.match(r"(?:\w+:)?//", its)] == [], path
        # the theme would load this program from the web
        assert 'class="mermaid"' not in path.read_text(encoding="utf-8"), path
    for path in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(?:https?:)?//|@import", path.read_text(encoding="utf-8")), path


def test_search_finds_public_names_and_guides(site: Path) -> None:
    index = json.loads((site / "search" / "search_index.js").read_text(encoding="utf-8").removeprefix("var __index = "))
    places = {entry["location"].partition("#")[0] for entry in index["docs"]}
    assert {page_of(module, name) for module, name in PUBLIC} <= places
    assert {f"{path.stem}.html" for path in (ROOT / "docs").glob("*.md")} <= places
    assert 'src="../site/iframe-worker.js"' in (site / "reference" / "index.html").read_text(encoding="utf-8")


def test_every_page_can_be_reached_from_the_start(site: Path) -> None:
    reached, waiting = set(), [site / "index.html"]
    while waiting:
        path = waiting.pop()
        if path in reached or path.suffix != ".html" or not path.is_relative_to(site):
            continue
        reached.add(path)
        waiting += [(path.parent / unquote(link).partition("#")[0]).resolve() for link in read(path).links if not re.match(r"\w+:|#", link)]
    assert set(pages(site)) - reached == set()
