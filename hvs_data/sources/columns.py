"""Which columns of a table hold the images and the labels."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvs_data.errors import SourceError
from hvs_data.sources.base import NO_LABEL
from hvs_data.sources.labels import FIND, WITHOUT
from hvs_data.sources.map_dataset import IMAGE_KEYS
from hvs_data.sources.regular import MAX_FILE_BYTES

LABEL_KEYS = ("label", "labels")


def image_column(candidates: Sequence[str], names: Sequence[str], given: str | None, where: str) -> str:
    """The column of images: the one given, else the only candidate, else the one of a usual name.

    Args:
        candidates: columns of a kind that holds images.
        names: all columns.
        given: the caller's choice, if any.
        where: the table, for messages.

    Raises:
        SourceError: no such column, none of images, or several.
    """
    chosen = [given] if given else candidates if len(candidates) == 1 else [name for name in IMAGE_KEYS if name in candidates][:1]
    if len(chosen) == 1 and chosen[0] in candidates:
        return chosen[0]
    if given in names:
        raise SourceError(
            f"expected encoded images in the column {given!r} of {where}, got another kind; the columns of images are {list(candidates)}"
        )
    remedy = "pass hvs.open_source(..., image=NAME) of the one that is meant" if candidates else "store the encoded files as bytes"
    raise SourceError(
        f"expected {f'a column {given!r}' if given else 'one column of encoded images'} in {where}, got the columns {list(names)}, "
        f"{list(candidates) or 'none'} of them with images; {remedy}"
    )


def label_column(whole: Sequence[str], classes: Sequence[str], names: Sequence[str], given: str | None, where: str) -> str | None:
    """The column of labels: the one given, else one of a usual name, else the only one of classes, else None.

    Args:
        whole: columns of whole numbers.
        classes: those of them that are known to number classes.
        given: the caller's choice; "auto" for the usual one, None for none.
        names, where: as for :func:`image_column`.

    Raises:
        SourceError: no such column, one of another kind, or several of classes.
    """
    if given is None:
        return None
    chosen = given if given != FIND else next((name for name in LABEL_KEYS if name in names), None)
    if chosen is None and len(classes) > 1:
        raise SourceError(
            f"expected one column of labels in {where}, got {list(classes)}; pass hvs.open_source(..., label=NAME) of the one that is "
            "meant, or label=None to go without labels"
        )
    chosen = chosen or next(iter(classes), None)
    if chosen is not None and chosen not in names:
        raise SourceError(f"expected a column {chosen!r} of labels in {where}, got the columns {list(names)}; correct label=, or {WITHOUT}")
    if chosen is not None and chosen not in whole:
        raise SourceError(
            f"expected whole numbers in the column {chosen!r} of {where}, got another kind; {WITHOUT}, or label=NAME of a column that "
            f"numbers the classes, or number them (a Hugging Face dataset: class_encode_column({chosen!r}))"
        )
    return chosen


def whole_numbers(column: Any) -> NDArray[np.int64]:
    """A column of pyarrow as int64 [N], -1 for what is missing.

    Raises:
        SourceError: a number past 64 bits.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        column = column.cast("int64")
    except pa.ArrowInvalid as error:
        raise SourceError(f"expected labels that fit 64 bits, got another: {error}; number the classes from 0, or {WITHOUT}") from error
    return np.asarray(pc.fill_null(column, NO_LABEL), dtype=np.int64)


def encoded_bytes(value: Any, name: str) -> bytes | None:
    """The bytes of a binary scalar of pyarrow; None for a missing one.

    Raises:
        SourceError: more than ``MAX_FILE_BYTES``.
    """
    if not value.is_valid:
        return None
    buffer = value.as_buffer()
    if buffer.size > MAX_FILE_BYTES:
        raise SourceError(f"expected an image of at most {MAX_FILE_BYTES} bytes, got {buffer.size} in {name}; remove it")
    return buffer.to_pybytes()


def noted_classes(schema_metadata: dict[bytes, bytes] | None, column: str | None) -> tuple[str, ...]:
    """Names of the classes as the Hugging Face library notes them beside a schema, as JSON; none where that is missing or odd."""
    try:
        names = json.loads((schema_metadata or {})[b"huggingface"])["info"]["features"][column]["names"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return ()
    return tuple(names) if isinstance(names, list) and all(isinstance(name, str) for name in names) else ()


def is_binary(kind: Any) -> bool:
    """Whether a type of pyarrow is one of bytes, in whatever way they are stored."""
    import pyarrow.types as kinds

    if kinds.is_dictionary(kind):
        return is_binary(kind.value_type)
    return kinds.is_binary(kind) or kinds.is_large_binary(kind) or kinds.is_fixed_size_binary(kind) or kinds.is_binary_view(kind)


def plain_binary(column: Any) -> Any:
    """A column of bytes of pyarrow as the type whose values have a buffer each."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return column if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type) else column.cast(pa.large_binary())


def holds_images(kind: Any) -> bool:
    """Whether a type of pyarrow may hold encoded images: bytes, or a struct with a field ``bytes`` of them."""
    import pyarrow.types as kinds

    return is_binary(kind) or (kinds.is_struct(kind) and any(field.name == "bytes" and is_binary(field.type) for field in fields_of(kind)))


def fields_of(kind: Any) -> Iterable[Any]:
    return [kind.field(position) for position in range(kind.num_fields)]
