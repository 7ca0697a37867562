"""What two machines make of the same seeds, files and weights: one writes it down, the other compares.

    python tests/machines/twin.py write FILE        on one machine
    python tests/machines/twin.py compare FILE      on another, or on the same with other settings

Rows, decoded pixels and the hardest pairs of given candidates must be equal; rendered pixels lie within the bounds of render_bounds.py
around the reference, which the first machine computes in float64. Prints a line for each and fails where one does not hold.
"""

# Axes: B image, V view, H W pixels, S side.

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

sys.path.append(str(Path(__file__).parents[1] / "support"))

import hvs_data as hvs
from encoded_files import encoded
from encoded_files import photo as picture
from hvs_data.loaders.order import EpochOrder
from hvs_data.pipelines.decode import decode_image
from hvs_data.recipes.masking import Masking
from hvs_data.rows.masking import sample_masks
from numba_rendering import judged, stored
from render_material import PRESETS, SIZES, drawn_rows, photo
from small_simsiam import LENGTH, SmallSimSiam

# Losses of the same pixels on two machines: the network below works in float64, the cosines of its outputs in float32, where each errs
# by 2 D + 8 units (see COSINE in pair_formulas.py), the loss by one more.
SAME_LOSS = 2 * (2 * LENGTH + 9) * 2.0**-24

CANDIDATES = 4
LEGAL = torch.ones(CANDIDATES, CANDIDATES, dtype=torch.bool).triu(1)

Record = dict[str, Tensor]
Finding = tuple[str, bool]


# --- rows: drawn numbers, bit for bit -------------------------------------------------------------------------------------


def rows() -> Record:
    """Every preset's rows and overlaps for images of any size, masks of both shapes, and the order of an epoch."""
    draw = torch.Generator().manual_seed(0)
    index = torch.randint(2**62, (300,), generator=draw)
    height, width = torch.randint(1, 700, (2, 300), generator=draw)
    kept: Record = {}
    for name, recipe in PRESETS.items():
        params = hvs.sample_views(recipe, seed=2**63 + 5, epoch=7, index=index, height=height, width=width)
        kept |= {f"{name}, {field}": value for field, value in params.tensors().items()}
        kept[f"{name}, overlap"] = hvs.iou(params)
    keys: dict[str, Any] = {"seed": 1, "epoch": 4, "index": index.numpy(), "slots": np.arange(3, dtype=np.uint64), "grid": 14}
    for shape in ("block", "random"):
        kept[f"masks, {shape}"] = torch.from_numpy(sample_masks(Masking(shape=shape), **keys))
    kept["order"] = torch.from_numpy(EpochOrder(1_281_167, seed=3, epoch=2)(torch.arange(20_000).numpy()))
    return kept


def compare_rows(theirs: Record) -> Iterator[Finding]:
    ours = rows()
    unequal = [name for name in theirs.keys() | ours.keys() if not equal_bits(ours.get(name), theirs.get(name))]
    yield f"{len(theirs)} tensors of rows, overlaps, masks and orders: {verdict(unequal)}", not unequal


def equal_bits(ours: Tensor | None, theirs: Tensor | None) -> bool:
    if ours is None or theirs is None or ours.dtype != theirs.dtype or ours.shape != theirs.shape:
        return False
    return ours.contiguous().numpy().tobytes() == theirs.contiguous().numpy().tobytes()


def verdict(unequal: list[str]) -> str:
    return f"{len(unequal)} differ: {', '.join(sorted(unequal)[:5])}" if unequal else "equal bit for bit"


# --- decoded pixels, value for value --------------------------------------------------------------------------------------


def files() -> dict[str, bytes]:
    """Encoded on one machine only, so that a difference is the decoder's."""
    found = {}
    for height, width in ((61, 83), (200, 150), (16, 1)):
        image = picture(height, width)
        for sampling in ("4:4:4", "4:2:2", "4:2:0"):
            for progressive in (False, True):
                kind = f"{'progressive ' if progressive else ''}JPEG {sampling}"
                found[f"{kind}, {height} x {width}"] = encoded(image, "JPEG", quality=83, subsampling=sampling, progressive=progressive)
        found[f"grey JPEG, {height} x {width}"] = encoded(image.convert("L"), "JPEG")
        found[f"CMYK JPEG, {height} x {width}"] = encoded(image.convert("CMYK"), "JPEG")
        found[f"PNG, {height} x {width}"] = encoded(image, "PNG")
        found[f"lossy WebP, {height} x {width}"] = encoded(image, "WEBP", quality=70)
    return found


def decoded(data: Mapping[str, bytes]) -> Record:
    pixels = {name: image for name, image in zip(data, hvs.decode(list(data.values()), num_threads=2), strict=True)}
    for name, encoded_bytes in data.items():
        for denominator in (2, 4, 8) if "JPEG" in name else ():
            pixels[f"{name}, 1/{denominator}"] = torch.from_numpy(decode_image(encoded_bytes, denominator=denominator))
    return pixels


def compare_decoded(data: Mapping[str, bytes], theirs: Record) -> Iterator[Finding]:
    ours = decoded(data)
    unequal = [name for name, pixels in theirs.items() if not equal_bits(ours[name], pixels)]
    yield f"{len(theirs)} decoded images of {len(data)} files: {verdict(unequal)}", not unequal


# --- rendered pixels, within bounds of the reference ----------------------------------------------------------------------


def renderings() -> Iterator[tuple[str, list[Tensor], hvs.ViewParams, int, torch.dtype]]:
    small = [photo(height, width, seed) for seed, (height, width) in enumerate(SIZES)]
    for name in ("simsiam", "simclr", "byol", "dinov2, as run"):
        yield name, small, drawn_rows(PRESETS[name], small), 32, torch.float32
    large = [photo(375, 500)]
    for name in ("simsiam", "dinov2, as run"):
        params = drawn_rows(PRESETS[name], large, seed=1)
        for size in (96, 37):
            yield f"{name}, a photograph at {size}", large, params, size, torch.float32
    for dtype in (torch.uint8, torch.float16, torch.bfloat16):
        yield f"byol as {str(dtype).removeprefix('torch.')}", small, drawn_rows(PRESETS["byol"], small, seed=2), 40, dtype


def rendered(images: list[Tensor], params: hvs.ViewParams, size: int, dtype: torch.dtype) -> Tensor:
    return hvs.render(images, params, size=size, engine="fused", dtype=dtype, num_threads=2).contiguous()


def pixels() -> Record:
    kept = {}
    for name, images, params, size, dtype in renderings():
        expected, bounds = stored(*judged(images, params, size, normalize=dtype.is_floating_point), dtype)
        kept |= {name: rendered(images, params, size, dtype), f"{name}, expected": expected, f"{name}, bounds": bounds}
    return kept


def compare_pixels(theirs: Record) -> Iterator[Finding]:
    outside, unequal, count, largest = [], 0, 0, dict.fromkeys(("float32", "the shorter types"), 0.0)
    for name, images, params, size, dtype in renderings():
        ours = rendered(images, params, size, dtype)
        expected, bounds = theirs[f"{name}, expected"], theirs[f"{name}, bounds"]
        # NaN compares as not within
        if not bool(((ours.double() - expected).abs() <= bounds).all()):
            outside.append(name)
        unequal += int((ours != theirs[name]).sum())
        count += ours.numel()
        kind = "float32" if dtype == torch.float32 else "the shorter types"
        largest[kind] = max(largest[kind], levels(ours, theirs[name], params))
    yield f"{count} rendered values: {describe(outside)}; {unequal} differ from the other machine's", not outside
    yield "farthest from the other machine's, in levels of 0 to 255: " + ", ".join(f"{k} {v:.2g}" for k, v in largest.items()), True


def levels(ours: Tensor, theirs: Tensor, params: hvs.ViewParams) -> float:
    """The largest difference in levels of 8 bits. Where a value stands at the threshold of solarizing, one machine may invert it."""
    difference = (ours.double() - theirs.double()).abs()
    if ours.dtype.is_floating_point:
        difference = difference * torch.tensor(params.spec.std, dtype=torch.float64)[:, None, None] * 255
    return float(difference[~params.solarize].max())


def describe(outside: list[str]) -> str:
    return f"outside of the bounds in {', '.join(outside)}" if outside else "all within the bounds of the reference"


# --- a loader and the hardest pairs ---------------------------------------------------------------------------------------


class Doubled(nn.Module):
    """A network of float64 for pixels of float32: what its losses differ by then comes from the pixels."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network.double()

    def forward(self, pixels: Tensor) -> Tensor:
        return self.network(pixels.double())


def selector_of(weights: Mapping[str, Tensor]) -> hvs.HardViewSelector:
    model = SmallSimSiam()
    model.load_state_dict(weights)
    return hvs.HardViewSelector(hvs.objectives.SimSiam(encoder=Doubled(model.encoder), projector=None, predictor=model.predictor.double()))


def photographs() -> list[bytes]:
    return [encoded(picture(40 + 7 * number, 130 - 5 * number), "JPEG", quality=90) for number in range(12)]


def epoch(data: list[bytes], weights: Mapping[str, Tensor]) -> list[Record]:
    """Each batch of a small loader: its candidates, and the pairs chosen from the same ones by a loader of hardest pairs."""
    with tempfile.TemporaryDirectory() as folder:
        for number, encoded_bytes in enumerate(data):
            path = Path(folder) / ("cat" if number % 3 else "dog") / f"{number:02}.jpg"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(encoded_bytes)

        def loader() -> hvs.ViewLoader:
            recipe = hvs.recipes.simsiam(CANDIDATES, size=24)
            return hvs.ViewLoader(folder, recipe, batch_size=6, seed=11, num_threads=2)

        kept = []
        for batch, hard in zip(loader(), hvs.HardViewLoader(loader(), selector_of(weights)), strict=True):
            assert batch.params is not None and hard.selection is not None and hard.selection.losses is not None
            chosen = torch.stack(list(hard.views), dim=1)
            named = {"index": batch.index, "labels": batch.labels, "pair": hard.selection.pair, "losses": hard.selection.losses}
            kept.append({**batch.params.tensors(), **named, "candidates": torch.stack(list(batch.views), dim=1), "chosen": chosen})
        return kept


def compare_epoch(data: list[bytes], weights: Mapping[str, Tensor], theirs: list[Record]) -> Iterator[Finding]:
    wrong, pairs, same, moved = [], 0, 0, 0.0
    for ours, other in zip(epoch(data, weights), theirs, strict=True):
        exact = other.keys() - {"pair", "losses", "candidates", "chosen"}
        wrong += [name for name in exact if not equal_bits(ours[name], other[name])]
        # the other machine's candidates, scored here
        selection = selector_of(weights).select(list(other["candidates"].unbind(1)))
        # a NaN compares as not within
        if not apart(selection.losses, other["losses"]) <= SAME_LOSS:
            wrong.append("losses of the other machine's candidates")
        for pair, losses in ((selection.pair, other["losses"]), (other["pair"], selection.losses)):
            if not behind(pair, losses) <= 2 * SAME_LOSS:
                wrong.append("pairs of the other machine's candidates")
        # own candidates: a pair may change where its lead is less than what the pixels change
        change = apart(ours["losses"], other["losses"])
        if not behind(ours["pair"], other["losses"]) <= 2 * change:
            wrong.append("pairs of own candidates")
        gathered = ours["candidates"][torch.arange(len(ours["pair"]))[:, None], ours["pair"]]
        if not torch.equal(gathered, ours["chosen"]):
            wrong.append("views of the chosen pairs")
        pairs += len(ours["pair"])
        same += int((ours["pair"] == other["pair"]).all(1).sum())
        moved = max(moved, change)
    told = f"wrong: {', '.join(dict.fromkeys(wrong))}" if wrong else "rows and order equal, pairs as the losses say"
    yield f"an epoch of hardest pairs: {told}; {same} of {pairs} pairs the same, losses moved by at most {moved:.1g}", not wrong


def apart(losses_BVV: Tensor, others_BVV: Tensor) -> float:
    """The largest difference of a pair's loss; that of a view with itself is NaN."""
    return float((losses_BVV - others_BVV).abs()[:, LEGAL].max())


def behind(pair_B2: Tensor, losses_BVV: Tensor) -> float:
    """By how much the losses of these pairs stay behind the hardest ones' at most."""
    return float((losses_BVV[:, LEGAL].amax(1) - losses_BVV[torch.arange(len(pair_B2)), *pair_B2.T]).max())


# --- the two commands -----------------------------------------------------------------------------------------------------


def write(path: Path) -> None:
    data, photos, weights = files(), photographs(), SmallSimSiam().state_dict()
    kept = {
        "files": data, "photographs": photos, "weights": weights,
        "rows": rows(), "decoded": decoded(data), "pixels": pixels(), "epoch": epoch(photos, weights),
    }  # fmt: skip
    partial = path.with_name(path.name + ".part")
    torch.save(kept, partial)
    partial.replace(path)


def compare(path: Path, tell: Callable[[str], None] = print) -> bool:
    theirs: dict[str, Any] = torch.load(path, weights_only=True)
    parts = (
        compare_rows(theirs["rows"]),
        compare_decoded(theirs["files"], theirs["decoded"]),
        compare_pixels(theirs["pixels"]),
        compare_epoch(theirs["photographs"], theirs["weights"], theirs["epoch"]),
    )
    right = True
    for part in parts:
        for line, holds in part:
            tell(f"{'ok' if holds else 'WRONG'}: {line}")
            right &= holds
    return right


def main(arguments: list[str]) -> int:
    if len(arguments) != 2 or arguments[0] not in ("write", "compare"):
        print(__doc__, file=sys.stderr)
        return 2
    torch.manual_seed(0)
    if arguments[0] == "write":
        write(Path(arguments[1]))
        return 0
    return 0 if compare(Path(arguments[1])) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
