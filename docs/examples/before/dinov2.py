"""DINOv2 as facebookresearch/dinov2 trains it, on a folder of images: torchrun --nproc-per-node 1 dinov2.py FOLDER"""

import argparse
from functools import partial

import torch
from support import utils
from support.dinov2 import SSLMetaArch, configuration
from support.masked_collate import collate_data_and_cast
from torch.utils.data import DataLoader, DistributedSampler
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2


class DataAugmentationDINO:
    def __init__(self, size, local_size, local_crops_number):
        self.local_crops_number = local_crops_number
        self.global_transfo1 = self.view(size, (0.32, 1.0), blur=1.0)
        self.global_transfo2 = self.view(size, (0.32, 1.0), blur=0.1, solarize=0.2)
        self.local_transfo = self.view(local_size, (0.05, 0.32), blur=0.5)

    def view(self, size, scale, blur, solarize=0.0):
        return v2.Compose(
            [
                v2.RandomResizedCrop(size, scale, interpolation=v2.InterpolationMode.BICUBIC),
                v2.RandomHorizontalFlip(),
                v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.2, 0.1)], 0.8),
                v2.RandomGrayscale(0.2),
                v2.RandomApply([v2.GaussianBlur(9, (0.1, 2.0))], blur),
                v2.RandomSolarize(128, solarize),
                v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]),
                v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
            ]
        )

    def __call__(self, image):
        local_crops = [self.local_transfo(image) for _ in range(self.local_crops_number)]
        return {"global_crops": [self.global_transfo1(image), self.global_transfo2(image)], "local_crops": local_crops}


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
side = args.size[0] // args.patch_size
collate_fn = partial(collate_data_and_cast, mask_ratio_tuple=(0.1, 0.5), mask_probability=0.5, side=side)
dataset = ImageFolder(args.data, DataAugmentationDINO(*args.size, local_crops_number=8))
sampler = DistributedSampler(dataset, shuffle=True)
data_loader = DataLoader(dataset, args.batch_size, sampler=sampler, num_workers=2, drop_last=True, collate_fn=collate_fn)

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
