"""SimSiam in Lightning on a folder of images: python lightning_simsiam.py FOLDER"""

import argparse

import lightning.pytorch as pl
import torch
from torch import nn
from torch.nn.functional import cosine_similarity
from torchvision.models import resnet18

import hvs_data as hvs
from hvs_data.integrations.lightning import HardViewCallback, HardViewDataModule


class SimSiam(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.encoder = resnet18(num_classes=256)
        self.predictor = nn.Sequential(nn.Linear(256, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 256))

    def training_step(self, batch, batch_idx):
        (x1, x2), _ = batch
        z1, z2 = self.encoder(x1), self.encoder(x2)
        p1, p2 = self.predictor(z1), self.predictor(z2)
        loss = -(cosine_similarity(p1, z2.detach()).mean() + cosine_similarity(p2, z1.detach()).mean()) / 2
        self.log("loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("data")
parser.add_argument("--epochs", type=int, default=1)
parser.add_argument("--batch-size", type=int, default=64)
parser.add_argument("--size", type=int, default=224)
args = parser.parse_args()

recipe = hvs.recipes.simsiam(candidates=4, size=args.size)
data = HardViewDataModule(args.data, recipe, hvs.objectives.SimSiam, args.batch_size, drop_last=True)
trainer = pl.Trainer(max_epochs=args.epochs, log_every_n_steps=10, callbacks=[HardViewCallback()])
trainer.fit(SimSiam(), data)
