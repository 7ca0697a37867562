"""Objectives: what each method calls in the user's model, and the loss of every pair of views."""

from hvs_data.objectives.base import Objective
from hvs_data.objectives.simsiam import SimSiam

__all__ = ["Objective", "SimSiam"]
