"""What the site holds beside the Markdown files of docs/, and how their links are followed there.

- The reference: a page for each public name, from the package's face, so that a new name has its page without a word here.
- Pages that lie elsewhere in the repository, such as README.md, which is the start page.
- The example scripts, each above what it was before hvs_data.
- Results and other files of the repository that a page links to, as they are.
- In the guides, ``hvs.name`` in code is a link to its page.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import posixpath
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from docstrings import references
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

import hvs_data

DOCS = Path(__file__).parents[1]
ROOT = DOCS.parent
sys.path.insert(0, str(DOCS))
from count_changes import TRAINERS  # noqa: E402

# Pages that lie outside of docs/, by their names in the site.
ELSEWHERE = {
    "index.md": ROOT / "README.md",
    "benchmarks.md": ROOT / "bench" / "README.md",
    "changelog.md": ROOT / "CHANGELOG.md",
    "contributing.md": ROOT / "CONTRIBUTING.md",
}
# Where files of the repository that pages link to are put.
REPOSITORY = "repository"
ADAPTERS = "hvs_data.integrations"

_LINK = re.compile(r"(\[[^\]]*\]\()([^)\s#]+)(#[^)\s]*)?(?=\))")
_CODE_BLOCK = re.compile(r"(^```.*?^```$)", re.DOTALL | re.MULTILINE)
_LEFT_ALONE = re.compile(r"(<(a|pre|h\d|autoref)\b.*?</\2>)", re.DOTALL)
_PUBLIC = re.compile(r"<code>((?:hvs|hvs_data)\.([\w.]+)[^<]*)</code>")
_GUIDE = re.compile(r"(?:<code>)?docs/(\w+\.md)(?:</code>)?")


# --- what is added ---------------------------------------------------------------------------------------------------------


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for name, path in ELSEWHERE.items():
        if path.exists():
            # the start page has no others beside it
            head = "---\nhide: [navigation]\n---\n\n" if name == "index.md" else ""
            files.append(File.generated(config, name, content=head + path.read_text(encoding="utf-8")))
    made = {"examples": list(_examples()), "reference": list(_reference())}
    for pages in made.values():
        for name, content in pages:
            files.append(File.generated(config, name, content=content))
    assert config.nav is not None
    sections = {"examples": [name for name, _ in made["examples"]], "reference": _reference_nav()}
    config.nav = _filled(config.nav, sections, files)
    return files


def _filled(nav: list[Any], sections: dict[str, list[Any]], files: Files) -> list[Any]:
    """The navigation with its generated sections, without pages that are not written yet."""
    found: list[Any] = []
    for item in nav:
        ((title, its),) = item.items()
        if isinstance(its, list):
            its = _filled(its, sections, files)
        elif its in sections:
            its = sections[its]
        elif its in ("architecture.md", "contributing.md") and files.get_file_from_path(its) is None:
            continue
        found.append({title: its})
    return found


def _examples() -> Iterator[tuple[str, str]]:
    about = (
        "Scripts that run as they are, each with the script that it was before hvs_data. The tests train every one. What they import from "
        "`support` lies in `docs/examples/support`. [What each trainer needs, and what bites](../trainers.md)."
    )
    scripts = "".join(f"- [{title}]({name}.md)\n" for name, title in TRAINERS.items())
    yield "examples/index.md", f"# Examples\n\n{about}\n\n{scripts}"
    for name, title in TRAINERS.items():
        with_hvs = _script(DOCS / "examples" / f"{name}.py")
        before = _script(DOCS / "examples" / "before" / f"{name}.py")
        yield f"examples/{name}.md", f"# {title}\n\n## With hvs_data\n\n{with_hvs}\n## Before\n\n{before}"


def _script(path: Path) -> str:
    return f'```python title="{path.relative_to(ROOT).as_posix()}"\n{path.read_text(encoding="utf-8")}```\n'


# --- the reference ---------------------------------------------------------------------------------------------------------


def public_names() -> dict[str, list[str]]:
    """Names that have a page each, by the path of the module that offers them; a name that the face offers too has its page there."""
    face = [name for name in hvs_data.__all__ if not isinstance(getattr(hvs_data, name), ModuleType)]
    found = {"hvs_data": sorted(face, key=str.lower)}
    for module in submodules():
        its = importlib.import_module(f"hvs_data.{module}")
        found[its.__name__] = [name for name in its.__all__ if getattr(its, name) is not getattr(hvs_data, name, None)]
    return found


def submodules() -> list[str]:
    return [name for name in hvs_data.__all__ if isinstance(getattr(hvs_data, name), ModuleType)]


def adapters() -> list[str]:
    """Modules of adapters that say which of their names are public."""
    folder = importlib.import_module(ADAPTERS).__path__
    modules = (importlib.import_module(f"{ADAPTERS}.{its.name}") for its in pkgutil.iter_modules(folder))
    return [module.__name__ for module in modules if hasattr(module, "__all__")]


def page_of(module: str, name: str) -> str:
    """The source of a name's page."""
    return "/".join(["reference", *module.split(".")[1:], f"{name}.md"])


def _kinds() -> dict[str, list[str]]:
    """The names of the face by kind."""
    kinds: dict[str, list[str]] = {"Classes": [], "Functions": [], "Errors and warnings": []}
    for name in public_names()["hvs_data"]:
        value = getattr(hvs_data, name)
        is_error = isinstance(value, type) and issubclass(value, Exception)
        kinds["Errors and warnings" if is_error else "Classes" if isinstance(value, type) else "Functions"].append(name)
    return kinds


def _reference() -> Iterator[tuple[str, str]]:
    index = "# Reference\n\nEverything below is found in `hvs_data`, imported as `import hvs_data as hvs`.\n"
    for kind, names in _kinds().items():
        index += f"\n## {kind}\n\n{_table('hvs_data', names)}"
    index += "\n## Modules\n\n| | |\n|---|---|\n"
    for module in submodules():
        index += f"| [`{module}`]({module}/index.md) | {_first_sentence(getattr(hvs_data, module))} |\n"
    index += "\n## Adapters for trainers\n\nEach is imported by its own name, and none by `import hvs_data`.\n\n| | |\n|---|---|\n"
    for module in adapters():
        index += f"| [`{module}`](integrations/{module.rpartition('.')[2]}.md) | {_first_sentence(importlib.import_module(module))} |\n"
    yield "reference/index.md", index
    for module in submodules():
        value = importlib.import_module(f"hvs_data.{module}")
        options = "{members: false, heading_level: 1}"
        yield f"reference/{module}/index.md", f"{_page(value.__name__, module, options)}\n{_table(value.__name__, value.__all__)}"
    for module in adapters():
        members = list(importlib.import_module(module).__all__)
        short = module.rpartition(".")[2]
        yield f"reference/integrations/{short}.md", _page(module, short, f"{{members: {members}, inherited_members: false}}")
    for module, names in public_names().items():
        for name in names:
            yield page_of(module, name), _page(f"{module}.{name}", name)


def _page(path: str, title: str, options: str = "{}") -> str:
    return f"---\ntitle: {title}\n---\n\n::: {path}\n    options: {options}\n"


def _table(module: str, names: list[str]) -> str:
    owner = importlib.import_module(module)
    rows = (
        f'| <autoref identifier="{module}.{name}"><code>{name}</code></autoref> | {_first_sentence(getattr(owner, name))} |'
        for name in names
    )
    return "\n".join(["| | |", "|---|---|", *rows, ""])


def _first_sentence(value: object) -> str:
    paragraph = " ".join((inspect.getdoc(value) or "").partition("\n\n")[0].split())
    return references(re.split(r"(?<=\.) (?=[A-Z])", paragraph)[0], lambda name: name).replace("|", "\\|")


def _reference_nav() -> list[Any]:
    nav: list[Any] = ["reference/index.md"]
    nav += [{kind: [{name: page_of("hvs_data", name)} for name in names]} for kind, names in _kinds().items()]
    for module, names in list(public_names().items())[1:]:
        short = module.rpartition(".")[2]
        nav.append({short: [f"reference/{short}/index.md", *({name: page_of(module, name)} for name in names)]})
    nav.append({"Adapters for trainers": [f"reference/integrations/{module.rpartition('.')[2]}.md" for module in adapters()]})
    return nav


# --- links -----------------------------------------------------------------------------------------------------------------


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links as they hold in the repository, made to hold in the site."""
    if page.file.src_uri.startswith(("reference/", "examples/")):
        return markdown
    source = ELSEWHERE.get(page.file.src_uri, DOCS / page.file.src_uri)

    def followed(link: re.Match[str]) -> str:
        head, target, anchor = link[1], link[2], link[3] or ""
        path = (source.parent / target).resolve()
        if "://" in target or not path.is_file():
            return link[0]
        return f"{head}{posixpath.relpath(_in_site(path, config, files), posixpath.dirname(page.file.src_uri) or '.')}{anchor}"

    parts = _CODE_BLOCK.split(markdown)
    return "".join(part if at % 2 else _LINK.sub(followed, part) for at, part in enumerate(parts))


def _in_site(path: Path, config: MkDocsConfig, files: Files) -> str:
    """Where the site has a file of the repository; it is put there if it has no place yet."""
    for name, elsewhere in ELSEWHERE.items():
        if path == elsewhere:
            return name
    if path.is_relative_to(DOCS / "examples") and path.stem in TRAINERS:
        return f"examples/{path.stem}.md"
    if path.is_relative_to(DOCS) and files.get_file_from_path(path.relative_to(DOCS).as_posix()) is not None:
        return path.relative_to(DOCS).as_posix()
    name = f"{REPOSITORY}/{path.relative_to(ROOT).as_posix()}"
    if files.get_file_from_path(name) is None:
        files.append(File.generated(config, name, abs_src_path=str(path), inclusion=InclusionLevel.NOT_IN_NAV))
    return name


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links that nobody wrote: from the reference to guides that docstrings name, from the guides to public names."""
    in_reference = page.file.src_uri.startswith("reference/")

    def to_guide(mention: re.Match[str]) -> str:
        guide = files.get_file_from_path(mention[1])
        if guide is None or guide.page is None:
            return mention[0]
        with_title = re.search(r"^# (.+)$", (DOCS / mention[1]).read_text(encoding="utf-8"), re.MULTILINE)
        return f'<a href="{guide.url_relative_to(page.file)}">{with_title[1] if with_title else mention[1]}</a>'

    def to_name(mention: re.Match[str]) -> str:
        name = re.sub(r"\.$", "", mention[2])
        return f'<autoref identifier="hvs_data.{name}" optional>{mention[0]}</autoref>' if _is_public(name) else mention[0]

    pattern, link = (_GUIDE, to_guide) if in_reference else (_PUBLIC, to_name)
    return _outside_of_links(html, lambda text: pattern.sub(link, text))


def _outside_of_links(html: str, change: Callable[[str], str]) -> str:
    parts = re.split(_LEFT_ALONE, html)  # text, what is left alone, its tag, text, ...
    return "".join("" if at % 3 == 2 else part if at % 3 else change(part) for at, part in enumerate(parts))


def _is_public(name: str) -> bool:
    """Whether the reference has a page for a path below hvs_data, or one of the whole that it is a member of."""
    value: Any = hvs_data
    for part in name.split("."):
        if part.startswith("_") or not hasattr(value, part):
            return False
        value = getattr(value, part)
    return name.partition(".")[0] in hvs_data.__all__
