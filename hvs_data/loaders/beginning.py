"""Which kind of production an iteration begins: on the CPU, on a CUDA device, with its decoder, or on the CPU for it."""

from __future__ import annotations

from collections.abc import Callable

from hvs_data.loaders.device_decoding import DecodingProduction
from hvs_data.loaders.device_production import DeviceProduction
from hvs_data.loaders.host_production import HostProduction
from hvs_data.loaders.lanes import CudaLane
from hvs_data.loaders.order import EpochOrder
from hvs_data.loaders.plan import Plan
from hvs_data.loaders.production import Production
from hvs_data.loaders.wanted import Wanted


def begin_production(
    plan: Plan, order: EpochOrder, *, wanted: Callable[[int], Wanted] | None = None, keep_images: bool = False
) -> Production:
    """Begin an iteration, on the device where it is a CUDA device, else on the CPU; arguments as of :class:`Production`."""
    if plan.device.type == "cuda" and plan.render_on == "cpu":
        return HostProduction(plan, order, CudaLane(plan.device), wanted=wanted, keep_images=keep_images)
    if plan.device.type == "cuda" and plan.decoder is not None:
        return DecodingProduction(plan, order, CudaLane(plan.device), plan.decoder, wanted=wanted, keep_images=keep_images)
    if plan.device.type == "cuda":
        return DeviceProduction(plan, order, CudaLane(plan.device), wanted=wanted, keep_images=keep_images)
    return Production(plan, order, wanted=wanted, keep_images=keep_images)
