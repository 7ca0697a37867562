"""DINOv2 as facebookresearch/dinov2 trains it, on a folder of images: torchrun --nproc-per-node 1 dinov2.py FOLDER"""

import argparse

import torch
from support import utils
from support.dinov2 import SSLMetaArch, configuration

import hvs_data as hvs
from hvs_data.integrations import official

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("data")
parser.add_argument("--epochs", type=int, default=1)
parser.add_argument("--batch-size", type=int, default=16)
parser.add_argument("--size", type=int, nargs=2, default=(224, 96))
parser.add_argument("--patch-size", type=int, default=16)
parser.add_argument("--registers", type=int, default=4)
parser.add_argument("--out-dim", type=int, default=4096)
parser.add_argument("--shared-head", action="store_true")
parser.add_argument("--centering", choices=("centering", "sinkhorn_knopp"), default="centering")
parser.add_argument("--lr", type=float, default=0.0005)
args = parser.parse_args()
device = utils.init_distributed_mode()

model = SSLMetaArch(configuration(args)).to(device).train()
recipe = hvs.recipes.dinov2(4, 16, *args.size, masking=hvs.recipes.Masking(args.patch_size))
views = hvs.ViewLoader(args.data, recipe, args.batch_size, device, drop_last=True, format=hvs.formats.dinov2)
objective = official.dinov2(model, lambda: teacher_temp_schedule[iteration])
data_loader = hvs.HardViewLoader(views, hvs.HardViewSelector(objective))

optimizer = torch.optim.AdamW(utils.get_params_groups(model.student))
lr_schedule = utils.cosine_scheduler(args.lr, 1e-6, args.epochs, len(data_loader), warmup_epochs=min(10, args.epochs // 10))
wd_schedule = utils.cosine_scheduler(0.04, 0.4, args.epochs, len(data_loader))
momentum_schedule = utils.cosine_scheduler(0.992, 1, args.epochs, len(data_loader))
teacher_temp_schedule = utils.warmed_up(0.04, 0.07, 30 * len(data_loader), args.epochs * len(data_loader))

iteration = 0
for epoch in range(args.epochs):
    data_loader.sampler.set_epoch(epoch)
    metric_logger = utils.MetricLogger()
    for data in metric_logger.log_every(data_loader, 10, "Training"):
        utils.follow_schedules(optimizer, lr_schedule[iteration], wd_schedule[iteration])
        optimizer.zero_grad(set_to_none=True)
        loss_dict = model.forward_backward(data, teacher_temp=teacher_temp_schedule[iteration])
        utils.clip_gradients(model.student, 3.0)
        optimizer.step()
        model.update_teacher(momentum_schedule[iteration])
        metric_logger.update(**{name: loss.item() for name, loss in loss_dict.items()})
        iteration = iteration + 1
