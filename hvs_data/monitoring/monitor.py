"""Numbers of what is selected, as plain floats from one call: for TensorBoard, Weights & Biases, CSV files and the like."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from hvs_data.arguments.values import real_number
from hvs_data.errors import HvsError
from hvs_data.forwards.spread import spread_of, unit_vectors
from hvs_data.loaders.hard_view_loader import HardViewLoader
from hvs_data.monitoring.alarms import Alarms
from hvs_data.monitoring.history import History
from hvs_data.monitoring.observed import Observed
from hvs_data.selection.geometry import ENOUGH_PAIRS, Geometry
from hvs_data.selection.selector import HardViewSelector
from hvs_data.threads.exclusive import one_at_a_time
from hvs_data.types.batch import Batch
from hvs_data.types.selection import Selection

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

# In the order in which they are given.
NAMES = (
    "iou_chosen",
    "iou_other",
    "disjoint_chosen",
    "disjoint_other",
    "smallest_iou",
    "smallest_iou_by_chance",
    "area_chosen",
    "area_other",
    "local_area_chosen",
    "local_area_other",
    "loss_chosen",
    "loss_mean",
    "loss_gap",
    "loss_gap_relative",
    "rows_r2",
    "scored",
    "non_finite_share",
    "unfit",
    "none_allowed",
    "output_std",
)

# Selections that may be on their way from the device. The oldest of them is waited for, which has been computed long since.
MOST_PENDING = 16


class Monitor:
    """Tells how hard the selected views are while a training runs.

    It takes note of every selection of a selector, and :meth:`numbers` gives means over those since its last call. Taking note waits for
    nothing on the device, and takes the host some milliseconds; asking for the numbers waits for the latest selection. What is kept does
    not grow. May be called from several threads.

    The numbers are those of this process's images. Each rank has its own, of equally many images: log those of one rank, or average them.

    Args:
        watched: the :class:`hvs_data.HardViewLoader` or :class:`hvs_data.HardViewSelector` whose selections are taken note of; None to
            tell it of each by :meth:`observe`.
        prefix: of the numbers' names.
        min_iou: the mean overlap of chosen pairs below which it warns; None for no warning.
        min_std: the spread of the model's outputs below which it warns; None for no warning.

    Attributes:
        names: of all numbers that there may be.

    Raises:
        HvsError: something else to watch, or limits that are no numbers.
    """

    def __init__(
        self,
        watched: HardViewLoader | HardViewSelector | None = None,
        *,
        prefix: str = "hvs/",
        min_iou: float | None = 0.1,
        min_std: float | None = 0.05,
    ):
        selector = watched.selector if isinstance(watched, HardViewLoader) else watched
        if not isinstance(selector, HardViewSelector | None):
            raise HvsError(
                f"expected a HardViewLoader or a HardViewSelector to watch, got {type(watched).__name__}; or pass none, and tell the "
                "monitor of each batch: monitor.observe(batch)"
            )
        for name, limit in (("min_iou", min_iou), ("min_std", min_std)):
            if limit is not None and real_number(limit) is None:
                raise HvsError(f"{name} must be a number, or None for no warning, got {limit!r}")
        self.prefix = prefix
        self.names = tuple(f"{prefix}{name}" for name in NAMES)
        self._history = History()
        self._alarms = Alarms(min_iou, min_std)
        self._geometry = Geometry()
        self._pending: deque[Observed] = deque()
        self._fitted = 0
        self._outputs_given = False
        self._begin()
        self._selector = selector
        if selector is not None:
            selector.watchers.append(self.observe)

    def close(self) -> None:
        """Watch no longer. What was seen stays."""
        if self._selector is not None:
            self._selector.watchers.remove(self.observe)
            self._selector = None

    # --- seeing --------------------------------------------------------------------------------------------------------

    def observe(self, seen: Batch | Selection) -> None:
        """Take note of a selection, or of a batch's. Called by what is watched; to be called by the trainer where nothing is.

        Raises:
            HvsError: something else, or a batch without selection.
        """
        selection = seen.selection if isinstance(seen, Batch) else seen
        if not isinstance(selection, Selection):
            raise HvsError(
                f"expected a Selection, or a Batch that has one, got {'one without' if isinstance(seen, Batch) else type(seen).__name__}; "
                "pass batch.selection of a HardViewLoader, or selector.last"
            )
        observed = Observed(selection)
        with one_at_a_time(self):
            self._pending.append(observed)
            while self._pending and (len(self._pending) > MOST_PENDING or self._pending[0].arrived):
                self._take_in(self._pending.popleft())

    def observe_outputs(self, outputs: Tensor) -> None:
        """Take the spread of outputs from a step of the trainer, from now on in place of that of the outputs that selections see.

        For trainings that seldom ask the model to select. This waits for the device, so call it now and then.

        Args:
            outputs: floating [N, D] of at least 2 images, such as projections.

        Raises:
            HvsError: a tensor of another kind.
        """
        if outputs.ndim != 2 or len(outputs) < 2 or not outputs.is_floating_point():
            raise HvsError(
                f"expected outputs [N, D] of at least 2 images, floating, got {outputs.dtype} {list(outputs.shape)}; pass projections"
            )
        value = float(spread_of(unit_vectors(outputs)))
        with one_at_a_time(self):
            if not self._outputs_given:
                self._outputs_given = True
                self._drop("output_std")
            self._add("output_std", value, 1)

    def _begin(self) -> None:
        self._total: dict[str, float] = {}
        self._count: dict[str, int] = {}
        self._step: int | None = None

    def _drop(self, name: str) -> None:
        self._total.pop(name, None)
        self._count.pop(name, None)

    def _add(self, name: str, total: float, terms: int) -> None:
        self._total[name] = self._total.get(name, 0.0) + total
        self._count[name] = self._count.get(name, 0) + terms

    def _take_in(self, observed: Observed) -> None:
        self._fitted += 1
        self._step = observed.step
        for name, total, terms in observed.told(self._geometry, self._fitted):
            if name != "output_std" or not self._outputs_given:
                self._add(name, total, terms)

    # --- telling -------------------------------------------------------------------------------------------------------

    def numbers(self) -> dict[str, float]:
        """Means over the selections since the last call, by name, each with the prefix; those that are not known are left out.

        ==========================  ===========================================================================================
        iou_chosen, iou_other       overlap (IoU) of the boxes of chosen pairs, and of the image's other pairs that could have
                                    been chosen (legal, and allowed by the selector's rule)
        disjoint_chosen, _other     share of these pairs whose boxes do not overlap at all
        smallest_iou                share of images whose chosen pair is that of the smallest overlap; ``smallest_iou_by_chance``
                                    is what choosing at random would give
        area_chosen, area_other     area of the boxes of chosen views, and of the others, as a share of the image;
                                    ``local_area_chosen``, ``local_area_other`` of local views
        loss_chosen, loss_mean      loss of what was chosen, and mean over the image's pairs that were scored
        loss_gap                    their difference; ``loss_gap_relative`` in units of the mean's size
        rows_r2                     share of the losses' variance within images that a linear model of the rows explains, fitted to
                                    the latest steps
        scored                      share of steps in which the model was asked
        non_finite_share            share of losses that were NaN or infinite; of sums over views, share of their terms
        unfit                       share of scored images of which no loss was finite
        none_allowed                share of images without a pair that the selector's rule allows
        output_std                  spread of the model's outputs over images: about 1 is healthy, near 0 is collapsed
        ==========================  ===========================================================================================

        Numbers of overlap and area are of all steps, those of losses of the steps in which the model was asked. Each image counts alike.

        Warns:
            HardnessWarning: once each: chosen pairs hardly overlap; the model collapses.
        """
        with one_at_a_time(self):
            while self._pending:
                self._take_in(self._pending.popleft())
            means = {name: total / self._count[name] for name, total in self._total.items() if self._count[name]}
            if "loss_chosen" in means:
                means["loss_gap"] = means["loss_chosen"] - means["loss_mean"]
                if means["loss_mean"]:
                    means["loss_gap_relative"] = means["loss_gap"] / abs(means["loss_mean"])
                if self._geometry.pairs >= ENOUGH_PAIRS:
                    means["rows_r2"] = self._geometry.r2
            images, steps = self._count.get("iou_chosen", 0), max(self._count.get("scored", 0), self._count.get("output_std", 0))
            if self._step is not None and means:
                self._history.add(self._step, means)
            self._begin()
        self._alarms.judge(means, images, steps)
        return {f"{self.prefix}{name}": means[name] for name in NAMES if name in means}

    def figure(self) -> Figure:
        """A picture of all numbers so far over the selector's steps, one point a call of :meth:`numbers`: a matplotlib figure, for
        ``SummaryWriter.add_figure``, ``wandb.Image`` or ``figure.savefig``.

        Of more than a thousand points, every second one is let go of.

        Raises:
            MissingDependencyError: matplotlib is not installed.
        """
        from hvs_data.monitoring.figure import drawn

        with one_at_a_time(self):
            points = self._history.points()
        return drawn(points)

    def __repr__(self) -> str:
        return f"Monitor({self._selector!r}, prefix={self.prefix!r})"
