"""SwAV with lightly on a folder of images, with local views: python lightly_swav.py FOLDER"""

import argparse

import torch
from lightly.loss import SwaVLoss
from lightly.models.modules import SwaVProjectionHead, SwaVPrototypes
from lightly.transforms import SwaVTransform
from torch import nn
from torchvision.models import resnet18

import hvs_data as hvs
from hvs_data.integrations.lightly import objective_of


class SwAV(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(*list(resnet18().children())[:-1], nn.Flatten())
        self.projection_head = SwaVProjectionHead(512, 512, 128)
        self.prototypes = SwaVPrototypes(128, n_prototypes=64)

    def forward(self, x):
        return self.prototypes(nn.functional.normalize(self.projection_head(self.backbone(x)), dim=1))


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("data")
parser.add_argument("--epochs", type=int, default=1)
parser.add_argument("--batch-size", type=int, default=64)
parser.add_argument("--size", type=int, nargs=2, default=(224, 96))
args = parser.parse_args()
device = "cuda" if torch.cuda.is_available() else "cpu"

model = SwAV().to(device)
criterion = SwaVLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=0.001)
transform = SwaVTransform(crop_sizes=tuple(args.size), crop_counts=(2, 6))
recipe = hvs.recipe_from(transform, candidates=4, local_candidates=12)
selector = hvs.HardViewSelector(objective_of(model, criterion), score_locals=True)
dataloader = hvs.HardViewLoader(hvs.ViewLoader(args.data, recipe, args.batch_size, device, drop_last=True), selector)

for epoch in range(args.epochs):
    for views, *_ in dataloader:
        model.prototypes.normalize()
        outputs = [model(view.to(device)) for view in views]
        loss = criterion(outputs[:2], outputs[2:])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        print(f"epoch {epoch}, loss {loss.item():.4f}")
