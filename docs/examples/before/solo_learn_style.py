"""SimSiam as solo-learn has it, with its online classifier, on a folder of images: python solo_learn_style.py FOLDER"""

import argparse

import lightning.pytorch as pl
import torch
from torch import nn
from torch.nn.functional import cosine_similarity, cross_entropy
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.models import resnet18
from torchvision.transforms import v2


class WithIndex(ImageFolder):
    def __getitem__(self, index):
        return index, *super().__getitem__(index)


def two_crops(size):
    jitter, blur = v2.ColorJitter(0.4, 0.4, 0.4, 0.1), v2.GaussianBlur(23, (0.1, 2.0))
    color = [v2.RandomApply([jitter], 0.8), v2.RandomGrayscale(0.2), v2.RandomApply([blur], 0.5), v2.RandomHorizontalFlip()]
    tensor = [v2.ToImage(), v2.ToDtype(torch.float32, True), v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])]
    crop = v2.Compose([v2.RandomResizedCrop(size, (0.2, 1.0)), *color, *tensor])
    return lambda image: [crop(image), crop(image)]


class SimSiam(pl.LightningModule):
    def __init__(self, num_classes, num_large_crops=2):
        super().__init__()
        self.num_large_crops = num_large_crops
        self.backbone = resnet18()
        self.backbone.fc = nn.Identity()
        self.classifier = nn.Linear(512, num_classes)
        self.projector = nn.Sequential(nn.Linear(512, 512, bias=False), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, 128))
        self.predictor = nn.Sequential(nn.Linear(128, 64, bias=False), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 128))

    def forward(self, X):
        feats = self.backbone(X)
        z = self.projector(feats)
        return {"logits": self.classifier(feats.detach()), "z": z, "p": self.predictor(z)}

    def training_step(self, batch, batch_idx):
        _, X, targets = batch
        outs = [self(x) for x in X[: self.num_large_crops]]
        class_loss = sum(cross_entropy(out["logits"], targets) for out in outs) / self.num_large_crops
        (z1, z2), (p1, p2) = ([out[key] for out in outs] for key in ("z", "p"))
        neg_cos_sim = -(cosine_similarity(p1, z2.detach()).mean() + cosine_similarity(p2, z1.detach()).mean()) / 2
        self.log_dict({"train_neg_cos_sim": neg_cos_sim, "train_class_loss": class_loss}, prog_bar=True)
        return neg_cos_sim + class_loss

    def configure_optimizers(self):
        groups = [self.backbone, self.projector, self.predictor]
        groups = [{"params": part.parameters()} for part in groups] + [{"params": self.classifier.parameters(), "lr": 0.01}]
        return torch.optim.SGD(groups, lr=0.05, momentum=0.9, weight_decay=1e-5)


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("data")
parser.add_argument("--epochs", type=int, default=1)
parser.add_argument("--batch-size", type=int, default=64)
parser.add_argument("--size", type=int, default=224)
args = parser.parse_args()

dataset = WithIndex(args.data, two_crops(args.size))
data = DataLoader(dataset, args.batch_size, shuffle=True, drop_last=True, num_workers=2)
trainer = pl.Trainer(max_epochs=args.epochs, log_every_n_steps=10)
trainer.fit(SimSiam(len(dataset.classes)), data)
