"""Supervised contrastive learning as HobbitLong/SupContrast, on a folder of classes: python supcon.py FOLDER"""

import argparse

import torch
from support.supcon import SupConLoss
from torch import nn
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.models import resnet18
from torchvision.transforms import v2


class SupConResNet(nn.Module):
    def __init__(self, feat_dim=128):
        super().__init__()
        self.encoder = resnet18()
        self.encoder.fc = nn.Identity()
        self.head = nn.Sequential(nn.Linear(512, 512), nn.ReLU(inplace=True), nn.Linear(512, feat_dim))

    def forward(self, x):
        return nn.functional.normalize(self.head(self.encoder(x)), dim=1)


class TwoCropTransform:
    def __init__(self, size):
        self.transform = v2.Compose(
            [
                v2.RandomResizedCrop(size, (0.2, 1.0)),
                v2.RandomHorizontalFlip(),
                v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.4, 0.1)], 0.8),
                v2.RandomGrayscale(0.2),
                v2.RandomApply([v2.GaussianBlur(23, (0.1, 2.0))], 0.5),
                v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]),
                v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
            ]
        )

    def __call__(self, image):
        return [self.transform(image), self.transform(image)]


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
dataset = ImageFolder(args.data, TwoCropTransform(args.size))
train_loader = DataLoader(dataset, args.batch_size, shuffle=True, num_workers=2, pin_memory=True, drop_last=True)

for epoch in range(args.epochs):
    for images, labels in train_loader:
        images, labels = torch.cat(images).to(device, non_blocking=True), labels.to(device, non_blocking=True)
        features = torch.stack(model(images).chunk(2), dim=1)
        loss = criterion(features, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(f"epoch {epoch}, loss {loss.item():.4f}")
