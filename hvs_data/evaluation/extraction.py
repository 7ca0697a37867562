"""An encoder's features of labelled images, one plain view an image, without a trace in the encoder."""

# Axes: N image, B image of a batch, C channel, H W pixels, F feature.

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from hvs_data.arguments.values import whole_number
from hvs_data.errors import HvsError
from hvs_data.loaders.view_loader import ViewLoader
from hvs_data.objectives.gather import gathered, is_distributed
from hvs_data.recipes.presets import evaluation
from hvs_data.sources.base import Source
from hvs_data.types.batch import Batch

Images = Source | str | PathLike[str] | Iterable[Any]


@dataclass(frozen=True)
class Features:
    """Features of labelled images.

    Attributes:
        values: floating [N, F], on the CPU.
        labels: int64 [N], at least 0.

    Raises:
        HvsError: no image, other shapes, a label below 0, or a feature that is not finite.
    """

    values: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.labels.shape != self.values.shape[:1] or not len(self.labels):
            raise HvsError(
                f"expected features [N, F] and labels [N] of at least one image, got {list(self.values.shape)} and "
                f"{list(self.labels.shape)}; the encoder must give one vector an image, such as the output of its pooling"
            )
        if self.labels.min() < 0:
            raise HvsError(
                f"expected a label of every image, got {int((self.labels < 0).sum())} of {len(self.labels)} without; evaluate on a "
                "labelled set, such as a folder with one sub-folder a class"
            )
        if not self.values.isfinite().all():
            raise HvsError("expected finite features, got NaN or infinite ones; the model has diverged, or its precision does not suffice")


def features(
    encoder: Callable[[Tensor], Tensor],
    images: Images,
    *,
    size: int = 224,
    batch_size: int = 256,
    device: torch.device | str | None = None,
    autocast: torch.dtype | None = None,
    dtype: torch.dtype = torch.float32,
    **loader: Any,
) -> Features:
    """The encoder's features of images, in evaluation mode, without gradient.

    Every module below the encoder is afterwards in the mode that it was in, and nothing else of it changes. Under torch.distributed
    each rank runs its share of the images, and all ranks get all features.

    Args:
        encoder: maps views [B, C, H, W] to features [B, F].
        images: what :func:`hvs_data.open_source` opens, or a Source, of which the views of
            :func:`hvs_data.recipes.evaluation` are made; a ViewLoader; or a loader of your own: batches of views (or a list of one) and
            labels. What each rank sees of that is its own affair.
        size: side of the views in pixels, which lose an eighth of the image at each border, as published evaluations on ImageNet have it;
            ``recipe=hvs_data.recipes.evaluation(32, 32)`` takes small images whole.
        batch_size: images of a forward, on each rank.
        device: to which the views go; by default that of the encoder's first parameter.
        autocast: type to which the forward casts automatically, such as torch.bfloat16; None leaves it to the code around.
        dtype: in which features are kept; torch.float16 halves their memory.
        loader: further arguments of :class:`hvs_data.ViewLoader`, such as ``num_threads`` or ``recipe`` for other views.

    Returns:
        In the order of the source; images that cannot be read are left out.

    Raises:
        HvsError: images without labels, an encoder that gives something else, or features that are not finite.
    """
    device = _device_of(encoder) if device is None else torch.device(device)
    is_loader = not isinstance(images, (Source, str, PathLike)) and hasattr(images, "__iter__") and not hasattr(images, "__getitem__")
    batches: Any = images if is_loader else _loader(images, size, batch_size, loader)
    values, labels, index = [], [], []
    with torch.no_grad(), _evaluating(encoder), torch.autocast(device.type, dtype=autocast, enabled=autocast is not None):
        for batch in batches:
            view, label_B = _view_of(batch)
            value_BF = encoder(view.to(device, non_blocking=True))
            _check_output(value_BF, len(label_B))
            values.append(value_BF.to("cpu", dtype))
            labels.append(label_B.cpu())
            if isinstance(batch, Batch):
                index.append(batch.index.cpu())
    if not values:
        raise HvsError("expected at least one image to evaluate on, got none; the source or the loader is empty")
    value_NF, label_N = torch.cat(values), torch.cat(labels)
    return Features(*_once_each(torch.cat(index), value_NF, label_N, device)) if index else Features(value_NF, label_N)


def _loader(images: Any, size: int, batch_size: int, options: dict[str, Any]) -> ViewLoader:
    """One view an image, made on the CPU: no engine on a device resizes an image before it cuts."""
    given: dict[str, Any] = {"recipe": evaluation(size), "shuffle": False, "channels_last": True} | options
    return ViewLoader(images, given.pop("recipe"), batch_size, **given)


def _view_of(batch: Any) -> tuple[Tensor, Tensor]:
    """Views [B, C, H, W] and labels [B] of a batch of this or another loader."""
    try:
        views, labels = (batch["image"], batch["label"]) if isinstance(batch, dict) else (batch[0], batch[1])
        view = views[0] if isinstance(views, (list, tuple)) else views
        if view.ndim != 4 or labels.shape != view.shape[:1]:
            raise ValueError
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        raise HvsError(
            f"expected batches of views [B, C, H, W] (or a list of one) and labels [B], got {type(batch).__name__}; let the loader give "
            "these"
        ) from None
    return view, labels


def _check_output(output: Any, images: int) -> None:
    if not isinstance(output, Tensor) or output.ndim != 2 or len(output) != images:
        arrived = list(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise HvsError(
            f"expected an encoder that maps {images} views to features [{images}, F], got {arrived}; pass what pools, such as "
            "lambda x: model(x).mean((2, 3))"
        )


def _once_each(index_N: Tensor, value_NF: Tensor, label_N: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """Features and labels of all ranks by the images' place in the source: what stands for another image, or fills a last batch, once."""
    if is_distributed():
        through = device if dist.get_backend() == "nccl" else torch.device("cpu")
        index_N, value_NF, label_N = (gathered(column.to(through))[0].cpu() for column in (index_N, value_NF, label_N))
    order = index_N.argsort(stable=True)
    first = torch.ones(len(order), dtype=torch.bool)
    first[1:] = index_N[order].diff() != 0
    return value_NF[order[first]], label_N[order[first]]


def _device_of(encoder: Any) -> torch.device:
    parameters = encoder.parameters() if isinstance(encoder, nn.Module) else iter(())
    return next((parameter.device for parameter in parameters), torch.device("cpu"))


@contextmanager
def _evaluating(encoder: Any) -> Iterator[None]:
    """Evaluation mode, and afterwards every module's own."""
    modules = list(encoder.modules()) if isinstance(encoder, nn.Module) else []
    training = [module.training for module in modules]
    for module in modules[:1]:
        module.eval()
    try:
        yield
    finally:
        for module, was in zip(modules, training, strict=True):
            module.training = was


def features_of_both(
    encoder: Callable[[Tensor], Tensor], train: Images | Features, test: Images | Features, options: dict[str, Any]
) -> tuple[Features, Features]:
    """Features of both sets, taken with the same options unless they are there."""
    fitted, tested = (its if isinstance(its, Features) else features(encoder, its, **options) for its in (train, test))
    return fitted, tested


def check_same_length(train: Features, test: Features) -> None:
    """Raises HvsError for features of two encoders."""
    lengths = train.values.shape[1], test.values.shape[1]
    if lengths[0] != lengths[1]:
        raise HvsError(f"expected features of one length, got {lengths[0]} and {lengths[1]}; take both with the same encoder")


def checked_whole(name: str, value: Any, meaning: str) -> int:
    """A whole number of at least 1; else an HvsError."""
    number = whole_number(value)
    if number is None or number < 1:
        raise HvsError(f"{name} must be a whole number of at least 1, got {value!r}; it is {meaning}")
    return number
