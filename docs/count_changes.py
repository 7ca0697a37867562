"""How many lines a user changes: docs/examples against docs/examples/before, as the table of docs/trainers.md.

    python docs/count_changes.py

Rewrites the table. Blank lines do not count, nor does what both scripts share from docs/examples/support.
"""

from __future__ import annotations

import difflib
from pathlib import Path

DOCS = Path(__file__).parent
EXAMPLES = DOCS / "examples"
BEGIN, END = "<!-- changes -->\n", "<!-- end of changes -->\n"
TRAINERS = {
    "plain": "Plain PyTorch, as official SimSiam",
    "dino": "Official DINO",
    "ibot": "Official iBOT",
    "dinov2": "Official DINOv2",
    "moco_v3": "MoCo v3, as the official one",
    "supcon": "Supervised contrastive, as SupContrast",
    "distributed": "torchrun, DDP or FSDP2",
    "lightning_simsiam": "PyTorch Lightning",
    "lightly_simsiam": "lightly, SimSiam",
    "lightly_dino": "lightly, DINO",
    "lightly_swav": "lightly, SwAV with local views",
    "lightly_fast_siam": "lightly, FastSiam (four views)",
    "lightly_two_views": "lightly, SimCLR, DCL, DCLW, VICReg or Barlow Twins",
    "lightly_momentum": "lightly, BYOL, MoCo or TiCo",
    "lightly_nnclr": "lightly, NNCLR",
    "lightly_lejepa": "lightly, LeJEPA with local views",
    "lightly_mmcr": "lightly, MMCR (four views)",
    "lightly_msn": "lightly, MSN",
    "solo_learn_style": "solo-learn style",
    "with_stable_pretraining": "stable-pretraining",
    "with_stable_pretraining_lejepa": "stable-pretraining, LeJEPA",
    "with_accelerate": "Hugging Face Accelerate",
    "with_transformers": "Hugging Face Trainer",
    "clip": "Image and text, Hugging Face's CLIPModel",
}


def changes(name: str) -> tuple[int, int]:
    """Lines added to and removed from the script as it was before hvs_data."""
    before, after = (_lines(folder / f"{name}.py") for folder in (EXAMPLES / "before", EXAMPLES))
    marks = [line[0] for line in list(difflib.unified_diff(before, after, n=0))[2:]]  # after the two lines of names
    return marks.count("+"), marks.count("-")


def table() -> str:
    """The table, in Markdown."""
    rows = ["| trainer | lines added | lines removed |", "|---|---|---|"]
    for name, title in TRAINERS.items():
        added, removed = changes(name)
        rows.append(f"| [{title}](examples/{name}.py) ([before](examples/before/{name}.py)) | {added} | {removed} |")
    return "\n".join(rows) + "\n"


def rewritten(text: str) -> str:
    """A page with its table made anew."""
    head, rest = text.split(BEGIN)
    return head + BEGIN + table() + END + rest.split(END)[1]


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines() if line.strip()]


if __name__ == "__main__":
    page = DOCS / "trainers.md"
    page.write_text(rewritten(page.read_text()))
