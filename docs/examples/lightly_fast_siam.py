"""FastSiam with lightly on a folder of images, four views each: python lightly_fast_siam.py FOLDER"""

import argparse

import torch
from lightly.loss import NegativeCosineSimilarity
from lightly.models.modules import SimSiamPredictionHead, SimSiamProjectionHead
from lightly.transforms import FastSiamTransform
from torch import nn
from torchvision.models import resnet18

import hvs_data as hvs


class FastSiam(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(*list(resnet18().children())[:-1], nn.Flatten())
        self.projection_head = SimSiamProjectionHead(512, 512, 128)
        self.prediction_head = SimSiamPredictionHead(128, 64, 128)

    def forward(self, x):
        z = self.projection_head(self.backbone(x))
        return z.detach(), self.prediction_head(z)


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("data")
parser.add_argument("--epochs", type=int, default=1)
parser.add_argument("--batch-size", type=int, default=64)
parser.add_argument("--size", type=int, default=224)
args = parser.parse_args()
device = "cuda" if torch.cuda.is_available() else "cpu"

model = FastSiam().to(device)
criterion = NegativeCosineSimilarity()
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
recipe = hvs.recipe_from(FastSiamTransform(num_views=4, input_size=args.size), candidates=8)
selector = hvs.HardViewSelector(hvs.objectives.FastSiam(model))
dataloader = hvs.HardViewLoader(hvs.ViewLoader(args.data, recipe, args.batch_size, device, drop_last=True), selector)

for epoch in range(args.epochs):
    for views, *_ in dataloader:
        z, p = (torch.stack(outputs) for outputs in zip(*(model(view.to(device)) for view in views), strict=True))
        loss = 0.0
        for i in range(len(views)):
            others = torch.arange(len(views), device=device) != i
            loss += criterion(p[i], z[others].mean(dim=0)) / len(views)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        print(f"epoch {epoch}, loss {loss.item():.4f}")
