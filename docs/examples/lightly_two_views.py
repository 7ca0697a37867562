"""SimCLR, DCL, DCLW, VICReg or Barlow Twins with lightly on a folder of images: python lightly_two_views.py FOLDER --method dcl"""

import argparse

import torch
from lightly.loss import BarlowTwinsLoss, DCLLoss, DCLWLoss, NTXentLoss, VICRegLoss
from lightly.models.modules import BarlowTwinsProjectionHead, SimCLRProjectionHead
from lightly.models.modules.heads import VICRegProjectionHead
from torch import nn
from torchvision.models import resnet18

import hvs_data as hvs
from hvs_data.integrations.lightly import objective_of


class Model(nn.Module):
    def __init__(self, head):
        super().__init__()
        self.backbone = nn.Sequential(*list(resnet18().children())[:-1], nn.Flatten())
        self.projection_head = head(512, 512, 128)

    def forward(self, x):
        return self.projection_head(self.backbone(x))


METHODS = {
    "simclr": (SimCLRProjectionHead, NTXentLoss, hvs.recipes.simclr),
    "dcl": (SimCLRProjectionHead, DCLLoss, hvs.recipes.simclr),
    "dclw": (SimCLRProjectionHead, DCLWLoss, hvs.recipes.simclr),
    "vicreg": (VICRegProjectionHead, VICRegLoss, hvs.recipes.vicreg),
    "barlow_twins": (BarlowTwinsProjectionHead, BarlowTwinsLoss, hvs.recipes.barlow_twins),
}
parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("data")
parser.add_argument("--method", choices=METHODS, default="simclr")
parser.add_argument("--epochs", type=int, default=1)
parser.add_argument("--batch-size", type=int, default=64)
parser.add_argument("--size", type=int, default=224)
args = parser.parse_args()
device = "cuda" if torch.cuda.is_available() else "cpu"

head, criterion, recipe = METHODS[args.method]
model, criterion = Model(head).to(device), criterion()
optimizer = torch.optim.Adam(model.parameters(), lr=0.001)
views = hvs.ViewLoader(args.data, recipe(candidates=4, size=args.size), args.batch_size, device, drop_last=True)
dataloader = hvs.HardViewLoader(views, hvs.HardViewSelector(objective_of(model, criterion)))

for epoch in range(args.epochs):
    for views, *_ in dataloader:
        z0, z1 = (model(view.to(device)) for view in views)
        loss = criterion(z0, z1)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        print(f"epoch {epoch}, loss {loss.item():.4f}")
