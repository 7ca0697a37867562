"""LeJEPA with lightly on a folder of images, two global and four local views: python lightly_lejepa.py FOLDER"""

import argparse

import torch
from lightly.data import LightlyDataset
from lightly.loss import LeJEPALoss
from lightly.models.modules.heads import LeJEPAProjectionHead
from lightly.transforms import DINOTransform
from torch import nn
from torch.utils.data import DataLoader
from torchvision.models import resnet18


class LeJEPA(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(*list(resnet18().children())[:-1], nn.Flatten())
        self.projection_head = LeJEPAProjectionHead(512, 512, 64)

    def forward(self, x):
        return self.projection_head(self.backbone(x))


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("data")
parser.add_argument("--epochs", type=int, default=1)
parser.add_argument("--batch-size", type=int, default=64)
parser.add_argument("--size", type=int, nargs=2, default=(224, 96))
args = parser.parse_args()
device = "cuda" if torch.cuda.is_available() else "cpu"

model = LeJEPA().to(device)
criterion = LeJEPALoss().to(device)
optimizer = torch.optim.Adam(model.parameters(), lr=0.001)
transform = DINOTransform(global_crop_size=args.size[0], local_crop_size=args.size[1], n_local_views=4)
dataset = LightlyDataset(args.data, transform=transform)
dataloader = DataLoader(dataset, args.batch_size, shuffle=True, drop_last=True, num_workers=2)

for epoch in range(args.epochs):
    for views, *_ in dataloader:
        z = [model(view.to(device)) for view in views]
        loss = criterion(global_proj=torch.stack(z[:2]), local_proj=torch.stack(z[2:]))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        print(f"epoch {epoch}, loss {loss.item():.4f}")
