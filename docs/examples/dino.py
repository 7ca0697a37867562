"""DINO as facebookresearch/dino trains it, on a folder of images: torchrun --nproc-per-node 1 dino.py FOLDER"""

import argparse

import torch
from support import utils
from support.losses import DINOLoss
from support.vision_transformer import DINOHead, MultiCropWrapper, VisionTransformer
from torch.nn.parallel import DistributedDataParallel

import hvs_data as hvs
from hvs_data.integrations import official

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("data")
parser.add_argument("--epochs", type=int, default=1)
parser.add_argument("--batch-size", type=int, default=16)
parser.add_argument("--size", type=int, nargs=2, default=(224, 96))
parser.add_argument("--patch-size", type=int, default=16)
parser.add_argument("--out-dim", type=int, default=4096)
parser.add_argument("--lr", type=float, default=0.0005)
args = parser.parse_args()
device = utils.init_distributed_mode()

recipe = hvs.recipes.dino(4, 16, *args.size, local_views=8)
views = hvs.ViewLoader(args.data, recipe, args.batch_size, device, drop_last=True)

student, teacher = (
    MultiCropWrapper(VisionTransformer(args.size[0], args.patch_size), DINOHead(192, args.out_dim)).to(device) for _ in range(2)
)
student = DistributedDataParallel(student)
teacher.requires_grad_(False).load_state_dict(student.module.state_dict())
dino_loss = DINOLoss(args.out_dim, 8 + 2, 0.04, 0.04, 0, args.epochs).to(device)
data_loader = hvs.HardViewLoader(views, hvs.HardViewSelector(official.dino(student, teacher, dino_loss, lambda: epoch)))

optimizer = torch.optim.AdamW(utils.get_params_groups(student))
lr_schedule = utils.cosine_scheduler(args.lr, 1e-6, args.epochs, len(data_loader), warmup_epochs=min(10, args.epochs // 10))
wd_schedule = utils.cosine_scheduler(0.04, 0.4, args.epochs, len(data_loader))
momentum_schedule = utils.cosine_scheduler(0.996, 1, args.epochs, len(data_loader))

for epoch in range(args.epochs):
    data_loader.sampler.set_epoch(epoch)
    metric_logger = utils.MetricLogger()
    for it, (images, _) in enumerate(metric_logger.log_every(data_loader, 10, f"epoch {epoch}"), epoch * len(data_loader)):
        utils.follow_schedules(optimizer, lr_schedule[it], wd_schedule[it])
        images = [image.to(device, non_blocking=True) for image in images]
        loss = dino_loss(student(images), teacher(images[:2]), epoch)
        optimizer.zero_grad()
        loss.backward()
        utils.clip_gradients(student, 3.0)
        utils.cancel_gradients_last_layer(epoch, student, freeze_last_layer=1)
        optimizer.step()
        utils.update_teacher(student.module, teacher, momentum_schedule[it])
        metric_logger.update(loss=loss.item())
