"""The contact sheet shows the views that a loader of the same seed gives."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import torch
from PIL import Image

import hvs_data as hvs
from hvs_data.checking.sheet import sheet
from hvs_data.demo.pictures import data_url

DRAW = np.random.default_rng(0)
IMAGES = [(np.kron(DRAW.integers(0, 256, (5, 6, 3)), np.ones((12, 12, 1))).astype(np.uint8), 0) for _ in range(4)]
RECIPE = hvs.recipes.dino(2, 3, size=48, local_size=24)


def pictures(html: str) -> list[np.ndarray]:
    """Pixels of the views, in order."""
    urls = re.findall(r'<img src="data:image/jpeg;base64,([^"]+)"', html)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(url)))) for url in urls]


def test_views_are_those_of_a_loader_of_the_same_seed() -> None:
    shown = pictures(sheet(hvs.open_source(IMAGES), RECIPE, [1], seed=5, title="x"))
    loader = hvs.ViewLoader(IMAGES, RECIPE, 4, seed=5, shuffle=False, dtype=torch.uint8, num_threads=1)
    views = [view[1].permute(1, 2, 0).numpy() for view in next(iter(loader)).views]
    assert [view.shape for view in views] == [(48, 48, 3)] * 2 + [(24, 24, 3)] * 3 == [picture.shape for picture in shown]
    for picture, view in zip(shown, views, strict=True):
        again = np.asarray(Image.open(io.BytesIO(base64.b64decode(data_url(view).partition(",")[2]))))
        assert np.array_equal(picture, again)


def test_every_slot_has_its_box() -> None:
    html = sheet(hvs.open_source(IMAGES), RECIPE, [0, 2], seed=1, title="<photos>")
    rows = hvs.sample_views(RECIPE, seed=1, epoch=0, index=[0, 2], height=[60, 60], width=[72, 72])
    boxes = re.findall(r'<rect x="(\d+)" y="(\d+)" width="(\d+)" height="(\d+)"', html)
    assert [[int(y), int(x), int(h), int(w)] for x, y, w, h in boxes] == rows.box.flatten(0, 1).tolist()
    assert "<h1>&lt;photos&gt;</h1>" in html and "3 of role &#x27;local&#x27;, 24 x 24" in html


def test_an_image_that_cannot_be_used_is_told_of() -> None:
    html = sheet(hvs.open_source([(b"no image", 0), IMAGES[0]]), RECIPE, [0, 1], seed=0, title="x")
    assert "expected an image of a known format" in html and len(pictures(html)) == 5


def test_views_that_are_not_square_keep_their_shape() -> None:
    recipe = hvs.recipes.simsiam(2).with_roles(size=(20, 50))
    assert [picture.shape for picture in pictures(sheet(hvs.open_source(IMAGES), recipe, [0], seed=0, title="x"))] == [(20, 50, 3)] * 2
