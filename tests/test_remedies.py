"""Remedies that the package's errors name: what they name exists, and following them works.

The inventory is read from the source: every message of an error, where a remedy follows the last semicolon. ``CASES`` runs into such
errors and does what they say; each names the words that it follows, which must stand in the source as they stand in the error.
"""

from __future__ import annotations

import ast
import inspect
import io
import re
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import hvs_data as hvs
from hvs_data.integrations import lightly, official

ROOT = Path(__file__).parents[1]
RECIPE = hvs.recipes.simsiam(candidates=4, size=8)

# Options of other packages' calls, of which a remedy speaks.
FOREIGN = {
    "devices": "lightning's Trainer",
    "per_device_train_batch_size": "transformers' TrainingArguments",
    "streaming": "datasets.load_dataset",
    "target_transform": "torchvision's datasets",
    "backend": "the kernels",
}


# ---- the inventory ----


@dataclass(frozen=True)
class Message:
    where: str
    text: str  # with {} for what is filled in

    @property
    def remedy(self) -> str:
        return self.text.rpartition("; ")[2] if "; " in self.text else ""


def text_of(node: ast.AST) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(value) if isinstance(value, ast.Constant) else "{}" for value in node.values)
    if isinstance(node, ast.BinOp):
        return text_of(node.left) + text_of(node.right)
    return ""


def messages() -> Iterator[Message]:
    for folder in ("hvs_data", "pipelines", "kernels"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if "demo" in path.parts:
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                    yield Message(f"{path.relative_to(ROOT)}:{node.lineno}", "".join(map(text_of, node.exc.args)))


MESSAGES = list(messages())


def public_callables() -> Iterator[Callable[..., Any]]:
    from hvs_data.integrations import accelerate, transformers

    faces = (hvs, hvs.recipes, hvs.objectives, hvs.formats, hvs.rules, lightly, official, accelerate, transformers)
    for face in faces:
        names = face.__all__ if hasattr(face, "__all__") else [name for name in vars(face) if not name.startswith("_")]
        for name in names:
            if callable(value := getattr(face, name)):
                yield value


def parameters_of(function: Callable[..., Any]) -> set[str]:
    try:
        return set(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return set()


def test_there_are_messages_with_remedies() -> None:
    assert len([message for message in MESSAGES if message.remedy]) > 100


def test_every_option_that_a_remedy_names_is_one() -> None:
    """Mechanism: a message advises an option that nothing takes."""
    ours = set().union(*(parameters_of(function) for function in public_callables()))
    named = {option: message.where for message in MESSAGES for option in re.findall(r"(?<![\w.])([a-z_]+)=(?!=)", message.remedy)}
    assert not {option: where for option, where in named.items() if option not in ours | FOREIGN.keys()}
    assert not FOREIGN.keys() - named.keys() and not FOREIGN.keys() & ours


def test_an_option_of_a_call_that_a_message_names_is_that_calls() -> None:
    """Mechanism: ViewLoader's messages advised options that only open_source takes."""
    checked = 0
    for message in MESSAGES:
        for name, arguments in re.findall(
            r"\b((?:hvs_data\.)?(?:open_source|ViewLoader|KeepTokens|HardViewSelector))\(([^()]*)", message.text
        ):
            takes = parameters_of(getattr(hvs, name.removeprefix("hvs_data.")))
            for option in re.findall(r"([a-z_]+)=", arguments):
                assert option in takes, (message.where, name, option)
                checked += 1
    assert checked > 10


def test_messages_of_sources_name_the_call_that_takes_their_options() -> None:
    """Mechanism: they arrive from ViewLoader(path) too, which takes none of them."""
    for message in MESSAGES:
        if message.where.startswith("hvs_data/sources/") and message.remedy:
            bare = re.sub(r"open_source\([^()]*\)", "", message.remedy)
            assert not re.search(r"pass (an? )?(layout|image|label|damaged_shards|index_cache)=", bare), message


# ---- sources, as a user meets them: through ViewLoader ----


def jpeg(seed: int = 0) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (16, 20, 3), dtype=np.uint8)).save(stream, "JPEG")
    return stream.getvalue()


def shard(path: Path, names: Sequence[str], contents: dict[str, bytes] | None = None) -> Path:
    with tarfile.open(path, "w") as archive:
        for number, name in enumerate(names):
            data = (contents or {}).get(name, jpeg(number))
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def error_of(action: Callable[[], Any]) -> str:
    with pytest.raises(hvs.HvsError) as raised:
        action()
    return str(raised.value)


def load(source: Any, **options: Any) -> int:
    """Images of an epoch that a loader hands out without a bad one."""
    loader = hvs.ViewLoader(source, RECIPE, batch_size=2, num_threads=1, max_bad_share=0, **options)
    return sum(len(batch.index) for batch in loader)


def advised(message: str) -> list[dict[str, str]]:
    """The options of open_source that a message names, one after another; ``label=None``, which helps against labels only, aside."""
    call = message.partition("hvs.open_source(..., ")[2]
    options = re.findall(r'(layout|image|label|damaged_shards)="?([\w.]+)"?', call)
    return [{name: value} for name, value in options if value != "None"]


def test_images_beside_sub_folders(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    for name in ("front.jpg", "cat/1.jpg", "cat/2.jpg"):
        (tmp_path / name).write_bytes(jpeg())
    options = advised(error_of(lambda: load(tmp_path)))
    assert options == [{"layout": "classes"}, {"layout": "flat"}]
    assert [load(hvs.open_source(tmp_path, **each)) for each in options] == [2, 3]


def test_a_class_without_images(tmp_path: Path) -> None:
    for folder in ("cat", "dog"):
        (tmp_path / folder).mkdir()
    (tmp_path / "cat" / "1.jpg").write_bytes(jpeg())
    message = error_of(lambda: load(tmp_path))
    (option,) = advised(message)
    assert load(hvs.open_source(tmp_path, **option)) == 1
    assert "got none in dog; remove them" in message
    (tmp_path / "dog").rmdir()
    assert load(tmp_path) == 1


def test_two_images_of_one_sample(tmp_path: Path) -> None:
    path = shard(tmp_path / "s.tar", ["0.jpg", "0.png", "1.jpg", "1.png"])
    (option,) = advised(error_of(lambda: load(path)))
    assert load(hvs.open_source(path, **option)) == 2


def test_two_views_of_one_sample(tmp_path: Path) -> None:
    """Mechanism: the advice was image="jpg" whatever the extensions are."""
    path = shard(tmp_path / "s.tar", ["0.left.png", "0.right.png", "1.left.png", "1.right.png"])
    (option,) = advised(error_of(lambda: load(path)))
    assert option == {"image": "left.png"} and load(hvs.open_source(path, **option)) == 2


def test_names_with_dots_are_said_to_be_parted_at_the_first(tmp_path: Path) -> None:
    """Mechanism: the first remedy silently drops half of the samples, so that it must say so, and the other one comes first."""
    names = ["22.05.png", "22.06.png"]
    message = error_of(lambda: load(shard(tmp_path / "s.tar", names)))
    assert 'image="05.png") to take that file alone of every sample' in message
    assert "if each is a sample of its own, write the shard anew with names that differ before their first dot" in message
    assert load(shard(tmp_path / "anew.tar", [name.replace(".", "-", 1) for name in names])) == 2


def test_a_sample_that_stands_in_a_shard_twice(tmp_path: Path) -> None:
    """Mechanism: the advice, image="jpg" or damaged_shards="keep", gave the same error again."""
    message = error_of(lambda: load(shard(tmp_path / "s.tar", ["0.jpg", "1.jpg", "0.jpg"])))
    assert not advised(message) and "write the shard anew, each name once" in message
    assert load(shard(tmp_path / "anew.tar", ["0.jpg", "1.jpg", "2.jpg"])) == 3


def test_a_shard_that_is_cut_off(tmp_path: Path) -> None:
    path = shard(tmp_path / "s.tar", ["0.jpg", "1.jpg", "2.jpg"])
    whole = path.read_bytes()
    end_of_second = whole.index(b"2.jpg")
    path.write_bytes(whole[: end_of_second + 700])
    (option,) = advised(error_of(lambda: load(path)))
    assert load(hvs.open_source(path, **option)) == 2
    # nothing before the damage, nothing to go on with
    path.write_bytes(whole[:600])
    assert not advised(error_of(lambda: load(path)))


def test_an_unusual_extension(tmp_path: Path) -> None:
    path = shard(tmp_path / "s.tar", ["0.img", "1.img"])
    (option,) = advised(error_of(lambda: load(path)))
    assert option == {"image": "EXTENSION"}
    assert load(hvs.open_source(path, image="img")) == 2


def test_a_label_of_another_extension(tmp_path: Path) -> None:
    path = shard(tmp_path / "s.tar", ["0.jpg", "0.cls", "0.id"], {"0.cls": b"cat", "0.id": b"7"})
    assert {"label": "EXTENSION"} in advised(error_of(lambda: load(path)))
    assert hvs.open_source(path, label="id").read(0).label == 7


def test_columns_of_a_table(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"a": [jpeg(0), jpeg(1)], "b": [jpeg(2), jpeg(3)]}), tmp_path / "x.parquet")
    assert {"image": "NAME"} in advised(error_of(lambda: load(tmp_path / "x.parquet")))
    assert load(hvs.open_source(tmp_path / "x.parquet", image="b")) == 2


# ---- the rest: a case an error ----


class Mean(hvs.Objective):
    def encode(self, pixels: Tensor) -> Tensor:
        return pixels.flatten(1)

    def pair_losses(self, outputs: Tensor) -> Tensor:
        return torch.cdist(outputs, outputs)


class Masked(Mean):
    extras = ("mask",)

    def encode(self, pixels: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
        return pixels.flatten(1)


def rows(recipe: hvs.recipes.Recipe = RECIPE, images: int = 3) -> hvs.ViewParams:
    return hvs.sample_views(recipe, seed=0, epoch=0, index=range(images), height=[20] * images, width=[24] * images)


def images(count: int = 3) -> hvs.ImageBatch:
    return hvs.ImageBatch([torch.zeros(20, 24, 3, dtype=torch.uint8)] * count)


def views(recipe: hvs.recipes.Recipe = RECIPE, count: int = 3) -> list[Tensor]:
    draw = torch.Generator().manual_seed(0)
    return [torch.randn(count, 3, role.size, role.size, generator=draw) for role in recipe.slot_roles]


def loader(count: int = 4, recipe: hvs.recipes.Recipe = RECIPE, **options: Any) -> hvs.ViewLoader:
    pictures = [Image.new("RGB", (24, 20), (number, 0, 0)) for number in range(count)]
    return hvs.ViewLoader(pictures, recipe, **{"batch_size": 2, "num_threads": 1, **options})


def select(candidates: Any, params: Any = None, objective: hvs.Objective | None = None, **options: Any) -> list[Tensor]:
    return hvs.HardViewSelector(objective or Mean(), **options)(candidates, params)


MASKED_RECIPE = hvs.recipes.ibot(2, 2, size=32, local_size=16, local_views=1, masking=hvs.recipes.Masking(patch_size=16))
DINO_RECIPE = hvs.recipes.dino(4, 16, size=8, local_size=4, local_views=8)


class Pairs(hvs.objectives.AdditiveObjective):
    def encode(self, pixels: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        return pixels.mean((1, 2, 3))[:, None], pixels.mean((1, 2, 3))[:, None]

    def encode_local(self, pixels: Tensor) -> Tensor:
        return pixels.mean((1, 2, 3))[:, None]

    def term_table(self, teacher: Tensor, student: Tensor, local: Tensor | None, views: int) -> Tensor:
        assert local is not None
        return teacher - torch.cat([student, local], dim=1).transpose(1, 2)


def moco(**options: Any) -> hvs.objectives.MoCoV2:
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    return hvs.objectives.MoCoV2(encoder=net, momentum_encoder=net, **options)


class Opaque(nn.Module):
    """A model whose forward returns one tensor, and whose parts have names of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.f, self.h = nn.Sequential(nn.Flatten(), nn.Linear(192, 4)), nn.Linear(4, 4)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.f(pixels)


class Blocks(nn.Module):
    """A transformer without the usual names."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList([nn.Linear(192 // 4, 8), nn.Linear(8, 8)])
        self.embed = nn.Conv2d(3, 8, 4, 4)
        self.token = nn.Parameter(torch.zeros(1, 1, 8))
        self.block = nn.Identity()

    def forward(self, pixels: Tensor) -> Tensor:
        tokens = torch.cat([self.token.expand(len(pixels), -1, -1), self.embed(pixels).flatten(2).transpose(1, 2)], dim=1)
        return self.block(tokens).mean(1)


BLOCKS = Blocks()


@dataclass(frozen=True)
class Case:
    """An error and what it says to do.

    Attributes:
        says: words of the remedy, as they stand in the message's source.
        wrong: runs into it.
        right: follows it, and returns something true.
    """

    says: str
    wrong: Callable[[], Any]
    right: Callable[[], Any]


def resumed_with(**changed: Any) -> bool:
    old = loader()
    next(iter(old))
    new = loader(**changed)
    new.load_state_dict(old.state_dict())
    return new.state_dict()["position"] == 2


CASES = {
    "one batch of all ranks": Case("pass drop_last=False", lambda: loader(1, drop_last=True), lambda: len(loader(1)) == 1),
    "no recipe": Case("recipes.simsiam(candidates=4)", lambda: loader(recipe="simsiam"), lambda: len(loader(recipe=RECIPE))),  # type: ignore[arg-type]
    "one candidate": Case(
        "pass candidates=4 or more to the recipe",
        lambda: hvs.HardViewLoader(loader(recipe=one_view()), hvs.HardViewSelector(Mean())),
        lambda: len(list(hvs.HardViewLoader(loader(), hvs.HardViewSelector(Mean())))) == 2,
    ),
    "one view": Case("draw more with the recipe's candidates=", lambda: select(views()[:1]), lambda: len(select(views())) == 2),
    "rank of the environment": Case(
        'such as int(os.environ["RANK"])',
        lambda: loader(rank="1", world_size="2"),
        lambda: len(loader(rank=int("1"), world_size=int("2"))) == 1,
    ),
    "rank alone": Case("give both or neither", lambda: loader(rank=1), lambda: len(loader(rank=1, world_size=2)) == 1),
    "a device that is not there": Case(
        'decode with device="cpu"', lambda: hvs.decode([jpeg()], device="xpu:77"), lambda: len(hvs.decode([jpeg()], device="cpu")) == 1
    ),
    "normalised bytes": Case(
        "pass normalize=False for 0-255, or a floating dtype",
        lambda: hvs.render(images(), rows(), dtype=torch.uint8, normalize=True),
        lambda: (
            hvs.render(images(), rows(), dtype=torch.uint8, normalize=False).dtype == torch.uint8
            and hvs.render(images(), rows(), dtype=torch.float16, normalize=True).dtype == torch.float16
        ),
    ),
    "several sizes": Case(
        "pass size=, or render the roles apart: params.views(params.slots(role))",
        lambda: hvs.render(images(), rows(DINO_RECIPE)),
        lambda: (
            hvs.render(images(), rows(DINO_RECIPE), size=6).shape[-1] == 6
            and hvs.render(images(), rows(DINO_RECIPE).views(rows(DINO_RECIPE).slots("local"))).shape[-1] == 4
        ),
    ),
    "masks of rows without": Case(
        "make it with hvs_data.recipes.ibot(masking=...)",
        lambda: next(iter(loader(format=hvs.formats.with_masks))),
        lambda: len(next(iter(loader(recipe=MASKED_RECIPE, format=hvs.formats.with_masks)))) == 3,
    ),
    "an objective of masks": Case(
        "drawn from a recipe that has it (for masks: masking=hvs_data.recipes.Masking())",
        lambda: select(views(masked()), rows(replace(masked(), masking=None)), Masked()),
        lambda: select(views(masked()), rows(masked()), Masked()),
    ),
    "a role that emits one": Case(
        "set emitted= in the recipe's roles",
        lambda: select(views(), rows(RECIPE.with_roles(emitted=1))),
        lambda: select(views(), rows(RECIPE.with_roles(emitted=2))),
    ),
    "too many combinations": Case(
        "set limit= to sample some of them",
        lambda: select(views(DINO_RECIPE), rows(DINO_RECIPE), Pairs(), policy="quantile"),
        lambda: len(select(views(DINO_RECIPE), rows(DINO_RECIPE), Pairs(), policy="quantile", limit=64)) == 10,
    ),
    "a rule without rows": Case(
        "pass params, such as batch.params, or give pairs that may not be chosen the loss NaN",
        lambda: select(views(), allowed=hvs.rules.MinIoU(0.2)),
        lambda: select(views(), rows(), allowed=hvs.rules.MinIoU(0.2)),
    ),
    "a rule of images of unknown size": Case(
        "or write image_size= [B, 2] into rows of your own",
        lambda: hvs.rules.MinArea(0.1)(replace(rows(), image_size=None)),
        lambda: hvs.rules.MinArea(0.1)(replace(rows(), image_size=torch.tensor([[20, 24]] * 3))).any(),
    ),
    "a rule that is no table": Case(
        "write a comparison, such as lambda rows: hvs_data.iou(rows) >= 0.2",
        lambda: select(views(), rows(), allowed=hvs.iou),
        lambda: select(views(), rows(), allowed=lambda rows: hvs.iou(rows) >= 0.2),
    ),
    "prefilter without rows": Case(
        "pass params, such as batch.params", lambda: select(views(), prefilter=3), lambda: select(views(), rows(), prefilter=3)
    ),
    "tokens of an unknown transformer": Case(
        "keep_tokens=KeepTokens(0.5, blocks=[vit.stages[0]], prefix=1)",
        lambda: hvs.HardViewSelector(hvs.objectives.SimCLR(encoder=BLOCKS), keep_tokens=0.5),
        lambda: select(
            views(), objective=hvs.objectives.SimCLR(encoder=BLOCKS), keep_tokens=hvs.KeepTokens(0.5, blocks=[BLOCKS.block], prefix=1)
        ),
    ),
    "a queue": Case(
        "pass queue=, a tensor,", lambda: moco(), lambda: select(views(), objective=moco(queue=torch.randn(4, 8), symmetric=True))
    ),
    "a queue for each view": Case(
        "pass symmetric=True",
        lambda: select(views(), objective=moco(queue=torch.randn(2, 4, 8), symmetric=False)),
        lambda: select(views(), objective=moco(queue=torch.randn(2, 4, 8), symmetric=True)),
    ),
    "a model of one output": Case(
        "or pass encoder= and predictor= instead",
        lambda: select(views(), objective=hvs.objectives.SimSiam(Opaque())),
        lambda: select(views(), objective=hvs.objectives.SimSiam(encoder=Opaque().f, predictor=Opaque().h)),
    ),
    "no jitter": Case(
        "write ColorJitter(p=0) for none",
        lambda: RECIPE.with_roles(jitter=None),
        lambda: RECIPE.with_roles(jitter=hvs.recipes.ColorJitter(p=0)),
    ),
    "a pair of one draw": Case(
        "makes two roles, of which a pair takes one view each",
        lambda: RECIPE.with_roles(shared="color"),
        lambda: len(select(views(RECIPE.with_shared("color")), rows(RECIPE.with_shared("color")))) == 2,
    ),
    "emitted views that are no pair": Case(
        "set emitted= in the recipe's roles to what a pair takes of each",
        lambda: RECIPE.with_roles(emitted=1).with_shared("crop"),
        lambda: RECIPE.with_roles(emitted=2).with_shared("crop"),
    ),
    "a masking": Case(
        "write Masking(patch_size=16)",
        lambda: replace(hvs.recipes.ibot(), masking=16),  # type: ignore[arg-type]
        lambda: replace(hvs.recipes.ibot(), masking=hvs.recipes.Masking(patch_size=16)),
    ),
    "one pipeline of two views": Case(
        "pass [transform, transform]",
        lambda: hvs.recipe_from(one_pipeline(), candidates=4),
        lambda: hvs.recipe_from([one_pipeline()] * 2, candidates=4),
    ),
}


def one_view() -> hvs.recipes.Recipe:
    return hvs.recipes.Recipe("one", (replace(RECIPE.roles[0], candidates=1, emitted=1),))


def masked() -> hvs.recipes.Recipe:
    return replace(hvs.recipes.simsiam(candidates=4, size=32), masking=hvs.recipes.Masking(patch_size=16))


def one_pipeline() -> Any:
    from torchvision.transforms import v2

    return v2.Compose([v2.RandomResizedCrop(16), v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5] * 3, [0.5] * 3)])


@pytest.mark.filterwarnings("ignore::hvs_data.integrations.transforms.ApproximateRecipeWarning")
@pytest.mark.parametrize("name", CASES)
def test_what_an_error_advises_works(name: str) -> None:
    case = CASES[name]
    assert any(case.says in message.text for message in MESSAGES), "no error says so any more; correct or remove the case"
    assert case.says in error_of(case.wrong)
    followed = case.right()
    assert followed is not False and followed is not None


def test_what_is_decided_when_a_loader_is_made_is_said_to_need_another() -> None:
    """Mechanism: `loader.recipe = other` took the sizes of the other and drew the rows of the first."""
    with pytest.raises(AttributeError, match=r"ViewLoader.batch_size is decided when it is made .*load_state_dict\(state_dict\(\)\)"):
        loader().batch_size = 4
    assert resumed_with(batch_size=1)
