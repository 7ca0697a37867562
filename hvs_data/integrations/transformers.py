"""Hugging Face's Trainer on the batches of a loader of views."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from hvs_data.errors import HvsError, MissingDependencyError
from hvs_data.integrations.accelerate import score_as
from hvs_data.loaders.hard_view_loader import HardViewLoader
from hvs_data.loaders.view_loader import ViewLoader
from hvs_data.monitoring.monitor import Monitor

__all__ = ["train_on"]


def train_on(trainer: Any, loader: HardViewLoader | ViewLoader) -> None:
    """Let ``trainer.train()`` take its batches from a loader, instead of a ``train_dataset``.

    - Scoring casts automatically as the trainer's ``bf16`` and ``fp16`` say, where the selector has no ``autocast`` of its own.
    - ``trainer.train(resume_from_checkpoint=...)`` goes on with the images, views and draws that an unbroken run would have seen, also
      from the middle of an epoch. Nothing is read for what is left out. As the trainer counts its steps, batch size and number of
      processes must be those of the checkpoint.
    - The model is in training mode when it is scored, as in the step that follows: the trainer leaves it in evaluation mode after each
      evaluation, and ``from_pretrained`` hands it out so.
    - With ``gradient_accumulation_steps``, the trainer fetches the batches of one step together. They are chosen with the weights that
      train on them, as these change between steps only.

    Args:
        trainer: a ``transformers.Trainer``, of whatever subclass.
        loader: on ``trainer.args.device``, with batches of ``trainer.args.train_batch_size`` images and a ``format`` that makes a dict of
            the arguments of the model's ``forward``, such as ``formats.named_views("x1", "x2", labels=None)``.

    Raises:
        HvsError: a loader of another kind, device, batch size or format; ``auto_find_batch_size`` or ``model_init``.
    """
    if not isinstance(loader, (HardViewLoader, ViewLoader)):
        raise HvsError(f"expected a HardViewLoader or a ViewLoader, got {type(loader).__name__}; pass a dataset to the Trainer instead")
    arguments = trainer.args
    if arguments.auto_find_batch_size:
        raise HvsError("expected a Trainer with a fixed batch size, which is the loader's too, got auto_find_batch_size; switch it off")
    if trainer.model_init is not None:
        raise HvsError("expected a Trainer with a model, which the objective is made of, got model_init, which makes others; pass model=")
    if loader.batch_size != arguments.train_batch_size:
        raise HvsError(
            f"expected batches of {arguments.train_batch_size} images, by which the Trainer counts, got a loader of batches of "
            f"{loader.batch_size}; pass per_device_train_batch_size={loader.batch_size} to TrainingArguments"
        )
    if loader.device.type != arguments.device.type:
        raise HvsError(
            f"expected a loader on the Trainer's device {arguments.device}, got one on {loader.device}; make it with "
            "ViewLoader(..., device=training_args.device)"
        )
    if loader.format is None:
        raise HvsError(
            "expected a loader whose format makes a dict of the arguments of the model's forward, got one without; pass "
            "format=hvs_data.formats.named_views(...) with a name for each view"
        )
    score_as(trainer.accelerator, loader)
    trainer.get_train_dataloader = functools.partial(EpochBatches, trainer, loader)
    trainer.train = _skipping_in_place(trainer.train)


def log_numbers(trainer: Any, monitor: Monitor) -> None:
    """Let a Trainer log a monitor's numbers whenever it logs its own, to whatever it reports to (``report_to``, ``log_history``).

    Args:
        trainer: a ``transformers.Trainer``, of whatever subclass.
        monitor: of the loader that it trains on.

    Raises:
        MissingDependencyError: transformers is not installed.
    """
    try:
        from transformers import TrainerCallback
    except ImportError:
        raise MissingDependencyError("transformers", "trainers", "log_numbers") from None

    class LogNumbers(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            # decided by the callback of the Trainer's own, which comes first
            if control.should_log:
                trainer.log(monitor.numbers())
                control.should_log = True  # which logging takes back, and the Trainer's own numbers are yet to come

    trainer.add_callback(LogNumbers())


class EpochBatches:
    """A loader as a Trainer goes through it: epoch by epoch, named by ``set_epoch``.

    Where an epoch begins depends on its number alone, not on what the loader and its selector did before, so that a run that goes on is
    the same as an unbroken one.

    Args:
        trainer, loader: as for :func:`train_on`.
        epoch: of the next iteration.
        skipped: batches of each epoch to leave out.
    """

    def __init__(self, trainer: Any, loader: HardViewLoader | ViewLoader, *, epoch: int = 0, skipped: int = 0):
        self.trainer = trainer
        self.loader = loader
        self.epoch = epoch
        self.skipped = skipped

    @property
    def dataset(self) -> Any:
        return self.loader.dataset

    @property
    def batch_size(self) -> int:
        return self.loader.batch_size

    def __len__(self) -> int:
        return len(self.loader)

    def set_epoch(self, epoch: int) -> None:
        """Called by the Trainer before each epoch; by some releases after they skip, by others before."""
        self.epoch = epoch

    def skipping(self, count: int) -> EpochBatches:
        """The same, without so many batches at the beginning."""
        return EpochBatches(self.trainer, self.loader, epoch=self.epoch, skipped=count)

    def __iter__(self) -> Iterator[Any]:
        state = {**self.loader.state_dict(), "epoch": self.epoch, "position": 0}
        if "selector" in state:
            state["selector"] = {**state["selector"], "step": self.epoch * len(self)}
        self.loader.load_state_dict(state)
        self.loader.skip_batches(self.skipped)
        self.trainer.model_wrapped.train()
        for batch in self.loader:
            if not isinstance(batch, Mapping):
                raise HvsError(
                    f"expected a format that makes a dict of the arguments of the model's forward, got {type(batch).__name__}; pass "
                    "format=hvs_data.formats.named_views(...) with a name for each view"
                )
            yield batch
            self.trainer.model_wrapped.train()  # which may have been evaluated since


def _skipping_in_place(train: Any) -> Any:
    """``Trainer.train``, which resumes by rebuilding its loader with a function of Accelerate's; ours is told to skip instead."""

    @functools.wraps(train)
    def skipping(*arguments: Any, **options: Any) -> Any:
        with _own_skip():
            return train(*arguments, **options)

    return skipping


@contextmanager
def _own_skip() -> Iterator[None]:
    try:
        from transformers import trainer as module
    except ImportError:
        raise MissingDependencyError("transformers", "trainers", "train_on") from None
    others = module.skip_first_batches

    def skip_first_batches(loader: Any, num_batches: int = 0) -> Any:
        return loader.skipping(num_batches) if isinstance(loader, EpochBatches) else others(loader, num_batches)

    module.skip_first_batches = skip_first_batches
    try:
        yield
    finally:
        module.skip_first_batches = others
