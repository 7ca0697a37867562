"""MMCR with lightly on a folder of images, four views: python lightly_mmcr.py FOLDER"""

import argparse
import copy

import torch
from lightly.data import LightlyDataset
from lightly.loss import MMCRLoss
from lightly.models.modules.heads import MMCRProjectionHead
from lightly.models.utils import deactivate_requires_grad, update_momentum
from lightly.transforms import MMCRTransform
from torch import nn
from torch.utils.data import DataLoader
from torchvision.models import resnet18


class MMCR(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(*list(resnet18().children())[:-1], nn.Flatten())
        self.projection_head = MMCRProjectionHead(512, 512, 128)
        self.backbone_momentum, self.projection_head_momentum = copy.deepcopy(self.backbone), copy.deepcopy(self.projection_head)
        deactivate_requires_grad(self.backbone_momentum)
        deactivate_requires_grad(self.projection_head_momentum)


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("data")
parser.add_argument("--epochs", type=int, default=1)
parser.add_argument("--batch-size", type=int, default=64)
parser.add_argument("--size", type=int, default=224)
args = parser.parse_args()
device = "cuda" if torch.cuda.is_available() else "cpu"

model = MMCR().to(device)
criterion = MMCRLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=0.001)
transform = MMCRTransform(k=4, input_size=args.size)
dataset = LightlyDataset(args.data, transform=transform)
dataloader = DataLoader(dataset, args.batch_size, shuffle=True, drop_last=True, num_workers=2)

for epoch in range(args.epochs):
    for views, *_ in dataloader:
        update_momentum(model.backbone, model.backbone_momentum, m=0.99)
        update_momentum(model.projection_head, model.projection_head_momentum, m=0.99)
        views = [view.to(device) for view in views]
        online = [model.projection_head(model.backbone(view)) for view in views]
        momentum = [model.projection_head_momentum(model.backbone_momentum(view)) for view in views]
        loss = criterion(torch.stack(online, dim=1), torch.stack(momentum, dim=1))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        print(f"epoch {epoch}, loss {loss.item():.4f}")
