"""BYOL, MoCo or TiCo with lightly on a folder of images: python lightly_momentum.py FOLDER --method byol"""

import argparse
import copy

import torch
from lightly.data import LightlyDataset
from lightly.loss import NegativeCosineSimilarity, NTXentLoss, TiCoLoss
from lightly.models.modules import BYOLPredictionHead, BYOLProjectionHead, MoCoProjectionHead
from lightly.models.modules.heads import TiCoProjectionHead
from lightly.models.utils import deactivate_requires_grad, update_momentum
from lightly.transforms import BYOLTransform, BYOLView1Transform, BYOLView2Transform, MoCoV2Transform
from torch import nn
from torch.utils.data import DataLoader
from torchvision.models import resnet18


def byol_transform(size):
    return BYOLTransform(BYOLView1Transform(size), BYOLView2Transform(size))


METHODS = {
    "byol": (BYOLProjectionHead, NegativeCosineSimilarity(), byol_transform),
    "moco": (MoCoProjectionHead, NTXentLoss(0.2, memory_bank_size=(4096, 128)), MoCoV2Transform),
    "tico": (TiCoProjectionHead, TiCoLoss(), byol_transform),
}
parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("data")
parser.add_argument("--method", choices=METHODS, default="byol")
parser.add_argument("--epochs", type=int, default=1)
parser.add_argument("--batch-size", type=int, default=64)
parser.add_argument("--size", type=int, default=224)
args = parser.parse_args()
device = "cuda" if torch.cuda.is_available() else "cpu"

head, criterion, transform = METHODS[args.method]
model = nn.Module()
model.backbone = nn.Sequential(*list(resnet18().children())[:-1], nn.Flatten())
model.projection_head = head(512, 512, 128)
model.backbone_momentum, model.projection_head_momentum = copy.deepcopy(model.backbone), copy.deepcopy(model.projection_head)
deactivate_requires_grad(model.backbone_momentum)
deactivate_requires_grad(model.projection_head_momentum)
if args.method == "byol":
    model.prediction_head = BYOLPredictionHead(128, 512, 128)
model, criterion = model.to(device), criterion.to(device)
optimizer = torch.optim.Adam(model.parameters(), lr=0.001)
dataset = LightlyDataset(args.data, transform=transform(args.size))
dataloader = DataLoader(dataset, args.batch_size, shuffle=True, drop_last=True, num_workers=2)

for epoch in range(args.epochs):
    for views, *_ in dataloader:
        update_momentum(model.backbone, model.backbone_momentum, m=0.99)
        update_momentum(model.projection_head, model.projection_head_momentum, m=0.99)
        x0, x1 = (view.to(device) for view in views)
        z0, z1 = (model.projection_head(model.backbone(x)) for x in (x0, x1))
        k0, k1 = (model.projection_head_momentum(model.backbone_momentum(x)).detach() for x in (x0, x1))
        if args.method == "byol":
            loss = 0.5 * (criterion(model.prediction_head(z0), k1) + criterion(model.prediction_head(z1), k0))
        else:
            loss = criterion(z0, k1)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        print(f"epoch {epoch}, loss {loss.item():.4f}")
