"""SimSiam on images of any channels and bits: python simsiam.py "scans/" --image png, or "bands-{0..7}.tar" --image npy"""

import argparse

import torch
from torch import nn

import hvs_data as hvs
from hvs_data.checking.ranges import ranges_of

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("data")
parser.add_argument("--image", default="npy", help="extension of the images")
parser.add_argument("--size", type=int, nargs=2, default=(96, 128), metavar=("HEIGHT", "WIDTH"))
parser.add_argument("--epochs", type=int, default=1)
parser.add_argument("--batch-size", type=int, default=64)
parser.add_argument("--lr", type=float, default=0.05)
args = parser.parse_args()
device = "cuda" if torch.cuda.is_available() else "cpu"

source = hvs.open_source(args.data, image=args.image)
found = ranges_of(source, 500, (0.1, 99.9))  # as `hvs-data range` prints them; write the numbers down for a run of weeks
recipe = hvs.recipes.simsiam(candidates=4, size=tuple(args.size)).with_channels(found.mean, found.std, found.value_range)


class SimSiam(nn.Module):
    def __init__(self, channels, dim=64):
        super().__init__()
        layers = [nn.Conv2d(channels, 32, 5, 2), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 64, 3, 2), nn.BatchNorm2d(64), nn.ReLU()]
        self.encoder = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, dim), nn.BatchNorm1d(dim))
        self.predictor = nn.Sequential(nn.Linear(dim, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, dim))

    def forward(self, x1, x2):
        z1, z2 = self.encoder(x1), self.encoder(x2)
        return self.predictor(z1), self.predictor(z2), z1.detach(), z2.detach()


model = SimSiam(recipe.channels).to(device)
criterion = nn.CosineSimilarity(dim=1)
optimizer = torch.optim.SGD(model.parameters(), args.lr, momentum=0.9, weight_decay=1e-4)
views = hvs.ViewLoader(source, recipe, args.batch_size, device, drop_last=True)
loader = hvs.HardViewLoader(views, hvs.HardViewSelector(hvs.objectives.SimSiam(model)))
for epoch in range(args.epochs):
    for step, ((x1, x2), _) in enumerate(loader):
        p1, p2, z1, z2 = model(x1, x2)
        loss = -(criterion(p1, z2).mean() + criterion(p2, z1).mean()) / 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 10 == 0:
            print(f"epoch {epoch}, step {step} of {len(loader)}, {recipe.channels} channels, loss {loss.item():.4f}")
