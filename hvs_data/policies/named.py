"""Policies by name."""

from __future__ import annotations

from collections.abc import Callable

from hvs_data.errors import SelectionError
from hvs_data.policies.anchored import Anchored
from hvs_data.policies.base import Policy
from hvs_data.policies.extremes import Easiest, Hardest
from hvs_data.policies.feasible import Feasible
from hvs_data.policies.mixed import Mixed
from hvs_data.policies.quantile import Quantile
from hvs_data.policies.schedules import Scheduled
from hvs_data.policies.softmax import Softmax
from hvs_data.policies.tempered_rank import TemperedRank
from hvs_data.policies.unasked import Random, SmallestIoU
from hvs_data.policies.unforetold import Unforetold

_USUAL: dict[str, Callable[[], Policy]] = {
    kind.name: kind for kind in (Hardest, Easiest, Random, SmallestIoU, TemperedRank, Mixed, Feasible, Anchored, Unforetold)
}
POLICIES = (*_USUAL, Quantile.name, Softmax.name)


def policy_of(policy: object, quantile: Scheduled, temperature: Scheduled) -> Policy:
    """The policy that an argument asks for: a policy, or the name of a usual one.

    Args:
        policy: as given.
        quantile, temperature: of the two policies of that name.

    Raises:
        SelectionError: something else, or numbers that those policies would refuse.
    """
    by_name: dict[str, Policy] = {Quantile.name: Quantile(quantile), Softmax.name: Softmax(temperature)}
    if isinstance(policy, Policy):
        return policy
    if isinstance(policy, str) and policy in _USUAL:
        return _USUAL[policy]()
    if isinstance(policy, str) and policy in by_name:
        return by_name[policy]
    raise SelectionError(
        f"policy must be one of {POLICIES}, or an object such as hvs_data.policies.TemperedRank(beta=3), got {policy!r}; it says which of "
        "an image's pairs is chosen"
    )
