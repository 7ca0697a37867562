"""SimCLR with stable-pretraining on a folder of images: python with_stable_pretraining.py FOLDER"""

import argparse

import lightning as pl
import stable_pretraining as spt
from stable_pretraining.data import transforms
from stable_pretraining.forward import simclr
from torch import nn
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("data")
parser.add_argument("--epochs", type=int, default=1)
parser.add_argument("--batch-size", type=int, default=64)
parser.add_argument("--size", type=int, default=224)
args = parser.parse_args()

view = transforms.Compose(
    transforms.RGB(),
    transforms.RandomResizedCrop(args.size, (0.08, 1.0)),
    transforms.RandomHorizontalFlip(p=0.5),
    transforms.ColorJitter(0.8, 0.8, 0.8, 0.2, p=0.8),
    transforms.RandomGrayscale(p=0.2),
    transforms.PILGaussianBlur(p=0.5),
    transforms.ToImage(**spt.data.static.ImageNet),
)
images = spt.data.FromTorchDataset(ImageFolder(args.data), ["image", "label"], transforms.MultiViewTransform([view, view]))
data = spt.data.DataModule(train=DataLoader(images, args.batch_size, shuffle=True, drop_last=True, num_workers=2))

backbone = spt.backbone.from_torchvision("resnet18")
backbone.fc = nn.Identity()
module = spt.Module(
    forward=simclr,
    backbone=backbone,
    projector=nn.Sequential(nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, 128)),
    simclr_loss=spt.losses.NTXEntLoss(temperature=0.2),
    optim={"optimizer": {"type": "AdamW", "lr": 1e-3}, "scheduler": "CosineAnnealingLR"},
)
trainer = pl.Trainer(max_epochs=args.epochs, num_sanity_val_steps=0, log_every_n_steps=10)
spt.Manager(trainer=trainer, module=module, data=data, seed=0)()
