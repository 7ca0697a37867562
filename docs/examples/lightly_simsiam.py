"""SimSiam with lightly on a folder of images: python lightly_simsiam.py FOLDER"""

import argparse

import torch
from lightly.loss import NegativeCosineSimilarity
from lightly.models.modules import SimSiamPredictionHead, SimSiamProjectionHead
from torch import nn
from torchvision.models import resnet18

import hvs_data as hvs
from hvs_data.integrations.lightly import objective_of


class SimSiam(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(*list(resnet18().children())[:-1])
        self.projection_head = SimSiamProjectionHead(512, 512, 128)
        self.prediction_head = SimSiamPredictionHead(128, 64, 128)

    def forward(self, x):
        z = self.projection_head(self.backbone(x).flatten(start_dim=1))
        return z.detach(), self.prediction_head(z)


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("data")
parser.add_argument("--epochs", type=int, default=1)
parser.add_argument("--batch-size", type=int, default=64)
parser.add_argument("--size", type=int, default=224)
args = parser.parse_args()
device = "cuda" if torch.cuda.is_available() else "cpu"

model = SimSiam().to(device)
criterion = NegativeCosineSimilarity()
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
views = hvs.ViewLoader(args.data, hvs.recipes.simsiam(candidates=4, size=args.size), args.batch_size, device, drop_last=True)
dataloader = hvs.HardViewLoader(views, hvs.HardViewSelector(objective_of(model, criterion)))

for epoch in range(args.epochs):
    total_loss = 0
    for batch in dataloader:
        x0, x1 = (view.to(device) for view in batch[0])
        z0, p0 = model(x0)
        z1, p1 = model(x1)
        loss = 0.5 * (criterion(z0, p1) + criterion(z1, p0))
        total_loss += loss.detach()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    print(f"epoch {epoch}, loss {total_loss / len(dataloader):.4f}")
