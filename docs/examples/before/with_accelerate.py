"""SimSiam with Accelerate on a folder of images: accelerate launch with_accelerate.py FOLDER"""

import argparse

import torch
from accelerate import Accelerator
from torch import nn
from torch.nn.functional import cosine_similarity
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.models import resnet18
from torchvision.transforms import v2


class TwoViews:
    def __init__(self, size):
        jitter = v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.4, 0.1)], 0.8)
        blur = v2.RandomApply([v2.GaussianBlur(23, (0.1, 2.0))], 0.5)
        normalize = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, True), v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])])
        crop = v2.RandomResizedCrop(size, (0.2, 1.0))
        self.view = v2.Compose([crop, jitter, v2.RandomGrayscale(0.2), blur, v2.RandomHorizontalFlip(), normalize])

    def __call__(self, image):
        return self.view(image), self.view(image)


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
loader = DataLoader(ImageFolder(args.data, TwoViews(args.size)), args.batch_size, shuffle=True, drop_last=True, num_workers=2)
model, optimizer, loader = accelerator.prepare(model, optimizer, loader)

for epoch in range(args.epochs):
    for step, ((x1, x2), _) in enumerate(loader):
        with accelerator.accumulate(model):
            loss = model(x1, x2)
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
        accelerator.print(f"epoch {epoch}, step {step}, loss {loss:.4f}")
