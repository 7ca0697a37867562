"""SimSiam with Hugging Face's Trainer on a folder of images: python with_transformers.py FOLDER"""

import argparse

import torch
from torch import nn
from torch.nn.functional import cosine_similarity
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2
from transformers import ResNetConfig, ResNetModel, Trainer, TrainingArguments


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
        self.backbone = ResNetModel(ResNetConfig(embedding_size=32, hidden_sizes=[32, 64, 128], depths=[1, 1, 1], layer_type="basic"))
        self.projector = nn.Sequential(nn.Linear(128, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Linear(128, 128))
        self.predictor = nn.Sequential(nn.Linear(128, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 128))

    def encode(self, pixels):
        return self.projector(self.backbone(pixels).pooler_output.flatten(1))

    def forward(self, x1, x2):
        z1, z2 = self.encode(x1), self.encode(x2)
        p1, p2 = self.predictor(z1), self.predictor(z2)
        return {"loss": -(cosine_similarity(p1, z2.detach()).mean() + cosine_similarity(p2, z1.detach()).mean()) / 2}


def collate(items):
    return {name: torch.stack([views[number] for views, _ in items]) for number, name in enumerate(("x1", "x2"))}


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("data")
parser.add_argument("--epochs", type=int, default=1)
parser.add_argument("--batch-size", type=int, default=64)
parser.add_argument("--size", type=int, default=224)
args = parser.parse_args()

training = TrainingArguments("simsiam", num_train_epochs=args.epochs, per_device_train_batch_size=args.batch_size, learning_rate=1e-3)
training = training.set_dataloader(train_batch_size=args.batch_size, drop_last=True, num_workers=2)
trainer = Trainer(SimSiam(), training, collate, ImageFolder(args.data, TwoViews(args.size)))
trainer.train()
