"""SimSiam with Hugging Face's Trainer on a folder of images: python with_transformers.py FOLDER"""

import argparse

from torch import nn
from torch.nn.functional import cosine_similarity
from transformers import ResNetConfig, ResNetModel, Trainer, TrainingArguments

import hvs_data as hvs
from hvs_data.integrations.transformers import train_on


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


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("data")
parser.add_argument("--epochs", type=int, default=1)
parser.add_argument("--batch-size", type=int, default=64)
parser.add_argument("--size", type=int, default=224)
args = parser.parse_args()

training = TrainingArguments("simsiam", num_train_epochs=args.epochs, per_device_train_batch_size=args.batch_size, learning_rate=1e-3)
trainer = Trainer(SimSiam(), training)
names = hvs.formats.named_views("x1", "x2", labels=None)
loader = hvs.ViewLoader(
    args.data, hvs.recipes.simsiam(candidates=4, size=args.size), args.batch_size, training.device, drop_last=True, format=names
)
objective = hvs.objectives.SimSiam(encoder=trainer.model.encode, predictor=trainer.model.predictor)
train_on(trainer, hvs.HardViewLoader(loader, hvs.HardViewSelector(objective)))
trainer.train()
