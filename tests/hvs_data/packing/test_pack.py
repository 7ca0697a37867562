"""Packed shards: the same views as from the files, readable by others, and the same bytes whatever happened while they were written."""

# Axes: B image, V view, C channel, H W pixels.

from __future__ import annotations

import io
import json
import os
import resource
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import hvs_data as hvs
from hvs_data.errors import HvsError, SourceError
from hvs_data.packing.images import Form, is_deep, resized
from hvs_data.packing.pack import pack
from hvs_data.packing.writing import key_of
from hvs_data.pipelines.decode import decode_image
from hvs_data.sources import shards as shards_module
from hvs_data.sources.base import Source
from hvs_data.sources.shard_index import split_name
from source_contract import FORMATS, photos

RECIPE = hvs.recipes.simsiam(candidates=3, size=24)
DEEP = RECIPE.with_channels([0.4] * 5, [0.2] * 5, (0, 4095))
SMALL = 40_000  # bytes of a shard, so that there are several
RAW = Form("raw")


def smooth(seed: int, height: int, width: int, channels: int = 3) -> np.ndarray:
    draw = np.random.default_rng(seed)
    coarse = draw.integers(0, 256, (6, 6, channels)).astype(np.uint8)
    return resized(coarse, height, width)


def of_pillow(pixels_HWC: np.ndarray, quality: int) -> np.ndarray:
    """What is left of pixels when Pillow stores them as JPEG, with half the colours' resolution."""
    buffer = io.BytesIO()
    Image.fromarray(pixels_HWC).save(buffer, "JPEG", quality=quality, subsampling="4:2:0")
    return np.array(Image.open(buffer))


def save(path: Path, image: Image.Image, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 pictures of two classes in many kinds of files, two of which cannot be read."""
    root = tmp_path_factory.mktemp("pictures")
    for number in range(16):
        image = Image.fromarray(smooth(number, 40 + number, 70 - number))
        save(root / ("cat" if number % 3 else "dog") / f"{number:02}.jpg", image, quality=92, subsampling=2 * (number % 2))
    turned = Image.Exif()
    turned[274] = 6
    pictures = Image.fromarray(smooth(20, 44, 60))
    save(root / "dog/turned.jpg", pictures, exif=turned)
    save(root / "dog/cmyk.jpg", pictures.convert("CMYK"))
    save(root / "dog/grey.jpg", pictures.convert("L"))
    save(root / "dog/two.dots.png", pictures)
    save(root / "cat/01.png", pictures)  # named as 01.jpg is, but for its ending
    save(root / "cat/palette.png", pictures.quantize(30))
    (root / "cat/broken.jpg").write_bytes(b"this is not a picture")
    (root / "dog/cut.jpg").write_bytes((root / "dog/00.jpg").read_bytes()[:300])
    return root


def packed(source: Any, out: Path, form: Form = RAW, shard_bytes: int = SMALL, threads: int = 2) -> Source:
    pack(source if isinstance(source, Source) else hvs.open_source(source), str(out), form, shard_bytes, threads)
    return hvs.open_source(out)


def sound(source: Source) -> list[int]:
    return [index for index in range(len(source)) if "broken" not in source.name_of(index) and "cut" not in source.name_of(index)]


def views(source: Source, indices: Sequence[int], recipe: hvs.Recipe = RECIPE, **options: Any) -> list[torch.Tensor]:
    """Views of these images, drawn by their number in the list."""
    images = [
        decode_image(source.read(index).data, channels=recipe.channels, deep=recipe.value_range is not None, **options) for index in indices
    ]
    rows = hvs.sample_views(
        recipe, seed=1, epoch=0, index=list(range(len(images))), height=[i.shape[0] for i in images], width=[i.shape[1] for i in images]
    )
    return hvs.render(hvs.ImageBatch(images), rows)


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


# --- what is in them ---------------------------------------------------------------------------------------------------


def test_raw_views_are_those_of_the_files(folder: Path, tmp_path: Path) -> None:
    before, after = hvs.open_source(folder), packed(folder, tmp_path / "out")
    good = sound(before)
    assert len(after) == len(good) == len(before) - 2 and after.classes == before.classes == ("cat", "dog")
    assert [after.read(n).label for n in range(len(after))] == [before.read(index).label for index in good]
    assert all(map(torch.equal, views(after, range(len(after))), views(before, good)))
    told = json.loads((tmp_path / "out/pack.json").read_text())["remarks"]
    assert told == {"turned": 1}
    upright = packed(folder, tmp_path / "upright", Form("raw", upright=True))
    assert all(map(torch.equal, views(upright, range(len(after))), views(before, good, exif_orientation=True)))


def test_a_loader_gives_the_same_from_raw_shards(tmp_path: Path) -> None:
    images = [(smooth(number, 40, 50 + number), number % 4) for number in range(20)]
    before = hvs.open_source(images)
    after = packed(before, tmp_path / "out")
    for ours, expected in zip(hvs.ViewLoader(after, RECIPE, 6, seed=3), hvs.ViewLoader(before, RECIPE, 6, seed=3), strict=True):
        assert torch.equal(ours.labels, expected.labels)
        assert all(map(torch.equal, ours.views, expected.views))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "int32"])
def test_images_of_any_bits_and_channels_are_stored_as_arrays(dtype: str, tmp_path: Path) -> None:
    draw = np.random.default_rng(2)
    images = [draw.integers(0, 250, (30 + number, 41, 5)).astype(dtype) for number in range(9)]
    before = hvs.open_source(images, deep=True)
    assert is_deep(before)
    after = packed(before, tmp_path / "out", Form("raw", deep=True), 2**20)
    assert after.name_of(0).endswith(".npy")
    assert all(map(torch.equal, views(after, range(9), DEEP), views(before, range(9), DEEP)))
    halves = packed(before, tmp_path / "halves", Form("raw", max_side=20, deep=True), 2**20)
    small = decode_image(halves.read(3).data, channels=5, deep=True)
    assert small.shape == (16, 20, 5)
    mean = [array.reshape(-1, 5).astype(float).mean(0) for array in (small, images[3])]
    # the filter keeps the mean but at the borders, whose pixels weigh otherwise: a few of 250 levels
    assert np.abs(mean[0] - mean[1]).max() < 8


def test_jpeg_files_that_need_no_change_keep_their_bytes(folder: Path, tmp_path: Path) -> None:
    before, after = hvs.open_source(folder), packed(folder, tmp_path / "out", Form("jpeg", quality=95))
    made = 0
    for number, index in enumerate(sound(before)):
        name, data = before.name_of(index), before.read(index).data
        if name.endswith(".jpg") and "cmyk" not in name:
            assert after.read(number).data == data
        else:
            ours, its = decode_image(after.read(number).data), decode_image(data)
            made += 1
            assert np.array_equal(ours, of_pillow(its, 95))
    assert made == 4


@pytest.mark.parametrize("kind", FORMATS)
def test_every_kind_of_source_is_packed_with_its_labels_and_classes(kind: str, tmp_path: Path) -> None:
    images = photos(11)
    before = FORMATS[kind].open(tmp_path / "in", images)
    after = packed(before, tmp_path / "out", Form(), 2**20)
    assert [after.read(n) for n in range(11)] == [before.read(n) for n in range(11)] and after.classes == before.classes
    keys = [split_name(after.name_of(n))[0] for n in range(11)]
    assert len(set(keys)) == 11


@pytest.mark.parametrize(("side", "size"), [({"max_side": 32}, (20, 32)), ({"short_side": 32}, (32, 51)), ({"max_side": 80}, (50, 80))])
def test_larger_images_are_resized_as_pillow_does(side: dict[str, int], size: tuple[int, int], tmp_path: Path) -> None:
    pixels = smooth(1, 50, 80)
    save(tmp_path / "in/a.png", Image.fromarray(pixels))
    after = packed(tmp_path / "in", tmp_path / "raw", Form("raw", **side))
    expected = np.asarray(Image.fromarray(pixels).resize(size[::-1], Image.Resampling.BICUBIC)) if size != (50, 80) else pixels
    assert np.array_equal(decode_image(after.read(0).data), expected)
    small = decode_image(packed(tmp_path / "in", tmp_path / "jpeg", Form("jpeg", 95, **side)).read(0).data)
    assert np.array_equal(small, of_pillow(expected, 95))


def test_tarfile_reads_them(folder: Path, tmp_path: Path) -> None:
    after = packed(folder, tmp_path / "out")
    names: list[str] = []
    for path in sorted((tmp_path / "out").glob("*.tar")):
        assert path.stat().st_size <= SMALL
        with tarfile.open(path) as archive:
            for member in archive:
                names.append(member.name)
                assert (member.mtime, member.uid, member.uname, member.mode) == (0, 0, "", 0o644)
                file = archive.extractfile(member)
                assert file is not None
                if member.name.endswith(".ppm"):
                    Image.open(io.BytesIO(file.read())).load()
                else:
                    assert file.read() in (b"0", b"1")
    keys = [name[:-4] for name in names if name.endswith(".ppm")]
    assert [after.name_of(n).partition("/")[2] for n in range(len(after))] == [f"{key}.ppm" for key in keys]
    assert keys[:3] == ["cat/01", f"cat/01_{1}", "cat/02"] and "dog/two_dots" in keys


@pytest.mark.parametrize("form", [Form("jpeg"), RAW], ids=["jpeg", "raw"])
def test_webdataset_reads_them(form: Form, folder: Path, tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    after = packed(folder, tmp_path / "out", form)
    shards = sorted(map(str, (tmp_path / "out").glob("*.tar")))
    assert len(shards) > 1
    samples = list(webdataset.WebDataset(shards, shardshuffle=False).decode("rgb8"))
    assert len(samples) == len(after)
    for number, sample in enumerate(samples):
        data, label = after.read(number)
        assert sample["cls"] == label
        assert np.array_equal(sample[form.extension], decode_image(data))


def test_nothing_is_copied_between_the_mapped_file_and_the_renderer(tmp_path: Path) -> None:
    after = packed([smooth(number, 40, 50) for number in range(4)], tmp_path / "out")
    data = after.read(1).data
    assert isinstance(data, memoryview)
    pixels = decode_image(data)
    lying = np.frombuffer(data, np.uint8)
    batch = hvs.ImageBatch([pixels])
    assert np.shares_memory(pixels, lying) and batch[0].data_ptr() == pixels.ctypes.data
    before = files_of(tmp_path / "out")
    lying[:] = 0  # whoever writes to what was handed out changes no file, and nobody else's pixels
    assert files_of(tmp_path / "out") == before


def test_a_shard_that_was_cut_while_it_is_mapped_costs_its_images(tmp_path: Path) -> None:
    after = packed([smooth(number, 40, 50) for number in range(4)], tmp_path / "out", shard_bytes=2**20)
    after.read(0)
    os.truncate(tmp_path / "out/shard-000000.tar", 9000)
    after.read(0)
    with pytest.raises(SourceError, match="it was cut; restore it"):
        after.read(2)


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=12), max_size=12))
def test_keys_are_of_a_kind_and_end_at_their_first_dot(names: list[str]) -> None:
    taken: set[str] = set()
    for index, name in enumerate(names):
        key = key_of(name, index, taken)
        assert key not in taken and split_name(f"{key}.jpg") == (key, "jpg") and not key.startswith("/")
        assert ".." not in key.split("/") and key.rpartition("/")[2]
        taken.add(key)


# --- interruptions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [Form("jpeg", max_side=48), RAW], ids=["jpeg", "raw"])
def test_an_interrupted_packing_goes_on_to_the_same_bytes(form: Form, folder: Path, tmp_path: Path) -> None:
    source = hvs.open_source(folder)
    limit = 12_000 if form.form == "jpeg" else SMALL
    pack(source, str(tmp_path / "whole"), form, limit, 1)
    expected = files_of(tmp_path / "whole")
    assert sum(name.endswith(".tar") for name in expected) > 2

    def stop_at(last: int) -> Callable[[int], None]:
        def told(images: int) -> None:
            if images >= last:
                raise KeyboardInterrupt

        return told

    for last in (1, 5, 9, 10, 17, 23):
        out = tmp_path / f"at-{last}"
        for point in (last, min(last + 7, 23)):
            with pytest.raises(KeyboardInterrupt):
                pack(source, str(out), form, limit, 3, stop_at(point))
            assert not list(out.glob("*.half"))
            with pytest.raises(SourceError, match="complete"):
                hvs.open_source(out)
        pack(source, str(out), form, limit, 2)
        assert files_of(out) == expected
    pack(source, str(tmp_path / "whole"), form, limit, 1)  # nothing is left to do
    assert files_of(tmp_path / "whole") == expected


def command(source: Path, out: Path, *options: str) -> list[str]:
    code = "import sys; from hvs_data.commands.main import main; sys.exit(main(sys.argv[1:]))"
    size = ["--shard-size", str(SMALL), "--no-speed", "--threads", "2"]
    return [sys.executable, "-c", code, "pack", str(source), str(out), "--as", "raw", *size, *options]


@pytest.mark.slow
def test_a_killed_packing_goes_on_to_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    assert subprocess.run(command(folder, tmp_path / "whole"), capture_output=True).returncode == 1
    expected = files_of(tmp_path / "whole")
    out = tmp_path / "killed"
    draw = np.random.default_rng(0)
    for _ in range(4):
        process = subprocess.Popen(command(folder, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        shards = len(list(out.glob("*.tar")))
        while process.poll() is None and len(list(out.glob("*.tar"))) <= shards and time.monotonic() < deadline:
            time.sleep(0.0005)
        time.sleep(float(draw.uniform(0, 0.01)))
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert subprocess.run(command(folder, out), capture_output=True).returncode == 1
    assert files_of(out) == expected


def test_a_full_disk_is_told_and_room_lets_it_go_on(folder: Path, tmp_path: Path) -> None:
    """The largest file that a process may write stands for a disk: the system's answer comes from the same call."""
    out = tmp_path / "out"
    limited = subprocess.run(
        command(folder, out), capture_output=True, text=True, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    )
    assert limited.returncode == 2 and "cannot write to" in limited.stderr and "make room" in limited.stderr
    assert "Traceback" not in limited.stderr and not list(out.glob("*.half"))
    assert subprocess.run(command(folder, out), capture_output=True).returncode == 1
    pack(hvs.open_source(folder), str(tmp_path / "whole"), RAW, SMALL, 1)
    assert files_of(out) == files_of(tmp_path / "whole")


# --- what is bad or refused --------------------------------------------------------------------------------------------


def test_bad_images_are_listed_as_a_loader_lists_them(folder: Path, tmp_path: Path) -> None:
    source = hvs.open_source(folder)
    loader = hvs.ViewLoader(source, RECIPE, 8, quarantine=tmp_path / "loader.jsonl")
    list(loader)
    packed(source, tmp_path / "out")
    ours, its = (sorted(path.read_text().splitlines()) for path in (tmp_path / "out/bad.jsonl", tmp_path / "loader.jsonl"))
    assert sorted(map(json.loads, ours), key=str) == sorted(map(json.loads, its), key=str) and len(ours) == 2


def test_another_packing_or_others_shards_are_left_alone(folder: Path, tmp_path: Path) -> None:
    source = hvs.open_source(folder)
    pack(source, str(tmp_path / "out"), RAW, SMALL, 1)
    before = files_of(tmp_path / "out")
    for form, size, name in ((Form("jpeg"), SMALL, "as"), (RAW, SMALL + 1, "shard-size"), (Form("raw", max_side=20), SMALL, "max_side")):
        with pytest.raises(HvsError, match=f"expected a packing with {name} = "):
            pack(source, str(tmp_path / "out"), form, size, 1)
    (tmp_path / "out/pack.json").unlink()
    with pytest.raises(HvsError, match="got shards in"):
        pack(source, str(tmp_path / "out"), RAW, SMALL, 1)
    assert files_of(tmp_path / "out") == {name: data for name, data in before.items() if name != "pack.json"}


def test_a_second_packing_waits_for_the_first_to_end(folder: Path, tmp_path: Path) -> None:
    source = hvs.open_source(folder)

    def begin_another(images: int) -> None:
        with pytest.raises(HvsError, match="another hvs-data pack that writes there"):
            pack(source, str(tmp_path / "out"), RAW, SMALL, 1)

    pack(source, str(tmp_path / "out"), RAW, SMALL, 1, begin_another)
    pack(source, str(tmp_path / "alone"), RAW, SMALL, 1)
    assert files_of(tmp_path / "out") == files_of(tmp_path / "alone")


def test_a_target_that_cannot_be_written_is_told(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HvsError, match="cannot write to .*choose another folder"):
        pack(hvs.open_source(folder), str(tmp_path / "file/out"), RAW, SMALL, 1)


def test_a_source_without_images_leaves_its_reasons(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.jpg").write_bytes(b"no picture")
    source = hvs.open_source(tmp_path)
    with pytest.raises(HvsError, match="got none among the first 3"):
        is_deep(source)
    with pytest.raises(HvsError, match=r"got none; the reasons are in .*bad\.jsonl"):
        pack(source, str(tmp_path / "out"), RAW, SMALL, 1)
    assert len((tmp_path / "out/bad.jsonl").read_text().splitlines()) == 3


# --- opening them ------------------------------------------------------------------------------------------------------


def test_the_index_beside_a_shard_moves_with_it_and_is_for_no_other(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = packed(folder, tmp_path / "out")
    (tmp_path / "out").rename(tmp_path / "moved")
    walked: list[str] = []
    index_shard = shards_module.index_shard

    def note(window: Any, shard: str, *rest: Any) -> Any:
        walked.append(shard)
        return index_shard(window, shard, *rest)

    monkeypatch.setattr(shards_module, "index_shard", note)
    moved = hvs.open_source(tmp_path / "moved", index_cache=tmp_path / "cache")
    assert walked == [] and moved.fingerprint == first.fingerprint
    good = sound(hvs.open_source(folder))
    assert all(map(torch.equal, views(moved, range(len(moved))), views(hvs.open_source(folder), good)))
    shard = tmp_path / "moved/shard-000001.tar"
    content = bytearray(shard.read_bytes())
    content[3000] ^= 255  # of the same size
    shard.write_bytes(content)
    hvs.open_source(tmp_path / "moved", index_cache=tmp_path / "cache")
    assert walked == ["shard-000001.tar"]


def test_options_reach_the_shards_of_a_folder(folder: Path, tmp_path: Path) -> None:
    packed(folder, tmp_path / "out")
    without = hvs.open_source(tmp_path / "out", label=None)
    assert without.classes == () and {without.read(n).label for n in range(len(without))} == {-1}
    assert len(hvs.open_source(str(tmp_path / "out/*.tar"))) == len(without)
    with pytest.raises(SourceError, match="layout"):
        hvs.open_source(tmp_path / "out", layout="flat")


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"version": 2}', '{"version": 1, "shards": 3, "bad": [], "classes": []}'])
def test_a_broken_pack_file_is_told(text: str, tmp_path: Path) -> None:
    (tmp_path / "pack.json").write_text(text)
    with pytest.raises(SourceError, match=r"pack\.json"):
        hvs.open_source(tmp_path)
