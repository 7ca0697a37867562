"""Images decoded a batch at a time behind the worker threads, with a lane whose device is the CPU and nvImageCodec's CPU backend."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import hvs_data as hvs
from hvs_data.errors import BadImagesError, DecodeError, HvsError, MissingDependencyError
from hvs_data.loaders import device_decoding, view_loader
from hvs_data.loaders.device_decoding import DecodingProduction, choose_decoder, device_decoder, faster_on_device
from hvs_data.loaders.order import EpochOrder
from hvs_data.loaders.plan import Plan
from hvs_data.loaders.production import Production
from hvs_data.pipelines.decode import decode_image
from hvs_data.types import Batch

RECIPE = hvs.recipes.simsiam(candidates=3, size=24)
WHY = "needs nvImageCodec, which comes with DALI: pip install 'hvs_data[dali-test]'"


class HostLane:
    """A lane whose device is the CPU."""

    device = torch.device("cpu")

    def host_memory(self, size: int) -> Tensor:
        return torch.empty(size, dtype=torch.uint8)

    @contextmanager
    def working(self) -> Iterator[None]:
        yield

    def to_device(self, tensor: Tensor) -> Tensor:
        return tensor.clone()

    def mark(self) -> None:
        return None

    def hand_over(self, mark: None, tensors: Iterable[Tensor]) -> None:
        pass


class HostDecoder:
    """Decodes with the usual decoder, and counts."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def decode(self, items: Sequence[Any]) -> list[Tensor | DecodeError]:
        self.batches.append(len(items))
        results: list[Tensor | DecodeError] = []
        for item in items:
            try:
                results.append(torch.from_numpy(decode_image(item)))
            except DecodeError as error:
                results.append(error)
        return results


def batches(source: Any, decoder: Any | None, selector: hvs.HardViewSelector | None = None, **options: Any) -> list[Batch]:
    """An epoch, decoded together by a decoder, or as the CPU's loader does."""

    def begin(plan: Plan, order: EpochOrder, **arguments: Any) -> Production:
        if decoder is None:
            return Production(plan, order, **arguments)
        return DecodingProduction(plan, order, HostLane(), decoder, **arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(view_loader, "begin_production", begin)
        loader = hvs.ViewLoader(source, RECIPE, 5, seed=4, **options)
        return list(loader if selector is None else hvs.HardViewLoader(loader, selector))


def assert_same(actual: list[Batch], expected: list[Batch]) -> None:
    for a, b in zip(actual, expected, strict=True):
        assert torch.equal(a.index, b.index) and torch.equal(a.labels, b.labels) and torch.equal(a.params.box, b.params.box)
        assert all(torch.equal(x, y) for x, y in zip(a.views, b.views, strict=True))


@pytest.fixture
def mixed(photos: Path, tmp_path: Path) -> Path:
    """The photographs, some of them cut short or not images at all, and one of another format."""
    root = tmp_path / "mixed"
    shutil.copytree(photos, root)
    (root / "cat" / "03.jpg").write_bytes((root / "cat" / "03.jpg").read_bytes()[:-200])
    (root / "dog" / "10.jpg").write_bytes(b"\xff\xd8\xff not a picture")
    (root / "dog" / "11.jpg").write_bytes(b"")
    Image.open(root / "dog" / "12.jpg").save(root / "dog" / "12.png")
    (root / "dog" / "12.jpg").unlink()
    return root


@pytest.mark.parametrize("num_threads", [1, 3])
def test_batches_are_those_of_the_cpu(photos: Path, num_threads: int) -> None:
    decoder = HostDecoder()
    assert_same(batches(photos, decoder, num_threads=num_threads), batches(photos, None))
    assert sum(decoder.batches) == 22 and max(decoder.batches) == 5  # a batch at a time


def test_bad_files_are_replaced_as_on_the_cpu(mixed: Path, tmp_path: Path) -> None:
    lists = [tmp_path / name for name in ("a.jsonl", "b.jsonl")]
    actual, expected = (batches(mixed, decoder, quarantine=log) for decoder, log in zip((HostDecoder(), None), lists, strict=True))
    assert_same(actual, expected)
    noted, usual = (sorted(log.read_text().splitlines()) for log in lists)
    assert noted == usual and len(noted) == 3


def test_too_many_bad_files_stop_the_run(mixed: Path) -> None:
    with pytest.raises(BadImagesError, match="to be unreadable"):
        batches(mixed, HostDecoder(), max_bad_share=0.0)


def test_with_nvimagecodec(mixed: Path) -> None:
    pytest.importorskip("nvidia.nvimgcodec", reason=WHY)
    decoder = device_decoder(torch.device("cpu"), 10**6)
    assert_same(batches(mixed, decoder), batches(mixed, None))


def test_the_chosen_pair_is_rendered_again_from_kept_images(photos: Path) -> None:
    model = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten())

    class Distance(hvs.Objective):
        def encode(self, pixels: Tensor) -> Tensor:
            return model(pixels)

        def pair_losses(self, outputs: Tensor) -> Tensor:
            return torch.cdist(outputs, outputs)

    actual, expected = (
        batches(photos, decoder, hvs.HardViewSelector(Distance(), score_size=12)) for decoder in (HostDecoder(), None)
    )  # fmt: skip
    assert_same(actual, expected)


def test_arrays_that_may_not_be_written_to(monkeypatch: pytest.MonkeyPatch) -> None:
    images = [np.full((20 + number, 30, 3), 9 * number, np.uint8) for number in range(7)]
    for image in images:
        image.flags.writeable = False
    source = [(image, number) for number, image in enumerate(images)]
    expected, make = batches(source, None), torch.from_numpy

    def checked(array: np.ndarray) -> Tensor:
        assert array.flags.writeable, "torch would warn, once in a process"
        return make(array)

    monkeypatch.setattr(torch, "from_numpy", checked)
    assert_same(batches(source, HostDecoder()), expected)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda(mixed: Path, tmp_path: Path) -> None:
    pytest.importorskip("nvidia.nvimgcodec", reason=WHY)
    lists = [tmp_path / name for name in ("a.jsonl", "b.jsonl")]
    on_device, on_cpu = (
        list(hvs.ViewLoader(mixed, RECIPE, 5, "cuda", 4, decode_on=where, quarantine=log))
        for where, log in zip(("device", "cpu"), lists, strict=True)
    )
    for a, b in zip(on_device, on_cpu, strict=True):
        assert torch.equal(a.index, b.index) and torch.equal(a.labels, b.labels) and torch.equal(a.params.box, b.params.box)
        # how far pixels are off by a GPU's inverse transform and upsampling of colour is not known
        assert all(
            view.is_cuda and view.shape == other.shape and view.isfinite().all() for view, other in zip(a.views, b.views, strict=True)
        )
    assert sorted(lists[0].read_text().splitlines()) == sorted(lists[1].read_text().splitlines())


# --- the choice ----------------------------------------------------------------------------------------------------------


class Waiting:
    """Takes its time: when it is called, or when what it left to its device is waited for."""

    def __init__(self, seconds: float, left: float = 0):
        self.seconds, self.left, self.calls = seconds, left, 0

    def decode(self, items: Sequence[Any]) -> list[Any]:
        self.calls += 1
        time.sleep(self.seconds)
        return [None] * len(items)

    def finish(self) -> None:
        time.sleep(self.left)


def test_the_faster_one_is_taken_and_logged(photos: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = [path.read_bytes() for path in sorted(photos.rglob("*.jpg"))]
    decoders = [Waiting(0), Waiting(1.0), Waiting(0, left=0.5)]
    with caplog.at_level(logging.INFO, "hvs_data"):
        assert [faster_on_device(files, decoder, 1, decoder.finish) for decoder in decoders] == [True, False, False]
    assert {decoder.calls for decoder in decoders} == {1 + device_decoding.TRIALS}
    assert [record.getMessage().split("; ")[1] for record in caplog.records] == [
        f"images are decoded on the {x}" for x in ("device", "CPU", "CPU")
    ]
    assert not faster_on_device([], decoders[0], 1, decoders[0].finish)


def choice(where: str, device: str = "cuda", source: Any = None, **options: Any) -> Any:
    usual: dict[str, Any] = {"exif_orientation": False, "max_pixels": 10**6, "scaled_decode": False, "num_threads": 1}
    return choose_decoder(where, source, torch.device(device), **{**usual, **options})


def test_what_is_chosen(mixed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = hvs.open_source(mixed)
    decoders = [Waiting(0), Waiting(1.0), Waiting(0, left=0.5)]
    asked: list[Any] = []
    for decoder, expected in zip(decoders, (decoders[0], None, None), strict=True):
        monkeypatch.setattr(device_decoding, "device_decoder", lambda *given, decoder=decoder: asked.append(given) or decoder)
        monkeypatch.setattr(torch.cuda, "synchronize", lambda device, decoder=decoder: decoder.finish())
        assert choice("cpu") is None
        assert choice("device") is decoder
        assert choice("fastest", source=source) is expected
    # as many threads as would decode on the CPU
    assert set(asked) == {(torch.device("cuda"), 10**6, 1)}
    choice("device", num_threads=7)
    assert asked[-1] == (torch.device("cuda"), 10**6, 7)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"where": "gpu"}, "decode_on must be one of"),
        ({"where": "device", "device": "cpu"}, 'needs device="cuda"'),
        ({"where": "fastest", "scaled_decode": True}, "scaled_decode=True"),
        ({"where": "device", "exif_orientation": True}, "exif_orientation=True"),
    ],
)
def test_requests_that_cannot_be_fulfilled(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(HvsError, match=message):
        choice(**arguments)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    for name in [name for name in sys.modules if name.startswith(("hvs_data.pipelines.dali_", "nvidia.nvimgcodec"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "nvidia.nvimgcodec", None)
    with pytest.raises(MissingDependencyError, match=r"nvidia\.nvimgcodec.*hvs_data\[cuda1[23]\]"):
        device_decoder(torch.device("cpu"), 1)
