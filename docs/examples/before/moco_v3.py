"""MoCo v3 as facebookresearch/moco-v3 trains it, on a folder of images: python moco_v3.py FOLDER"""

import argparse
import copy

import torch
from torch import nn
from torch.nn.functional import cross_entropy, normalize
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.models import resnet18
from torchvision.transforms import v2


def mlp(*sizes):
    layers = [nn.Sequential(nn.Linear(a, b, bias=False), nn.BatchNorm1d(b), nn.ReLU()) for a, b in zip(sizes, sizes[1:], strict=False)]
    return nn.Sequential(*layers[:-1], nn.Linear(*sizes[-2:], bias=False), nn.BatchNorm1d(sizes[-1], affine=False))


class MoCo(nn.Module):
    def __init__(self, dim=128, T=0.2):  # noqa: N803, as the repository names it
        super().__init__()
        self.T = T
        self.base_encoder = resnet18()
        self.base_encoder.fc = mlp(512, 512, dim)
        self.momentum_encoder = copy.deepcopy(self.base_encoder).requires_grad_(False)
        self.predictor = mlp(dim, 512, dim)

    def contrastive_loss(self, q, k):
        return cross_entropy(normalize(q) @ normalize(k).T / self.T, torch.arange(len(q), device=q.device)) * 2 * self.T

    def forward(self, x1, x2, m):
        q1, q2 = (self.predictor(self.base_encoder(x)) for x in (x1, x2))
        with torch.no_grad():
            for base, moved in zip(self.base_encoder.parameters(), self.momentum_encoder.parameters(), strict=True):
                moved.mul_(m).add_(base, alpha=1 - m)
            k1, k2 = (self.momentum_encoder(x) for x in (x1, x2))
        return self.contrastive_loss(q1, k2) + self.contrastive_loss(q2, k1)


class TwoCropsTransform:
    def __init__(self, size):
        self.transforms = self.view(size, blur=1.0), self.view(size, blur=0.1, solarize=0.2)

    def view(self, size, blur, solarize=0.0):
        return v2.Compose(
            [
                v2.RandomResizedCrop(size, (0.08, 1.0)),
                v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.2, 0.1)], 0.8),
                v2.RandomGrayscale(0.2),
                v2.RandomApply([v2.GaussianBlur(23, (0.1, 2.0))], blur),
                v2.RandomSolarize(128, solarize),
                v2.RandomHorizontalFlip(),
                v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]),
                v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
            ]
        )

    def __call__(self, image):
        return [transform(image) for transform in self.transforms]


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("data")
parser.add_argument("--epochs", type=int, default=1)
parser.add_argument("--batch-size", type=int, default=64)
parser.add_argument("--size", type=int, default=224)
args = parser.parse_args()
device = "cuda" if torch.cuda.is_available() else "cpu"

model = MoCo().to(device)
optimizer = torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=0.1)
dataset = ImageFolder(args.data, TwoCropsTransform(args.size))
train_loader = DataLoader(dataset, args.batch_size, shuffle=True, num_workers=2, pin_memory=True, drop_last=True)

for epoch in range(args.epochs):
    for images, _ in train_loader:
        images = [image.to(device, non_blocking=True) for image in images]
        loss = model(images[0], images[1], m=0.99)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(f"epoch {epoch}, loss {loss.item():.4f}")
