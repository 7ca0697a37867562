"""What was found, as one HTML page that needs nothing beside itself."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from hvs_data.checking.looks import Look
from hvs_data.checking.scan import Findings
from hvs_data.checking.words import facts
from hvs_data.demo.pictures import data_url
from hvs_data.demo.style import CSS
from hvs_data.errors import HvsError
from hvs_data.pipelines.decode import decode_image
from hvs_data.sources.base import Source

SHOWN = 12  # images of each kind of oddity, and groups of twins
LISTED = 200  # images that cannot be used
BINS = 24
_MORE = """
h1 { overflow-wrap: anywhere; }
.bars { width: 100%; display: block; }
.bars rect { fill: #0072b2; }
.bars text { fill: var(--soft); font: 11px system-ui, sans-serif; }
.strip { display: grid; grid-template-columns: repeat(auto-fill, minmax(120px, 1fr)); gap: 10px; margin: 10px 0 0; }
.strip figure { margin: 0; font-size: 12px; color: var(--soft); overflow-wrap: anywhere; }
.strip img { display: block; width: 100%; height: 110px; object-fit: contain; background: var(--paper); border: 1px solid var(--line); }
.list { width: 100%; border-collapse: collapse; font-size: 13.5px; background: var(--paper); margin-top: 10px; }
.list th, .list td { border: 1px solid var(--line); padding: 4px 8px; text-align: left; vertical-align: top; overflow-wrap: anywhere; }
.list td:first-child { min-width: 110px; }
.facts dl { grid-template-columns: 130px 1fr; }
"""


def page(source: Source, name: str, findings: Findings, seconds: float, threads: int) -> str:
    """The page, complete.

    Args:
        source: from which the images that are shown are read again.
        name: as it was given.
        findings: of all its images.
        seconds, threads: that it took.
    """
    told = "".join(f"<dt>{escape(what)}</dt><dd>{escape(words)}</dd>" for what, words in facts(source, findings, seconds, threads))
    body = (
        f"<header><h1>{escape(name)}</h1></header><div class='facts'><dl>{told}</dl></div>"
        + _histograms(findings)
        + _bad(source, findings.bad)
        + _odd(source, findings)
        + _twins(source, findings)
        + _classes(source, findings)
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Checked: {escape(name)}</title><style>{CSS}{_MORE}</style></head><body><main>{body}</main></body></html>\n"
    )


def _histograms(findings: Findings) -> str:
    looks = findings.looks
    if not looks:
        return ""
    shown: dict[str, list[float]] = {
        "Shorter side, pixels": [min(look.height, look.width) for look in looks],
        "Longer side, pixels": [max(look.height, look.width) for look in looks],
        "Width / height": [look.width / look.height for look in looks],
        "Encoded size, KiB": [look.size / 1024 for look in looks if look.size],
        "Mean brightness, 0 to 1": [sum(look.mean) / len(look.mean) for look in looks],
    }
    plots = (f'<figure class="plot"><h3>{escape(what)}</h3>{histogram(values)}</figure>' for what, values in shown.items() if values)
    return f"<section><h2>How they are distributed</h2><div class='plots'>{''.join(plots)}</div></section>"


def histogram(values: Sequence[float], width: int = 330, height: int = 130) -> str:
    """Bars as SVG, with the least, the median and the largest value below them."""
    counts, edges = np.histogram(values, BINS)
    step, top = width / BINS, height - 20
    bars = "".join(
        f'<rect x="{place * step:.1f}" y="{top - top * count / counts.max():.1f}" width="{step - 1:.1f}" '
        f'height="{top * count / counts.max():.1f}"><title>{edges[place]:.4g} to {edges[place + 1]:.4g}: {count}</title></rect>'
        for place, count in enumerate(counts)
        if count
    )
    marks = (("start", 0, edges[0]), ("middle", width / 2, float(np.median(values))), ("end", width, edges[-1]))
    words = "".join(
        f'<text x="{x}" y="{height - 4}" text-anchor="{anchor}">{"median " if anchor == "middle" else ""}{value:.4g}</text>'
        for anchor, x, value in marks
    )
    return f'<svg class="bars" viewBox="0 0 {width} {height}" role="img">{bars}{words}</svg>'


def _bad(source: Source, bad: Sequence[Look]) -> str:
    if not bad:
        return ""
    rows = "".join(f"<tr><td>{escape(source.name_of(look.index))}</td><td>{escape(look.problem)}</td></tr>" for look in bad[:LISTED])
    more = f"<p class='caption'>{len(bad) - LISTED:,} more are in the list of the command.</p>" if len(bad) > LISTED else ""
    table = f"<table class='list'><tr><th>image</th><th>why</th></tr>{rows}</table>"
    return f"<section><h2>Cannot be used: {len(bad):,}</h2>{table}{more}</section>"


def _odd(source: Source, findings: Findings) -> str:
    parts = [
        f"<h3>{len(looks):,} {escape(name)}</h3><div class='strip'>{_pictures(source, [look.index for look in looks[:SHOWN]])}</div>"
        for name, looks in findings.odd().items()
    ]
    return f"<section><h2>Odd ones out</h2>{''.join(parts)}</section>" if parts else ""


def _twins(source: Source, findings: Findings) -> str:
    groups = sorted(findings.twins, key=len, reverse=True)
    if not groups:
        return ""
    strips = "".join(f"<div class='strip'>{_pictures(source, group[:SHOWN])}</div>" for group in groups[:SHOWN])
    count = f"{len(groups):,} group{'s' * (len(groups) != 1)}"
    return (
        f"<section><h2>The same picture more than once: {count}</h2><p class='caption'>Equal pixel by pixel. Where one of "
        f"them is held out, a model has seen it.</p>{strips}</section>"
    )


def _classes(source: Source, findings: Findings) -> str:
    labels = findings.labels()
    if set(labels) <= {-1}:
        return ""
    names = dict(enumerate(source.classes))
    rows = "".join(
        f"<tr><td>{escape(str(names.get(label, 'no label' if label < 0 else label)))}</td><td>{count:,}</td></tr>"
        for label, count in sorted(labels.items(), key=lambda item: -item[1])[:LISTED]
    )
    more = f", the largest {LISTED}" if len(labels) > LISTED else ""
    return f"<section><h2>Classes{more}</h2><table class='list'><tr><th>class</th><th>sound images</th></tr>{rows}</table></section>"


def _pictures(source: Source, indices: Sequence[int]) -> str:
    return "".join(_picture(source, index) for index in indices)


def _picture(source: Source, index: int) -> str:
    name = escape(source.name_of(index))
    try:
        url = data_url(decode_image(source.read(index).data), 220)
    except (OSError, HvsError):  # it could be read a moment ago
        return f"<figure><figcaption>{name}</figcaption></figure>"
    return f'<figure><img src="{url}" alt="{name}"><figcaption>{name}</figcaption></figure>'
