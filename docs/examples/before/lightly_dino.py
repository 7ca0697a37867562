"""DINO with lightly on a folder of images: python lightly_dino.py FOLDER"""

import argparse
import copy

import torch
from lightly.data import LightlyDataset
from lightly.loss import DINOLoss
from lightly.models.modules import DINOProjectionHead
from lightly.models.utils import deactivate_requires_grad, update_momentum
from lightly.transforms import DINOTransform
from torch import nn
from torch.utils.data import DataLoader
from torchvision.models import resnet18


class DINO(nn.Module):
    def __init__(self):
        super().__init__()
        self.student_backbone = nn.Sequential(*list(resnet18().children())[:-1], nn.Flatten())
        self.student_head = DINOProjectionHead(512, 512, 64, 2048, freeze_last_layer=1)
        self.teacher_backbone, self.teacher_head = copy.deepcopy(self.student_backbone), DINOProjectionHead(512, 512, 64, 2048)
        deactivate_requires_grad(self.teacher_backbone)
        deactivate_requires_grad(self.teacher_head)


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("data")
parser.add_argument("--epochs", type=int, default=1)
parser.add_argument("--batch-size", type=int, default=64)
parser.add_argument("--size", type=int, nargs=2, default=(224, 96))
args = parser.parse_args()
device = "cuda" if torch.cuda.is_available() else "cpu"

model = DINO().to(device)
criterion = DINOLoss(output_dim=2048, warmup_teacher_temp=0.04, teacher_temp=0.07).to(device)
optimizer = torch.optim.Adam(model.parameters(), lr=0.001)
transform = DINOTransform(global_crop_size=args.size[0], local_crop_size=args.size[1], n_local_views=6)
dataset = LightlyDataset(args.data, transform=transform)
dataloader = DataLoader(dataset, args.batch_size, shuffle=True, drop_last=True, num_workers=2)

for epoch in range(args.epochs):
    for views, *_ in dataloader:
        update_momentum(model.student_backbone, model.teacher_backbone, m=0.99)
        update_momentum(model.student_head, model.teacher_head, m=0.99)
        views = [view.to(device) for view in views]
        teacher_out = [model.teacher_head(model.teacher_backbone(view)) for view in views[:2]]
        student_out = [model.student_head(model.student_backbone(view)) for view in views]
        loss = criterion(teacher_out, student_out, epoch=epoch)
        loss.backward()
        model.student_head.cancel_last_layer_gradients(current_epoch=epoch)
        optimizer.step()
        optimizer.zero_grad()
        print(f"epoch {epoch}, loss {loss:.4f}")
