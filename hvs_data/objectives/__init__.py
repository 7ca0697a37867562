"""Objectives: what each method calls in the user's model, and the loss of every pair of views."""

from hvs_data.objectives.additive import AdditiveObjective
from hvs_data.objectives.barlow_twins import BarlowTwins
from hvs_data.objectives.base import Objective
from hvs_data.objectives.byol import BYOL
from hvs_data.objectives.dcl import DCL
from hvs_data.objectives.dino import DINO
from hvs_data.objectives.dinov2 import DINOv2
from hvs_data.objectives.early_features import EarlyFeatures
from hvs_data.objectives.fast_siam import FastSiam
from hvs_data.objectives.ibot import IBOT
from hvs_data.objectives.image_text import CLIP, SigLIP
from hvs_data.objectives.lejepa import LeJEPA
from hvs_data.objectives.mmcr import MMCR
from hvs_data.objectives.moco import MoCoV2, MoCoV3
from hvs_data.objectives.msn import MSN
from hvs_data.objectives.nnclr import NNCLR
from hvs_data.objectives.reducible_losses import reducible
from hvs_data.objectives.simclr import SimCLR
from hvs_data.objectives.simsiam import SimSiam
from hvs_data.objectives.supcon import SupCon
from hvs_data.objectives.swav import SwAV
from hvs_data.objectives.tico import TiCo
from hvs_data.objectives.vicreg import VICReg

__all__ = [
    "AdditiveObjective",
    "BYOL",
    "BarlowTwins",
    "CLIP",
    "DCL",
    "DINO",
    "DINOv2",
    "EarlyFeatures",
    "FastSiam",
    "IBOT",
    "LeJEPA",
    "MMCR",
    "MSN",
    "MoCoV2",
    "MoCoV3",
    "NNCLR",
    "Objective",
    "SigLIP",
    "SimCLR",
    "SimSiam",
    "SupCon",
    "SwAV",
    "TiCo",
    "VICReg",
    "reducible",
]
