"""MSN with lightly on a folder of images: python lightly_msn.py FOLDER"""

import argparse
import copy

import torch
from lightly.data import LightlyDataset
from lightly.loss import MSNLoss
from lightly.models.modules import MaskedVisionTransformerTIMM
from lightly.models.modules.heads import MSNProjectionHead
from lightly.models.utils import deactivate_requires_grad, random_token_mask, update_momentum
from lightly.transforms import MSNTransform
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torch.utils.data import DataLoader


class MSN(nn.Module):
    def __init__(self, size):
        super().__init__()
        vit = VisionTransformer(size, size // 14, embed_dim=192, depth=2, num_heads=3, num_classes=0, dynamic_img_size=True)
        self.backbone, self.projection_head = MaskedVisionTransformerTIMM(vit), MSNProjectionHead(192, 256, 64)
        self.anchor_backbone, self.anchor_projection_head = copy.deepcopy(self.backbone), copy.deepcopy(self.projection_head)
        deactivate_requires_grad(self.backbone)
        deactivate_requires_grad(self.projection_head)
        self.prototypes = nn.Linear(64, 256, bias=False).weight

    def forward_masked(self, images):
        patches = self.anchor_backbone.vit.patch_embed(images).shape[1:3].numel()
        keep, _ = random_token_mask((len(images), 1 + patches), mask_ratio=0.15, device=images.device)
        return self.anchor_projection_head(self.anchor_backbone(images, idx_keep=keep))


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("data")
parser.add_argument("--epochs", type=int, default=1)
parser.add_argument("--batch-size", type=int, default=64)
parser.add_argument("--size", type=int, nargs=2, default=(224, 96))
args = parser.parse_args()
device = "cuda" if torch.cuda.is_available() else "cpu"

model = MSN(args.size[0]).to(device)
criterion = MSNLoss()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
transform = MSNTransform(random_size=args.size[0], focal_size=args.size[1], focal_views=6)
dataset = LightlyDataset(args.data, transform=transform)
dataloader = DataLoader(dataset, args.batch_size, shuffle=True, drop_last=True, num_workers=2)

for epoch in range(args.epochs):
    for views, *_ in dataloader:
        target, anchor, *focal = (view.to(device) for view in views)
        update_momentum(model.anchor_backbone, model.backbone, 0.99)
        update_momentum(model.anchor_projection_head, model.projection_head, 0.99)
        targets = model.projection_head(model.backbone(target))
        anchors = torch.cat([model.forward_masked(anchor), model.forward_masked(torch.cat(focal))])
        loss = criterion(anchors, targets, model.prototypes.data)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        print(f"epoch {epoch}, loss {loss:.4f}")
