"""SimSiam in Lightning on a folder of images: python lightning_simsiam.py FOLDER"""

import argparse

import lightning.pytorch as pl
import torch
from torch import nn
from torch.nn.functional import cosine_similarity
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.models import resnet18
from torchvision.transforms import v2


class TwoViews:
    def __init__(self, size):
        jitter = v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.4, 0.1)], 0.8)
        blur = v2.RandomApply([v2.GaussianBlur(23, (0.1, 2.0))], 0.5)
        normalize = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, True), v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])])
        crop = v2.RandomResizedCrop(size, (0.2, 1.0))
        self.view = v2.Compose([crop, jitter, v2.RandomGrayscale(0.2), blur, v2.RandomHorizontalFlip(), normalize])

    def __call__(self, image):
        return self.view(image), self.view(image)


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

dataset = ImageFolder(args.data, TwoViews(args.size))
loader = DataLoader(dataset, args.batch_size, shuffle=True, drop_last=True, num_workers=2)
trainer = pl.Trainer(max_epochs=args.epochs, log_every_n_steps=10)
trainer.fit(SimSiam(), loader)
