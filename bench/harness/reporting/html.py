"""Parts of a page of results, which needs nothing beside itself."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from harness.reporting import plots
from hvs_data.demo.style import CSS as DEMO_CSS

CSS = f"""
{DEMO_CSS}
:root {{ color-scheme: light dark; {plots.LIGHT} }}
@media (prefers-color-scheme: dark) {{ :root {{ {plots.DARK} }}
  body {{ background: #0b0f14; }} .chart .grid {{ stroke: var(--line); }} }}
{plots.STYLE}
.plot-svg {{ display: block; width: 100%; max-width: 620px; margin: 0 auto; }}
.scroll {{ overflow-x: auto; margin: 12px 0; }}
.numbers {{ border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; background: var(--paper); }}
.numbers th, .numbers td {{ padding: 4px 9px; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }}
.numbers th:first-child, .numbers td:first-child {{ text-align: left; }}
.numbers th {{ color: var(--soft); font-weight: 600; }}
.numbers tr.best td {{ font-weight: 600; }}
.plots {{ grid-template-columns: repeat(auto-fit, minmax(min(100%, 440px), 1fr)); }}
code {{ font-size: 13px; overflow-wrap: anywhere; }}
"""


def page(title: str, lead: str, sections: Sequence[str]) -> str:
    """A whole page, with these words above its sections."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{CSS}</style></head><body><main>"
        f'<h1>{escape(title)}</h1><p class="lead">{escape(lead)}</p>{"".join(sections)}</main></body></html>\n'
    )


def section(title: str, words: str, inner: str) -> str:
    """A section with a title and a line about it."""
    lead = f'<p class="caption">{escape(words)}</p>' if words else ""
    return f"<section><h2>{escape(title)}</h2>{lead}{inner}</section>"


def figure(svg: str, caption: str) -> str:
    """A plot and what stands below it."""
    return f'<figure class="plot">{svg}<figcaption>{caption}</figcaption></figure>'


def conditions_of(result: dict[str, Any], command: str) -> str:
    """What a result was measured on, and the command that measures it again."""
    its = result["conditions"]
    data = ", ".join(f"{name} ({about['images']:,} images)" for name, about in its["data"].items())
    sizes = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in its["sizes"].items())
    how = "; ".join(f"{name}: {value}" for name, value in its["settings"].items())
    rounds = f"{its['repeats']} rounds in alternation, median. " if its["repeats"] > 1 else ""
    words = (
        f"{its['device']['name']}, {its['device']['cores']} cores, torch {its['versions']['torch']}, {its['time'][:10]}, commit "
        f"{its['commit'][:8]}. Data: {data}. Sizes: {sizes}. {rounds}{how}."
    )
    return f"{escape(words)} <code>{escape(command)}</code>"


def table(header: Sequence[str], rows: Sequence[Sequence[str]], best: set[int] | None = None) -> str:
    """A table of cells; rows of these numbers stand out."""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join(
        f"<tr{' class=best' if place in (best or ()) else ''}>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>"
        for place, row in enumerate(rows)
    )
    return f'<div class="scroll"><table class="numbers"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def folded(words: str, inner: str) -> str:
    """Something that is shown on a click."""
    return f"<details><summary>{escape(words)}</summary>{inner}</details>"


def mark(reached: bool | None) -> str:
    """Whether a target was reached."""
    return {None: "not measured", True: "yes", False: "no"}[reached]
