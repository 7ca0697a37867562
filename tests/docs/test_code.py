"""The Python of README.md and of the guides: what it names exists and takes these arguments, and what a newcomer copies first runs."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import hvs_data as hvs

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
BLOCKS = [
    pytest.param(text, id=f"{page.stem}-{number}")
    for page in PAGES
    for number, text in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL))
]


def named(tree: ast.AST) -> Iterator[tuple[Any, ast.expr]]:
    """What of hvs_data the code names, by ``hvs.`` or by an import, and where."""
    imported: dict[str, Any] = {"hvs": hvs}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("hvs_data"):
            module = importlib.import_module(node.module or "")
            for alias in node.names:
                its = getattr(module, alias.name, None) or importlib.import_module(f"{node.module}.{alias.name}")
                imported[alias.asname or alias.name] = its

    def value(node: ast.expr) -> Any:
        if isinstance(node, ast.Name):
            return imported.get(node.id)
        if isinstance(node, ast.Attribute) and (owner := value(node.value)) is not None:
            return getattr(owner, node.attr)
        return None

    for node in ast.walk(tree):
        if isinstance(node, (ast.Name, ast.Attribute)) and (found := value(node)) is not None:
            yield found, node


def wrong_arguments(code: str) -> list[str]:
    """Calls of hvs_data in the code that Python would refuse, as far as that is told without running them."""
    tree = ast.parse(textwrap.dedent(code))
    values = {id(node): found for found, node in named(tree)}
    wrong = []
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call) or id(call.func) not in values or any(isinstance(its, ast.Starred) for its in call.args):
            continue
        if any(its.arg is None for its in call.keywords):
            continue
        try:
            # "..." stands for arguments that the page leaves out
            left_out = any(isinstance(its, ast.Constant) and its.value is ... for its in call.args)
            signature = inspect.signature(values[id(call.func)])
            bind = signature.bind_partial if left_out else signature.bind
            bind(*call.args, **{its.arg: its.value for its in call.keywords if its.arg})
        except TypeError as error:
            wrong.append(f"{ast.unparse(call)}: {error}")
    return wrong


@pytest.mark.parametrize("code", BLOCKS)
def test_what_a_page_calls_is_there_and_takes_these_arguments(code: str) -> None:
    assert wrong_arguments(code) == []


def test_names_and_arguments_that_are_not_there_are_found() -> None:
    with pytest.raises(AttributeError, match="hardest"):
        wrong_arguments("hvs.hardest(model)")
    (wrong,) = wrong_arguments("hvs.HardViewSelector(objective, score_sizes=112)")
    assert "score_sizes" in wrong
    assert wrong_arguments("hvs.HardViewSelector(..., score_size=112)") == []


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folders of 40 photographs of two classes, in the current folder, under the names that the pages use."""
    draw = np.random.default_rng(0)
    for root in ("photos", "imagenet/train"):
        for number in range(40):
            folder = tmp_path / root / ("cat" if number % 2 else "dog")
            folder.mkdir(parents=True, exist_ok=True)
            coarse = Image.fromarray(draw.integers(0, 256, (6, 8, 3)).astype(np.uint8))
            coarse.resize((80, 60), Image.Resampling.BILINEAR).save(folder / f"{number:02}.jpg")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def blocks_of(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)


def test_the_first_run_does_what_it_says(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    code = blocks_of("docs/first_run.md")
    torch.manual_seed(0)
    for block in code:
        exec(compile(block, "first_run.md", "exec"), names)
    printed = capsys.readouterr().out.splitlines()
    said = re.search(r"print\(len\(batch.views\).*?# (.*)", "".join(code))
    assert said is not None and printed[0] == said[1]
    selection = names["batch"].selection
    first, second = selection.pair[0].tolist()
    losses = torch.nan_to_num(selection.losses[0], nan=-torch.inf)
    assert selection.losses.shape == (16, 4, 4) and losses[first, second] == losses.max()
    assert 0 <= selection.iou.mean() <= 1
    # it trained: two batches of 16 of the 40 photos, and one step more has begun
    assert names["selector"].step == 3 and names["loss"].isfinite()


def test_the_readmes_lines_train(photos: Path) -> None:
    (code,) = blocks_of("README.md")
    for published, small in (("batch_size=256", "batch_size=8"), ("candidates=4", "candidates=4, size=32")):
        assert published in code
        code = code.replace(published, small)

    model = nn.Module()
    model.encoder = nn.Sequential(nn.Conv2d(3, 8, 3, stride=4), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model.projector, model.predictor = nn.Linear(8, 8), nn.Linear(8, 8)
    seen = []

    def simsiam_loss(model: Any, x1: torch.Tensor, x2: torch.Tensor) -> torch.Tensor:
        z1, z2 = (model.projector(model.encoder(x)) for x in (x1, x2))
        seen.append(x1.shape)
        return -nn.functional.cosine_similarity(model.predictor(z1), z2.detach()).mean()

    before = model.predictor.weight.detach().clone()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    exec(compile(code, "README.md", "exec"), {"model": model, "optimizer": optimizer, "simsiam_loss": simsiam_loss})
    assert seen == [(8, 3, 32, 32)] * 5
    assert not torch.equal(model.predictor.weight, before)
