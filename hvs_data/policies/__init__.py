"""Policies: which of an image's pairs is chosen, and when the model is asked for it.

A selector takes one by name (``policy="hardest"``) or as an object that says more (``policy=policies.TemperedRank(beta=3)``). Each is one
file with one class; one of your own is a frozen dataclass below :class:`Policy` with a ``choose``.

Which candidates there are to choose from is the recipe's to say: :meth:`hvs_data.recipes.Recipe.with_shared` leaves the crops alone, or the
colours alone, to be chosen.
"""

from hvs_data.policies.anchored import Anchored
from hvs_data.policies.base import Moment, Policy
from hvs_data.policies.extremes import Easiest, Hardest
from hvs_data.policies.feasible import Feasible
from hvs_data.policies.mixed import Mixed
from hvs_data.policies.quantile import Quantile
from hvs_data.policies.schedules import Ramp
from hvs_data.policies.softmax import Softmax
from hvs_data.policies.tempered_rank import TemperedRank
from hvs_data.policies.unasked import Random, SmallestIoU
from hvs_data.policies.unforetold import Unforetold

__all__ = [
    "Anchored",
    "Easiest",
    "Feasible",
    "Hardest",
    "Mixed",
    "Moment",
    "Policy",
    "Quantile",
    "Ramp",
    "Random",
    "SmallestIoU",
    "Softmax",
    "TemperedRank",
    "Unforetold",
]
