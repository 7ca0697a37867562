"""Supervised contrastive learning as HobbitLong/SupContrast, on a folder of classes: python supcon.py FOLDER"""

import argparse

import torch
from support.supcon import SupConLoss
from torch import nn
from torchvision.models import resnet18

import hvs_data as hvs


class SupConResNet(nn.Module):
    def __init__(self, feat_dim=128):
        super().__init__()
        self.encoder = resnet18()
        self.encoder.fc = nn.Identity()
        self.head = nn.Sequential(nn.Linear(512, 512), nn.ReLU(inplace=True), nn.Linear(512, feat_dim))

    def forward(self, x):
        return nn.functional.normalize(self.head(self.encoder(x)), dim=1)


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("data")
parser.add_argument("--epochs", type=int, default=1)
parser.add_argument("--batch-size", type=int, default=64)
parser.add_argument("--size", type=int, default=224)
parser.add_argument("--lr", type=float, default=0.05)
args = parser.parse_args()
device = "cuda" if torch.cuda.is_available() else "cpu"

model = SupConResNet().to(device)
criterion = SupConLoss(temperature=0.1)
optimizer = torch.optim.SGD(model.parameters(), args.lr, momentum=0.9, weight_decay=1e-4)
views = hvs.ViewLoader(args.data, hvs.recipes.simsiam(candidates=4, size=args.size), args.batch_size, device, drop_last=True)
train_loader = hvs.HardViewLoader(views, hvs.HardViewSelector(hvs.objectives.SupCon(model, temperature=0.1)))

for epoch in range(args.epochs):
    for images, labels in train_loader:
        images, labels = torch.cat(images).to(device, non_blocking=True), labels.to(device, non_blocking=True)
        features = torch.stack(model(images).chunk(2), dim=1)
        loss = criterion(features, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(f"epoch {epoch}, loss {loss.item():.4f}")
