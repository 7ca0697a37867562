"""Lightning: a data module that hands out hardest views, and a callback that checks and logs the selection.

For both of its packages, ``lightning.pytorch`` and ``pytorch_lightning``.
"""

# Axes: B image, V view, P legal pair.

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias
from weakref import ref

import torch
from torch import Tensor

from hvs_data.errors import HvsError
from hvs_data.formats import Format, views_and_labels, with_masks
from hvs_data.integrations.lightning_classes import MadeForLightning, class_for_lightning
from hvs_data.integrations.lightning_precision import autocast_of, check_precision, check_strategy, in_precision, views_dtype
from hvs_data.loaders.hard_view_loader import HardViewLoader
from hvs_data.loaders.view_loader import ViewLoader
from hvs_data.modules.freshness import StaleSelectionWarning
from hvs_data.monitoring.monitor import Monitor
from hvs_data.objectives.base import Objective
from hvs_data.recipes.spec import Recipe
from hvs_data.rows.boxes import iou
from hvs_data.selection.selector import HardViewSelector
from hvs_data.types.batch import Batch
from hvs_data.types.selection import Selection

__all__ = ["HardViewCallback", "HardViewDataModule"]

# An objective, or a function that makes one of the LightningModule, such as hvs_data.objectives.SimSiam.
ObjectiveOf: TypeAlias = Objective | Callable[[Any], Objective]

_FROM_TRAINER = ("device", "rank", "world_size")


class HardViewDataModule(MadeForLightning):
    """A ``LightningDataModule`` whose training batches are the hardest views of a source's images: ``trainer.fit(model, data)``.

    The loader is made when the trainer asks for it, after the model was moved: on the strategy's device, with the trainer's ranks, and
    once for a fit, however often the trainer asks. Scoring runs in the precision of the trainer's plugin, by its own context; where it
    trains in half precision (16-true, bf16-true), views are rendered in that type. A checkpoint in the middle of an epoch goes on with
    exactly the images that were left.

    Args:
        source, recipe, batch_size: as for :class:`hvs_data.ViewLoader`.
        objective: of the model; or a function that makes it of the LightningModule once that is on its device, such as
            ``hvs_data.objectives.SimSiam`` or ``lambda module: hvs_data.objectives.BYOL(module.net)``.
        selector: options of :class:`hvs_data.HardViewSelector`, such as ``{"score_size": 112}``.
        format: what a batch becomes, a function of a :class:`hvs_data.Batch`; by default ``(views, labels)``, with masks as third
            where the recipe has masking.
        labels: what stands in place of the source's labels, as for :class:`hvs_data.HardViewLoader`.
        val_dataloaders: handed to the trainer, as ``trainer.fit`` takes them.
        loader_options: of :class:`hvs_data.ViewLoader`, but those that come from the trainer: device and ranks.

    Attributes:
        batch_size: of the next loader; Lightning's tuner sets it.
        loader: the :class:`hvs_data.HardViewLoader` of the present fit or the latest one; None before the first.

    Raises:
        HvsError: an objective of another kind, or options that come from the trainer; when a fit begins, a trainer that cannot score:
            FSDPStrategy and DeepSpeedStrategy keep parameters where scoring does not reach them, and ``overfit_batches`` replaces
            the samplers of loaders that shuffle.
    """

    _kind = "LightningDataModule"

    def __init__(
        self,
        source: Any,
        recipe: Recipe,
        objective: ObjectiveOf,
        batch_size: int = 256,
        *,
        selector: Mapping[str, Any] | None = None,
        format: Format | None = None,
        labels: Callable[[Batch], Any] | None = None,
        val_dataloaders: Any = None,
        **loader_options: Any,
    ):
        super().__init__()
        if not callable(objective) and not isinstance(objective, Objective):
            raise HvsError(
                f"expected an objective, or a function that makes one of the LightningModule, got {type(objective).__name__}; pass "
                "hvs_data.objectives.SimSiam, say"
            )
        given = [name for name in _FROM_TRAINER if name in loader_options]
        if given:
            raise HvsError(f"expected options that the trainer leaves open, got {', '.join(given)}; set them in Trainer(devices=...)")
        self.source = source
        self.recipe = recipe
        self.objective = objective
        self.batch_size = batch_size
        self.selector_options = dict(selector or {})
        self.loader_options = loader_options
        self.format = format
        self.labels = labels
        self.loader: HardViewLoader | None = None
        self._module: Any = None
        if val_dataloaders is not None:
            # on the instance, as Lightning takes a data module that has the method to have loaders
            self.val_dataloader = partial(_given, val_dataloaders)

    @property
    def trainer(self) -> Any:
        """The trainer, set by itself."""
        return self._trainer

    @trainer.setter
    def trainer(self, trainer: Any) -> None:
        self._trainer = trainer
        self.be_of_package_of(trainer)

    def setup(self, stage: str) -> None:
        """Called by the trainer at the beginning of a run."""
        if stage == "fit":
            self.loader = None

    def train_dataloader(self) -> HardViewLoader:
        """Called by the trainer, once the model is on its device."""
        if self.trainer is None:
            raise HvsError("expected a data module in the hands of a trainer, which knows model and device; call trainer.fit(model, data)")
        module = self.trainer.lightning_module
        # asked again in the middle of a run, the loader stays; the tuner changes the batch size in between
        if self.loader is None or self._module is not module or self.loader.batch_size != self.batch_size:
            self.loader, self._module = self._made(self.trainer, module), module
        return self.loader

    def _made(self, trainer: Any, module: Any) -> HardViewLoader:
        check_strategy(trainer)
        check_overfitting(trainer, self.loader_options.get("shuffle", True))
        objective = self.objective if isinstance(self.objective, Objective) else self.objective(module)
        plugin = trainer.precision_plugin
        selector = HardViewSelector(in_precision(objective, plugin), **{"autocast": autocast_of(plugin), **self.selector_options})
        default = views_and_labels if self.recipe.masking is None else with_masks
        options = {"dtype": views_dtype(plugin), **self.loader_options}
        views = ViewLoader(self.source, self.recipe, self.batch_size, trainer.strategy.root_device, **options)
        return HardViewLoader(views, selector, format=self.format or default, labels=self.labels)


def check_overfitting(trainer: Any, shuffle: bool) -> None:
    """Raises HvsError for a trainer that puts a sampler in the place of one that shuffles."""
    if trainer.overfit_batches and shuffle:
        raise HvsError(
            "expected a loader in a fixed order for overfit_batches, which puts another sampler in the place of one that shuffles, got one "
            "that shuffles; make it with ViewLoader(..., shuffle=False), or pass shuffle=False to the HardViewDataModule"
        )


def _given(loaders: Any) -> Any:
    return loaders


class HardViewCallback(MadeForLightning):
    """A ``Callback`` for trainings on a :class:`hvs_data.HardViewLoader`, from a :class:`HardViewDataModule` or passed to ``trainer.fit``.

    - It logs, by ``LightningModule.log``, means over each batch: ``loss`` of the chosen pairs (with local views, of all chosen views)
      and ``random_loss``, the mean over all legal pairs, both in steps in which the model was asked, the latter for pairs only
      and without ``prefilter``, with which the losses of promising pairs alone are known;
      ``iou`` of the chosen pairs' boxes and ``random_iou``; and how many losses were ``non_finite``. Nothing waits for the device. (In
      other steps loggers show the last number again, as Lightning has them do.)
    - At the start of each step, before anything in it can move weights, it checks that the views were chosen with the
      weights that the model has, and that no batch was chosen and then not trained on.
    - Each ``log_every_n_steps`` batches it logs the numbers of a :class:`hvs_data.Monitor`, means over these batches on this rank, and with
      them come its warnings. For that it waits for the latest selection, as loggers do for what they are given.
    - Where the training step fetches its batches itself (``training_step(self, dataloader_iter)``), it logs after the step, and checks
      nothing: when the step begins, the batch has not been chosen yet.
    - It lets a loader that was passed to ``trainer.fit`` score in the trainer's mixed precision, as a data module does.

    Momentum encoders that a training step moves before its own forwards, as lightly's examples do, are no stale weights: selection
    sees them as they are before the step.

    Args:
        prefix: of the names in the log.
        monitor: whether it logs a monitor's numbers.

    Attributes:
        monitor: the :class:`hvs_data.Monitor` of the present fit or the latest one, for its ``figure()``; None before the first.

    Warns:
        StaleSelectionWarning: once a fit, if a check fails.
        HardnessWarning: once a fit each, as :meth:`hvs_data.Monitor.numbers` says.

    Raises:
        HvsError: when a fit begins: no HardViewLoader among the training loaders, several, a strategy under which nothing can be scored,
            or a loader passed to ``trainer.fit`` that cannot score in the trainer's precision (16-true, bf16-true, 64-true).
    """

    _kind = "Callback"

    def __init__(self, prefix: str = "hvs/", monitor: bool = True):
        super().__init__()
        self.prefix = prefix
        self.monitor: Monitor | None = None
        self._monitors, self._batches = monitor, 0
        self._loader: HardViewLoader | None = None
        self._format: Format | None = None
        self._handed_out: deque[tuple[Selection, list[ref[Tensor]]]] = deque(maxlen=16)
        self._step: int | None = None
        self._warned = False

    # --- Lightning's hooks ---------------------------------------------------------------------------------------------

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        # before the trainer looks for samplers; its own error names no remedy
        source = getattr(getattr(trainer.fit_loop, "_data_source", None), "instance", None)
        for loader in _leaves(source):
            if stage == "fit" and isinstance(loader, HardViewLoader):
                check_overfitting(trainer, loader.loader.shuffle)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self._step, self._warned = None, False
        self.monitor, self._batches = Monitor(prefix=self.prefix) if self._monitors else None, 0
        self._watch(trainer)

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self._watch(trainer)  # trainers may take other loaders in between

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if not _fetched_in_step(trainer) and (selection := self._selection_of(batch)) is not None:
            self._check(selection)
            self._log(trainer, pl_module, selection)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if _fetched_in_step(trainer) and (selection := self._selection_of(batch)) is not None:
            self._log(trainer, pl_module, selection)

    def _log(self, trainer: Any, pl_module: Any, selection: Selection) -> None:
        if self._loader is not None:
            found = statistics_of(selection)
            if self._loader.selector.prefilter is not None:
                found.pop("random_loss", None)  # of promising pairs alone, none is random
            numbers: dict[str, Any] = {f"{self.prefix}{name}": value for name, value in found.items()}
            if self.monitor is not None:
                self.monitor.observe(selection)
                self._batches += 1
                if self._batches % max(trainer.log_every_n_steps, 1) == 0:
                    numbers |= self.monitor.numbers()
            pl_module.log_dict(numbers, on_step=True, on_epoch=False, batch_size=len(selection.pair))

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self._leave()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self._leave()

    # --- what was handed out -------------------------------------------------------------------------------------------

    def _watch(self, trainer: Any) -> None:
        """Note the selections of batches as the loader hands them out: a format may leave nothing of them in the batch."""
        loaders = [loader for loader in _leaves(trainer.train_dataloader) if isinstance(loader, HardViewLoader)]
        if len(loaders) != 1:
            raise HvsError(
                f"HardViewCallback expects one HardViewLoader among the training loaders, got {len(loaders)}; pass a HardViewDataModule, "
                "or the loader itself, to trainer.fit"
            )
        if loaders[0] is self._loader:
            return
        self._leave()
        check_strategy(trainer)
        check_precision(loaders[0].selector, trainer.precision_plugin)
        self._loader = loaders[0]
        self._format, self._loader.format = self._loader.format, self._noted

    def _leave(self) -> None:
        if self._loader is not None:
            self._loader.format = self._format
        self._loader = self._format = None
        self._handed_out.clear()

    def _noted(self, batch: Batch) -> Any:
        assert batch.selection is not None
        made = batch if self._format is None else self._format(batch)
        # the teacher's outputs may be large, and nothing here needs them
        self._handed_out.append((replace(batch.selection, teacher_outputs=None), [ref(tensor) for tensor in _tensors(made)]))
        return made

    def _selection_of(self, batch: Any) -> Selection | None:
        """A batch is known by its tensors; one whose tensors are others by now, moved or converted, is taken for the latest."""
        tensors = {id(tensor) for tensor in _tensors(batch)}
        for place, (selection, noted) in enumerate(self._handed_out):
            # one that is gone is None, so that no number stands for two tensors
            if any(id(tensor()) in tensors for tensor in noted):
                for _ in range(place + 1):
                    self._handed_out.popleft()
                return selection
        return self._handed_out[-1][0] if self._handed_out else None

    def _check(self, selection: Selection) -> None:
        assert self._loader is not None
        expected, self._step = self._step, selection.step + 1
        if self._warned:
            return
        if not self._loader.selector.is_fresh(selection):
            self._warn(
                f"expected views that were chosen with the weights of the step that trains on them, got selection {selection.step} with "
                "other weights: something fetches batches ahead of the training. Give all training loaders a length, and let nothing that "
                "prefetches wrap the loader"
            )
        elif expected is not None and selection.step != expected:
            self._warn(
                f"expected the views of selection {expected} after those of {expected - 1}, got those of {selection.step}: batches are "
                "fetched, at the price of a selection each, that are not trained on. Let nothing but the trainer iterate over the loader"
            )

    def _warn(self, message: str) -> None:
        self._warned = True
        warnings.warn(message, StaleSelectionWarning, stacklevel=4)


def statistics_of(selection: Selection) -> dict[str, Tensor]:
    """Means over a batch: ``loss``, ``random_loss``, ``iou`` and ``random_iou`` where they are known, float32 scalars on its device.

    The number of a random pair is the mean over legal pairs that the selector's rule allows. Losses that are not finite are left out, and
    counted in ``non_finite``.
    """
    found: dict[str, Tensor] = {}
    if selection.scored:
        found["loss"] = _mean(selection.loss, selection.loss.isfinite())
        found["non_finite"] = selection.non_finite.to(torch.float32)
        if selection.combination_loss is None:
            found["random_loss"] = _mean(selection.losses, selection.legal & selection.losses.isfinite())
    if selection.params is not None:
        # the table goes to the device, as the choice cannot leave it without waiting
        iou_BVV = iou(selection.params).to(selection.pair.device, non_blocking=True)
        found["iou"] = selection.mean_of_pairs(iou_BVV).mean()
        found["random_iou"] = _mean(iou_BVV, selection.legal.expand_as(iou_BVV) if selection.allowed is None else selection.allowed)
    return found


def _mean(values: Tensor, counted: Tensor) -> Tensor:
    # a mask that selects elements would wait for the device to tell how many
    return values.where(counted, 0).sum() / counted.sum()


def _tensors(made: Any) -> Iterator[Tensor]:
    """The tensors in what a format made."""
    if isinstance(made, Tensor):
        yield made
    elif isinstance(made, (Mapping, Batch, list, tuple)):
        for item in made.values() if isinstance(made, Mapping) else made:
            yield from _tensors(item)


def _leaves(loaders: Any) -> Iterator[Any]:
    """Single loaders, of whatever collection ``trainer.fit`` was given."""
    nested = getattr(loaders, "iterables", loaders)
    if isinstance(nested, Mapping):
        nested = list(nested.values())
    if isinstance(nested, (list, tuple)):
        for item in nested:
            yield from _leaves(item)
    else:
        yield nested


def _fetched_in_step(trainer: Any) -> bool:
    """Whether batches are fetched by the training step itself."""
    return type(getattr(trainer.fit_loop, "_data_fetcher", None)).__name__ == "_DataLoaderIterDataFetcher"


# What is imported from here is a subclass of Lightning's, as its command line asks for, and Lightning is loaded only then.
_WRITTEN = {kind.__name__: kind for kind in (HardViewDataModule, HardViewCallback)}
if not TYPE_CHECKING:
    del HardViewDataModule, HardViewCallback


def __getattr__(name: str) -> Any:
    if name not in _WRITTEN:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return class_for_lightning(_WRITTEN[name])
