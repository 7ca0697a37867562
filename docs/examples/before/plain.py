"""SimSiam as facebookresearch/simsiam trains it, on a folder of images: python plain.py FOLDER"""

import argparse
import math

import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.models import resnet18
from torchvision.transforms import v2


class TwoCropsTransform:
    def __init__(self, base_transform):
        self.base_transform = base_transform

    def __call__(self, x):
        return [self.base_transform(x), self.base_transform(x)]


class SimSiam(nn.Module):
    def __init__(self, dim=512, pred_dim=128):
        super().__init__()
        self.encoder = resnet18(num_classes=dim, zero_init_residual=True)
        hidden = nn.Linear(512, 512, bias=False), nn.BatchNorm1d(512), nn.ReLU(inplace=True)
        self.encoder.fc = nn.Sequential(*hidden, self.encoder.fc, nn.BatchNorm1d(dim, affine=False))
        hidden = nn.Linear(dim, pred_dim, bias=False), nn.BatchNorm1d(pred_dim), nn.ReLU(inplace=True)
        self.predictor = nn.Sequential(*hidden, nn.Linear(pred_dim, dim))

    def forward(self, x1, x2):
        z1, z2 = self.encoder(x1), self.encoder(x2)
        return self.predictor(z1), self.predictor(z2), z1.detach(), z2.detach()


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("data")
parser.add_argument("--epochs", type=int, default=1)
parser.add_argument("--batch-size", type=int, default=64)
parser.add_argument("--size", type=int, default=224)
parser.add_argument("--lr", type=float, default=0.05)
args = parser.parse_args()
device = "cuda" if torch.cuda.is_available() else "cpu"

model = SimSiam().to(device)
criterion = nn.CosineSimilarity(dim=1).to(device)
init_lr = args.lr * args.batch_size / 256
optimizer = torch.optim.SGD(model.parameters(), init_lr, momentum=0.9, weight_decay=1e-4)
augmentation = v2.Compose(
    [
        v2.RandomResizedCrop(args.size, (0.2, 1.0)),
        v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.4, 0.1)], 0.8),
        v2.RandomGrayscale(0.2),
        v2.RandomApply([v2.GaussianBlur(23, (0.1, 2.0))], 0.5),
        v2.RandomHorizontalFlip(),
        v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]),
        v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ]
)
dataset = ImageFolder(args.data, TwoCropsTransform(augmentation))
train_loader = DataLoader(dataset, args.batch_size, shuffle=True, num_workers=2, pin_memory=True, drop_last=True)

for epoch in range(args.epochs):
    for group in optimizer.param_groups:
        group["lr"] = init_lr * 0.5 * (1 + math.cos(math.pi * epoch / args.epochs))
    for i, (images, _) in enumerate(train_loader):
        images = [image.to(device, non_blocking=True) for image in images]
        p1, p2, z1, z2 = model(x1=images[0], x2=images[1])
        loss = -(criterion(p1, z2).mean() + criterion(p2, z1).mean()) * 0.5
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if i % 10 == 0:
            print(f"epoch {epoch}, step {i} of {len(train_loader)}, loss {loss.item():.4f}")
