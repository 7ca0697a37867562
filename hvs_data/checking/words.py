"""What was found, in words: one line a fact, for the terminal and for the page."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hvs_data.checking.scan import Findings
from hvs_data.sources.base import Source

NAMED = 8  # kinds of files


def facts(source: Source, findings: Findings, seconds: float, threads: int) -> list[tuple[str, str]]:
    """Names of facts and what they are, in the order in which one wants to know them."""
    sound, bad = len(findings.looks), len(findings.bad)
    classes = len(set(findings.labels()) - {-1})
    told = [("images", f"{findings.images:,}{f' of {classes:,} classes' if classes else ', without labels'}{_bytes(findings.bytes)}")]
    told.append(("sound", f"{sound:,}; {f'{bad:,} cannot be used' if bad else 'all can be used'}"))
    if sound:
        told.append(("height x width", _sizes(findings)))
    told.append(("kinds", _kinds(findings)))
    odd = findings.odd()
    if odd:
        told.append(("odd", "; ".join(f"{len(looks):,} {name}" for name, looks in odd.items())))
    twins = findings.twins
    if twins:
        told.append(("same picture", f"{sum(map(len, twins)):,} images in {len(twins):,} group{'s' * (len(twins) != 1)} of equal pictures"))
    if sound:
        mean, std = findings.mean_and_std()
        told += [("mean", _numbers(mean)), ("std", _numbers(std))]
    speed = findings.images / seconds if seconds > 0 else 0.0
    told.append(("took", f"{seconds:.1f} s, {speed:,.0f} images/s read and decoded by {threads} thread{'s' * (threads != 1)}"))
    return told


def _bytes(size: int) -> str:
    for unit, worth in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= worth:
            return f", {size / worth:.1f} {unit} encoded"
    return ""


def _sizes(findings: Findings) -> str:
    height, width = (np.array([getattr(look, side) for look in findings.looks]) for side in ("height", "width"))
    if len(np.unique(height)) == len(np.unique(width)) == 1:
        return f"{height[0]} x {width[0]} all of them"
    shorter, longer = np.minimum(height, width), np.maximum(height, width)
    return (
        f"{int(np.median(height))} x {int(np.median(width))} in the middle; shorter side {shorter.min()} to {shorter.max()}, longer side "
        f"{longer.min()} to {longer.max()}"
    )


def _kinds(findings: Findings) -> str:
    kinds = findings.kinds()
    named = ", ".join(f"{kind} {count:,}" for kind, count in kinds[:NAMED])
    return named + (f", and {len(kinds) - NAMED} more kinds" if len(kinds) > NAMED else "")


def _numbers(values: Sequence[float]) -> str:
    return f"({', '.join(f'{value:.4f}' for value in values)})"
