"""How hard pairs of views will be, told from their rows: a linear model whose weights are fitted while training, to losses that are there.

For two views i, j of an image, with features f of their rows (``FEATURES``), the model is ``loss = c + w . f``, c a number of each image's
own. Features and losses are taken from their means over an image's pairs, so that c cancels: what is fitted is which pair of an image is
harder than its others, and images that are hard as a whole, or a loss that falls, leave no mark.

What a local view adds to the loss beside a pair of global ones is a model of its own, ``loss = c + w . sum of f``, the sum over those of
the global views that it is compared with and c a number of each image's pair: what is fitted is which local view adds more than the others.

The weights minimise the sum of ``forgetting ** (age in steps) * error ** 2`` over all pairs seen: recursive least squares with exponential
forgetting, kept as normal equations (d x d numbers), which lose nothing against the recursion and are solved in d^3 steps.
"""

# Axes: B image, V view, P pair, L local view, D feature, N group of losses that are compared with each other.

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hvs_data.arguments.values import real_number
from hvs_data.errors import SelectionError
from hvs_data.rows.features import FEATURES, cross_features, pair_features, pair_scores
from hvs_data.types.rows import ViewParams

# Weights before so many pairs were seen: the less overlap, the harder.
PRIOR = {"iou": -1.0}
ENOUGH_PAIRS = 256

# Steps after which losses count. A loader may have fewer batches than that in the making.
DELAY = 8

# Added to the diagonal, as a share of each feature's own sum of squares, and as so many pairs' worth of it: only what cannot be told
# from the data, such as the weight of a feature that never changes, is decided by it (to be 0).
_RELATIVE_RIDGE, _RIDGE = 1e-6, 1e-6


@dataclass(frozen=True)
class Weights:
    """A fitted model, or the one before anything was fitted.

    Attributes:
        weight: D numbers, in the order of ``FEATURES``.
        spread: the root mean square of what the features leave unexplained of a loss, within an image.
    """

    weight: tuple[float, ...]
    spread: float


BEFORE = Weights(tuple(PRIOR.get(name, 0.0) for name in FEATURES), 0.25)


class Geometry:
    """The model, fitted step by step.

    The weights that choose at a step are fitted to the losses of all steps before the last ``delay - 1`` ones: a loader draws rows that far
    ahead, and losses on a device have long been computed by then, so that hardly anything ever waits for them. So a choice depends on
    the step alone, not on when its batch was made.

    Args:
        forgetting: what a pair's share in the fit is multiplied by with each further step, whether losses come with that or not.

    Attributes:
        delay: steps after which losses count; more than the batches that a loader has in the making.

    Raises:
        SelectionError: a number that is no such share.
    """

    def __init__(self, forgetting: float = 0.95):
        number = real_number(forgetting)
        if number is None or not 0 < number <= 1:
            raise SelectionError(
                f"forgetting must satisfy 0 < forgetting <= 1, got {forgetting!r}; it is what each step leaves of the past"
            )
        self.forgetting = number
        self.delay = DELAY
        self._sums = _Sums.empty()
        self._pairs, self._last = 0, 0  # seen so far, and at which step the last of them
        self._fitted: list[tuple[int, Weights]] = []  # the first step that each may choose at
        self._pending: deque[_Pending] = deque()

    # --- reading -------------------------------------------------------------------------------------------------------

    @property
    def weights(self) -> dict[str, float]:
        """By how much a loss grows with each feature. Reading it waits for losses that are still being computed."""
        return dict(zip(FEATURES, self._latest().weight, strict=True))

    @property
    def pairs(self) -> int:
        """How many pairs were seen."""
        self._absorb()
        return self._pairs

    @property
    def r2(self) -> float:
        """The share of the losses' variance within images, of those that are remembered, that the features explain; 0 before the fit."""
        self._absorb()
        return self._sums.explained() if self._fitted else 0.0

    def at(self, step: int) -> Weights:
        """The weights that choose at a step."""
        return self._fitted_at(step) or BEFORE

    def foretold(self, step: int, params: ViewParams, pair_P2: Sequence[Sequence[int]]) -> NDArray[np.float32] | None:
        """What a step's weights foretell of the losses of some pairs, up to a number of each image's own.

        Args:
            step: not before that of the latest losses.
            params: rows [B, V].
            pair_P2: pairs of their slots.

        Returns:
            float32 [B, P]; None where no weights are fitted yet.
        """
        weights = self._fitted_at(step)
        if weights is None:
            return None
        first_P, second_P = np.asarray(pair_P2, dtype=np.int64).reshape(-1, 2).T
        return pair_scores(params, weights.weight)[:, first_P, second_P]

    def _fitted_at(self, step: int) -> Weights | None:
        self._absorb(step - self.delay)
        return next((weights for first, weights in reversed(self._fitted) if first <= step), None)

    # --- fitting -------------------------------------------------------------------------------------------------------

    def observe(self, step: int, params: ViewParams, pair_P2: Sequence[Sequence[int]], loss_BP: Tensor) -> None:
        """Take note of losses. They may still be in the making on their device.

        Args:
            step: in which they were computed.
            params: rows [B, V] of the views that were scored.
            pair_P2: their pairs, by place.
            loss_BP: floating; what is not finite is left out.
        """
        self._note(step, lambda: pair_features(params, pair_P2), loss_BP)

    def observe_locals(
        self, step: int, params: ViewParams, pair_P2: Sequence[Sequence[int]], local_L: Sequence[int], loss_BPL: Tensor
    ) -> None:
        """Take note of what local views add to the loss beside pairs, which may still be in the making.

        Args:
            step, params: as of :meth:`observe`.
            pair_P2: the pairs, by place; or of each its first view alone, if local views are compared with that one only.
            local_L: the local views, by place.
            loss_BPL: floating; what is not finite is left out.
        """
        self._note(step, lambda: _beside(params, pair_P2, local_L), loss_BPL.flatten(0, 1))

    def _note(self, step: int, features: Callable[[], NDArray[np.float64]], loss_NP: Tensor) -> None:
        while len(self._fitted) > 1 and self._fitted[1][0] <= step:
            del self._fitted[0]
        self._pending.append(_Pending(step, features, HostCopy(loss_NP)))

    def _absorb(self, last: float = math.inf) -> None:
        """Fit to what came until this step."""
        while self._pending and self._pending[0].step <= last:
            seen = self._pending.popleft()
            left = self.forgetting ** max(seen.step - self._last, 0)
            self._sums, pairs = self._sums.after(seen.features(), seen.loss.numpy(), left)
            self._pairs, self._last = self._pairs + pairs, seen.step
            if self._pairs >= ENOUGH_PAIRS:
                self._fitted.append((seen.step + self.delay, self._sums.solved()))

    def _latest(self) -> Weights:
        self._absorb()
        return self._fitted[-1][1] if self._fitted else BEFORE

    # --- state ---------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers and lists."""
        self._absorb()
        return {
            "features": list(FEATURES),
            "pairs": self._pairs,
            "last": self._last,
            **self._sums.state(),
            "fitted": [[first, list(weights.weight), weights.spread] for first, weights in self._fitted],
        }

    def load_state_dict(self, state: Mapping[str, Any] | None) -> None:
        """Go on as the model of :meth:`state_dict`; begin anew with None, or with the state of a version with other features."""
        self._pending.clear()
        if state is None or list(state["features"]) != list(FEATURES):
            self._sums, self._pairs, self._last, self._fitted = _Sums.empty(), 0, 0, []
            return
        self._sums, self._pairs, self._last = _Sums.of(state), int(state["pairs"]), int(state["last"])
        self._fitted = [(int(first), Weights(tuple(weight), float(spread))) for first, weight, spread in state["fitted"]]

    def __repr__(self) -> str:
        weights = ", ".join(f"{name} {weight:+.3g}" for name, weight in self.weights.items() if weight)
        return f"Geometry({weights}; r2 {self.r2:.2f}, {self.pairs} pairs)"


@dataclass(frozen=True)
class _Pending:
    step: int
    features: Callable[[], NDArray[np.float64]]
    loss: HostCopy


def _beside(params: ViewParams, pair_P2: Sequence[Sequence[int]], local_L: Sequence[int]) -> NDArray[np.float64]:
    """The features of each local view and a pair's views, summed over these: float64 [B P, L, D]."""
    global_G = sorted({view for pair in pair_P2 for view in pair})
    feature_BGLD = cross_features(params.views(global_G), params.views(local_L))
    feature_BPLD = sum(feature_BGLD[:, [global_G.index(view) for view in view_P]] for view_P in zip(*pair_P2, strict=True))
    assert isinstance(feature_BPLD, np.ndarray)
    return feature_BPLD.reshape(-1, *feature_BPLD.shape[2:])


@dataclass(frozen=True)
class _Sums:
    """The normal equations: sums over pairs, each weighted by its age.

    Attributes:
        products_DD: of two features.
        with_loss_D: of a feature and the loss.
        loss: of the loss with itself.
        count: of the weights alone, without one pair an image, which its mean takes up.
    """

    products_DD: NDArray[np.float64]
    with_loss_D: NDArray[np.float64]
    loss: float
    count: float

    @staticmethod
    def empty() -> _Sums:
        return _Sums(np.zeros((len(FEATURES), len(FEATURES))), np.zeros(len(FEATURES)), 0.0, 0.0)

    def after(self, feature_BPD: NDArray[np.float64], loss_BP: NDArray[np.float64], left: float) -> tuple[_Sums, int]:
        """These sums times ``left`` and those of further pairs, and how many of these there are."""
        finite_BP = np.isfinite(loss_BP)
        pairs_B = finite_BP.sum(1)
        feature_ND = _centred(feature_BPD, finite_BP, pairs_B)[finite_BP]
        loss_N = _centred(np.where(finite_BP, loss_BP, 0.0)[..., None], finite_BP, pairs_B)[finite_BP][:, 0]
        sums = _Sums(
            left * self.products_DD + feature_ND.T @ feature_ND,
            left * self.with_loss_D + feature_ND.T @ loss_N,
            left * self.loss + float(loss_N @ loss_N),
            left * self.count + float(np.maximum(pairs_B - 1, 0).sum()),
        )
        return sums, int(pairs_B.sum())

    def solved(self) -> Weights:
        ridge_D = _RELATIVE_RIDGE * self.products_DD.diagonal() + _RIDGE
        weight_D = np.linalg.solve(self.products_DD + np.diag(ridge_D), self.with_loss_D)
        return Weights(tuple(weight_D.tolist()), math.sqrt(self._left_over(weight_D) / max(self.count, 1.0)))

    def explained(self) -> float:
        return 1 - self._left_over(np.array(self.solved().weight)) / self.loss if self.loss else 0.0

    def _left_over(self, weight_D: NDArray[Any]) -> float:
        """The sum of squared errors."""
        return max(self.loss - 2 * float(weight_D @ self.with_loss_D) + float(weight_D @ self.products_DD @ weight_D), 0.0)

    def state(self) -> dict[str, Any]:
        return {"products": self.products_DD.tolist(), "with_loss": self.with_loss_D.tolist(), "loss": self.loss, "count": self.count}

    @staticmethod
    def of(state: Mapping[str, Any]) -> _Sums:
        return _Sums(np.array(state["products"]), np.array(state["with_loss"]), float(state["loss"]), float(state["count"]))


def _centred(value_BPD: NDArray[np.float64], finite_BP: NDArray[np.bool_], pairs_B: NDArray[np.int64]) -> NDArray[np.float64]:
    """Less the mean over an image's finite pairs."""
    total_BD = np.einsum("bpd,bp->bd", value_BPD, finite_BP.astype(np.float64))
    return value_BPD - (total_BD / np.maximum(pairs_B, 1)[:, None])[:, None]


class HostCopy:
    """A tensor's values on the host, on their way there without anything waiting for them.

    Args:
        tensor: on any device.
    """

    def __init__(self, tensor: Tensor):
        self._arrived: torch.cuda.Event | None = None
        if tensor.device.type != "cuda":
            self._values = tensor.detach().to("cpu", copy=True)
            return
        self._values = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        self._values.copy_(tensor.detach(), non_blocking=True)
        # the stream of the tensor's device, which need not be the thread's current device
        self._arrived = torch.cuda.current_stream(tensor.device).record_event()

    @property
    def arrived(self) -> bool:
        """Whether they have arrived; waits for nothing."""
        return self._arrived is None or self._arrived.query()

    def numpy(self) -> NDArray[np.float64]:
        """float64; waits until they have arrived."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return self._values.to(torch.float64).numpy()
