"""LeJEPA with stable-pretraining on a folder of images, two global and four local views: python with_stable_pretraining_lejepa.py FOLDER"""

import argparse

import lightning as pl
import stable_pretraining as spt
import torch
from stable_pretraining.data import transforms
from stable_pretraining.methods import LeJEPA
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder


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


def view(size, scale):
    return transforms.Compose(
        transforms.RGB(),
        transforms.RandomResizedCrop((size, size), scale=scale),
        transforms.RandomHorizontalFlip(p=0.5),
        transforms.ColorJitter(brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1, p=0.8),
        transforms.RandomGrayscale(p=0.2),
        transforms.ToImage(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]),
    )


views = {f"global_{n}": view(args.size[0], (0.4, 1.0)) for n in (1, 2)}
views |= {f"local_{n}": view(args.size[1], (0.05, 0.4)) for n in (1, 2, 3, 4)}
images = spt.data.FromTorchDataset(ImageFolder(args.data), ["image", "label"], transforms.MultiViewTransform(views))
data = DataLoader(images, args.batch_size, shuffle=True, drop_last=True, num_workers=2)
trainer = pl.Trainer(max_epochs=args.epochs, log_every_n_steps=10)
trainer.fit(module, data)
