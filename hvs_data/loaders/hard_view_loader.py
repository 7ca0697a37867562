"""The hardest pair of every image's candidates, batch by batch: the same interface as the loader of the candidates."""

# Axes: B image, V view slot, K rendered view, C channel, S side.

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any, NoReturn

import torch

from hvs_data.arguments.fixed import Fixed
from hvs_data.arguments.sizes import Size
from hvs_data.errors import HvsError
from hvs_data.formats import Format
from hvs_data.loaders.production import Product
from hvs_data.loaders.quarantine import Quarantine
from hvs_data.loaders.sampler import EpochSampler
from hvs_data.loaders.twins import with_twins
from hvs_data.loaders.view_loader import NO_BATCH_SAMPLER, ViewLoader, checked_format
from hvs_data.loaders.wanted import Wanted
from hvs_data.modules.freshness import KeptBatches, LookAhead
from hvs_data.recipes.spec import Recipe
from hvs_data.selection.concessions import SizeConcededError
from hvs_data.selection.harmful import HardnessWarning, seen_to_hurt
from hvs_data.selection.selector import HardViewSelector
from hvs_data.sources.base import Source
from hvs_data.types.batch import Batch


class HardViewLoader(Fixed):
    """Batches of hardest pairs: an iterable of :class:`hvs_data.Batch`, each of which unpacks as ``views, labels``.

    Candidates are made ahead; the selection runs when the next batch is asked for, and so under the weights of that step. With the
    selector's ``score_size``, candidates are rendered at that size, and the chosen pair is rendered again at its full one.

    Nothing is rendered that is not needed: of a step in which the model is not asked, just the chosen views, and with ``prefilter`` just
    the candidates that the model will see, and those that ``extra_views`` may hand out beside them. That is decided when a batch is begun,
    for the step in which it will be asked for; should that come out otherwise, because something else moved the selector's step, what is
    missing is rendered then.

    A batch's ``views`` are the chosen ones, ``params`` the rows of all candidates, and ``selection`` tells which were chosen and why;
    ``params.take(selection.slots)`` are the rows of ``views``.

    Args:
        loader: of the candidates, on the device of the selector's model.
        selector: what chooses.
        format: as for :class:`ViewLoader`; by default that of ``loader``.
        labels: what stands in place of the source's labels, for the objective and in the batch that is handed out: a function of the batch
            of candidates that returns a tensor with first axis B, or a dict of such tensors, such as ``lambda batch: tokens[batch.index]``.
            None for the source's.

    Warns:
        UserWarning: the loader's views are not normalised, and the selector has no ``prepare``.
        StaleSelectionWarning: the trainer asks for batches before it has trained on those that it has, so that views are chosen with
            weights of an earlier step, or it trains on batches of an iteration that is over, as ``list(loader)`` keeps them.
        HardnessWarning: settings whose hardest pairs were seen to make features worse: crops from below .2 for small views, and many
            candidates of which rows alone choose. A rule (``allowed=``, or the policy "feasible") says that this was thought of.

    Raises:
        HvsError: something else than a ViewLoader and a HardViewSelector, a recipe with one candidate only, or labels that are no function.
        SelectionError: a recipe of which the selector cannot choose, such as one of too few candidates for its ``extra_views``.
        AttributeError: something that is set afterwards, but ``format``.
    """

    _decided = ViewLoader._decided | {"loader", "selector", "labels"}
    _instead = "make another HardViewLoader of a ViewLoader that was made with it"

    def __init__(
        self, loader: ViewLoader, selector: HardViewSelector, *, format: Format | None = None, labels: Callable[[Batch], Any] | None = None
    ):
        if not isinstance(loader, ViewLoader):
            raise HvsError(
                f"expected a ViewLoader, which renders the candidates, got {type(loader).__name__}; call the selector on views of others"
            )
        if not isinstance(selector, HardViewSelector):
            raise HvsError(
                f"expected a HardViewSelector, got {type(selector).__name__}; make one of an objective: HardViewSelector(objective)"
            )
        if loader.recipe.num_views < 2:
            raise HvsError(
                f"expected a recipe of at least 2 candidates, got {loader.recipe.num_views}; pass candidates=4 or more to the recipe"
            )
        if not loader.normalizes and selector.prepare is None:
            warnings.warn(
                "expected views that are normalised, got a loader that leaves them as they are (normalize=False, uint8, or a recipe "
                "without mean and standard deviation); so they are scored. If the trainer's step normalises them, pass what it does: "
                "HardViewSelector(..., prepare=normalize). If the model does so by itself, or nothing does, prepare=torch.nn.Identity() "
                "says that",
                UserWarning,
                stacklevel=2,
            )
        if labels is not None and not callable(labels):
            raise HvsError(
                f"expected labels as a function of a batch, got {type(labels).__name__}; for a table of one row a sample write "
                "labels=lambda batch: table[batch.index]"
            )
        selector.check(loader.recipe)
        for message in seen_to_hurt(loader.recipe, selector.policy, selector.allowed is not None, selector.prefilter):
            warnings.warn(message, HardnessWarning, stacklevel=2)
        self.loader = loader
        self.selector = selector
        self.format = loader.format if format is None else checked_format(format)
        self.labels = labels
        # rows are chosen from when a batch is begun, by weights that must be there by then
        for geometry in (selector.geometry, selector.local_geometry):
            geometry.delay = max(geometry.delay, loader.prefetch + 1)
        self._made = True

    @property
    def dataset(self) -> Source:
        return self.loader.dataset

    @property
    def sampler(self) -> EpochSampler:
        return self.loader.sampler

    @property
    def quarantine(self) -> Quarantine:
        return self.loader.quarantine

    @property
    def counters(self) -> dict[str, int]:
        """As :attr:`ViewLoader.counters`."""
        return self.loader.counters

    @property
    def batch_size(self) -> int:
        return self.loader.batch_size

    @property
    def drop_last(self) -> bool:
        return self.loader.drop_last

    @property
    def recipe(self) -> Recipe:
        return self.loader.recipe

    @property
    def device(self) -> torch.device:
        return self.loader.device

    @property
    def batches_left(self) -> int:
        """As :attr:`ViewLoader.batches_left`."""
        return self.loader.batches_left

    @property
    def batch_sampler(self) -> NoReturn:
        """As :attr:`ViewLoader.batch_sampler`."""
        raise AttributeError(NO_BATCH_SAMPLER)

    def __len__(self) -> int:
        return len(self.loader)

    def set_epoch(self, epoch: int) -> None:
        """As :meth:`ViewLoader.set_epoch`."""
        self.loader.set_epoch(epoch)

    def skip_batches(self, count: int) -> int:
        """As :meth:`ViewLoader.skip_batches`. The selector's step moves along, as if they had been handed out."""
        skipped = self.loader.skip_batches(count)
        self.selector.step += skipped
        return skipped

    def state_dict(self) -> dict[str, Any]:
        """As :meth:`ViewLoader.state_dict`, with the selector's step."""
        return {**self.loader.state_dict(), "selector": self.selector.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """As :meth:`ViewLoader.load_state_dict`. The state of a ViewLoader does too, and leaves the selector's step as it is."""
        self.loader.load_state_dict(state)
        if "selector" in state:
            self.selector.load_state_dict(state["selector"])

    def __iter__(self) -> Iterator[Any]:
        keep_images = self._late or self.selector.narrows or bool(self.recipe.twins)
        return self._run(self.loader.products(wanted=self._wanted, keep_images=keep_images))

    @property
    def _late(self) -> bool:
        """Whether chosen views are rendered after they were scored at another size."""
        return self._sizes(scored=True) != self._sizes(scored=False) and self.selector.ever_scores

    def _sizes(self, scored: bool) -> tuple[Size, ...]:
        """The size in pixels of every slot, as it is scored or handed out."""
        roles = self.loader.recipe.slot_roles
        full_V = tuple(role.size for role in roles)
        return self.selector.score_sizes([role.name for role in roles], full_V) if scored else full_V

    def _wanted(self, ahead: int) -> Wanted:
        """What is rendered of the batch that will be asked for after so many others."""
        narrowing = self.selector.narrowing(self.selector.step + ahead, self.loader.recipe)
        if narrowing.asks and self._late:
            narrowing = replace(narrowing, extra=0)  # what is handed out is rendered again, extra views too
        sizes_V = self._sizes(narrowing.asks)
        return Wanted(tuple(sizes_V[slot] for slot in narrowing.columns), narrowing if narrowing.partial else None)

    def _run(self, products: Iterator[Product]) -> Iterator[Any]:
        modules = self.selector.objective.modules()
        with closing(products), closing(LookAhead(modules)) as look_ahead, closing(KeptBatches(modules)) as kept:  # type: ignore[type-var]
            for product in products:
                look_ahead.asked()
                kept.asked()
                batch = self._settled(product)
                made = batch if self.format is None else self.format(batch)
                if batch.selection is not None and batch.selection.scored:
                    kept.handed_out(made)
                del batch  # a format's copy is held in its place, not beside it
                yield made

    def _settled(self, product: Product) -> Batch:
        while True:
            try:
                return self._selected(product)
            except SizeConcededError:  # the selector wants other sizes by now, which are rendered anew; it has only so many
                continue

    def _selected(self, product: Product) -> Batch:
        batch = product.batch if self.labels is None else replace(product.batch, labels=self.labels(product.batch))
        rows, views, slots, selector = batch.params, batch.views, product.slots, self.selector
        wanted = self._wanted(0)
        if wanted != product.wanted:
            # the selector's step or weights are not those that this batch was made for
            slots = wanted.slots(rows)
            views = product.render(rows if slots is None else rows.take(slots), wanted.sizes)
        if not selector.scores(selector.step):
            selection = selector.select(None, rows, slots=slots)
        elif self._late:
            selection = selector.select(views, rows, slots=slots, labels=batch.labels)
            views = product.render(rows.take(selection.slots))
        else:
            views = selector(views, rows, slots=slots, labels=batch.labels)
            assert selector.last is not None
            selection = selector.last
        return with_twins(replace(batch, views=views, selection=selection), product)

    def __repr__(self) -> str:
        return f"HardViewLoader({self.loader!r}, score_size {self.selector.score_size})"
