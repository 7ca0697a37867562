"""An example's card."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from hvs_data.demo.examples import Example
from hvs_data.demo.pictures import boxed_photo, data_url, example_card, letter, loss_table, signed


@pytest.fixture
def example() -> Example:
    draw = np.random.default_rng(0)
    losses = np.full((3, 3), np.nan, np.float32)
    losses[[0, 1, 0, 2, 1, 2], [1, 0, 2, 0, 2, 1]] = np.repeat(np.float32([-0.5, 0.25, -0.004]), 2)
    return Example(
        title="<b>Fish & chips</b>",
        photo=draw.integers(0, 255, (600, 900, 3)).astype(np.uint8),
        box=np.array([[0, 0, 300, 300], [0, 0, 600, 900], [100, 200, 5, 5]], np.int32),
        views=draw.integers(0, 255, (3, 24, 24, 3)).astype(np.uint8),
        losses=losses,
        iou=np.full((3, 3), 0.5, np.float32),
        pair=(0, 2),
    )


def opened(url: str) -> Image.Image:
    head, _, data = url.partition(",")
    assert head == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def elements(html: str) -> list[tuple[str, dict[str, str | None]]]:
    found = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            found.append((tag, dict(attrs)))

    Reader().feed(html)
    return found


def test_the_photo_carries_every_box_and_the_chosen_ones_on_top(example: Example) -> None:
    boxes = [
        tuple(int(str(attributes[side])) for side in ("y", "x", "height", "width"))
        for tag, attributes in elements(boxed_photo(example))
        if tag == "rect" and attributes.get("fill") == "none" and attributes["stroke"] != "#fff"
    ]
    assert boxes == [tuple(example.box[view]) for view in (1, 0, 2)]
    dashed = [attributes for tag, attributes in elements(boxed_photo(example)) if "stroke-dasharray" in attributes]
    assert [attributes["width"] for attributes in dashed] == ["900"]


def test_letters_stay_apart_and_inside(example: Example) -> None:
    same = replace(example, box=np.array([[0, 0, 600, 900]] * 3, np.int32))
    corners = [
        (float(str(attributes["x"])), float(str(attributes["y"])))
        for tag, attributes in elements(boxed_photo(same))
        if tag == "rect" and attributes.get("fill") != "none"
    ]
    assert len(set(corners)) == 3
    assert all(0 <= x <= 900 - 14 * 4.5 and 0 <= y <= 600 - 14 * 4.5 for x, y in corners)


def test_a_card_escapes_names_and_holds_all_pictures(example: Example) -> None:
    card = example_card(example)
    assert "&lt;b&gt;Fish &amp; chips&lt;/b&gt;" in card and "<b>Fish" not in card
    urls = [str(attributes.get("href") or attributes.get("src")) for tag, attributes in elements(card) if tag in ("image", "img")]
    assert [opened(url).size for url in urls] == [(480, 320), (24, 24), (24, 24), (24, 24)]
    chosen = [attributes["class"] for tag, attributes in elements(card) if tag == "figure" and "class" in attributes]
    assert chosen == ["chosen", "chosen"]


def test_the_table_darkens_the_hardest_and_marks_the_chosen(example: Example) -> None:
    cells = {str(attributes["style"]): attributes["class"] for tag, attributes in elements(loss_table(example)) if "style" in attributes}
    # (-0.004 - -0.5) / (0.25 - -0.5) = 66 %
    assert cells == {"--hardness: 0%": "pair", "--hardness: 100%": "pair chosen", "--hardness: 66%": "pair"}


def test_a_loss_that_is_not_finite_is_shown_as_it_is(example: Example) -> None:
    table = loss_table(replace(example, losses=np.full((3, 3), np.nan, np.float32)))
    assert table.count(">nan<") == 3 and "--hardness: nan" not in table


def test_pictures_are_the_pixels_given() -> None:
    pixels = np.full((20, 10, 3), (200, 30, 90), np.uint8)
    picture = np.asarray(opened(data_url(pixels)))
    assert picture.shape == (20, 10, 3)
    # a flat picture has no detail for JPEG to lose; YCbCr rounds each colour by a step or two
    assert np.abs(picture.astype(int) - pixels).max() <= 3
    assert opened(data_url(pixels, longest=10)).size == (5, 10)


def test_names_of_numbers_and_candidates() -> None:
    assert [letter(view) for view in (0, 3, 25, 26, 27)] == ["A", "D", "Z", "A1", "B1"]
    assert [signed(value) for value in (-0.004, 0.0, -0.125, 1.0)] == ["0.00", "0.00", "\u22120.12", "1.00"]
