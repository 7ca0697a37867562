"""SimCLR with stable-pretraining on a folder of images: python with_stable_pretraining.py FOLDER"""

import argparse

import lightning as pl
import stable_pretraining as spt
from stable_pretraining.forward import simclr
from torch import nn

import hvs_data as hvs
from hvs_data.integrations.lightning import HardViewCallback, HardViewDataModule

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("data")
parser.add_argument("--epochs", type=int, default=1)
parser.add_argument("--batch-size", type=int, default=64)
parser.add_argument("--size", type=int, default=224)
args = parser.parse_args()

backbone = spt.backbone.from_torchvision("resnet18")
backbone.fc = nn.Identity()
module = spt.Module(
    forward=simclr,
    backbone=backbone,
    projector=nn.Sequential(nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, 128)),
    simclr_loss=spt.losses.NTXEntLoss(temperature=0.2),
    optim={"optimizer": {"type": "AdamW", "lr": 1e-3}, "scheduler": "CosineAnnealingLR"},
)
recipe = hvs.recipes.simclr(candidates=4, size=args.size)
objective = hvs.objectives.SimCLR(module, temperature=0.2)
data = HardViewDataModule(args.data, recipe, objective, args.batch_size, format=hvs.formats.stable_pretraining, drop_last=True)
trainer = pl.Trainer(max_epochs=args.epochs, num_sanity_val_steps=0, log_every_n_steps=10, callbacks=[HardViewCallback()])
spt.Manager(trainer=trainer, module=module, data=data, seed=0)()
