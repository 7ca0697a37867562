"""LeJEPA with stable-pretraining on a folder of images, two global and four local views: python with_stable_pretraining_lejepa.py FOLDER"""

import argparse

import lightning as pl
import torch
from stable_pretraining.methods import LeJEPA

import hvs_data as hvs
from hvs_data.integrations.lightning import HardViewCallback, HardViewDataModule


class Pretraining(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.model = LeJEPA("vit_tiny_patch16_224")

    def training_step(self, batch, batch_idx):
        views = batch["views"]
        global_views, local_views = ([views[name]["image"] for name in views if name.startswith(kind)] for kind in ("global", "local"))
        output = self.model(global_views=global_views, local_views=local_views)
        self.log("loss", output.loss)
        return output.loss

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-3, weight_decay=0.05)


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("data")
parser.add_argument("--epochs", type=int, default=1)
parser.add_argument("--batch-size", type=int, default=64)
parser.add_argument("--size", type=int, nargs=2, default=(224, 96))
args = parser.parse_args()

module = Pretraining()
recipe = hvs.recipes.dino(4, 8, *args.size, local_views=4)
objective = hvs.objectives.LeJEPA(module.model)
data = HardViewDataModule(args.data, recipe, objective, args.batch_size, format=hvs.formats.stable_pretraining, drop_last=True)
trainer = pl.Trainer(max_epochs=args.epochs, log_every_n_steps=10, callbacks=[HardViewCallback()])
trainer.fit(module, data)
