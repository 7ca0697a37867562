"""SimSiam with Accelerate on a folder of images: accelerate launch with_accelerate.py FOLDER"""

import argparse

import torch
from accelerate import Accelerator
from torch import nn
from torch.nn.functional import cosine_similarity
from torchvision.models import resnet18

import hvs_data as hvs
from hvs_data.integrations.accelerate import prepare_loader


class SimSiam(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = resnet18(num_classes=256)
        self.predictor = nn.Sequential(nn.Linear(256, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 256))

    def forward(self, x1, x2):
        z1, z2 = self.encoder(x1), self.encoder(x2)
        p1, p2 = self.predictor(z1), self.predictor(z2)
        return -(cosine_similarity(p1, z2.detach()).mean() + cosine_similarity(p2, z1.detach()).mean()) / 2


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("data")
parser.add_argument("--epochs", type=int, default=1)
parser.add_argument("--batch-size", type=int, default=64)
parser.add_argument("--size", type=int, default=224)
args = parser.parse_args()

accelerator = Accelerator(gradient_accumulation_steps=2)
model = SimSiam()
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
recipe = hvs.recipes.simsiam(candidates=4, size=args.size)
loader = hvs.ViewLoader(args.data, recipe, args.batch_size, accelerator.device, drop_last=True)
model, optimizer = accelerator.prepare(model, optimizer)
loader = prepare_loader(accelerator, hvs.HardViewLoader(loader, hvs.HardViewSelector(hvs.objectives.SimSiam(model))))

for epoch in range(args.epochs):
    for step, ((x1, x2), _) in enumerate(loader):
        with accelerator.accumulate(model):
            loss = model(x1, x2)
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
        accelerator.print(f"epoch {epoch}, step {step}, loss {loss:.4f}")
