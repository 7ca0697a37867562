"""DINO as facebookresearch/dino trains it, on a folder of images: torchrun --nproc-per-node 1 dino.py FOLDER"""

import argparse

import torch
from support import utils
from support.losses import DINOLoss
from support.vision_transformer import DINOHead, MultiCropWrapper, VisionTransformer
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2


class DataAugmentationDINO:
    def __init__(self, size, local_size, local_crops_number):
        self.local_crops_number = local_crops_number
        self.global_transfo1 = self.view(size, (0.4, 1.0), blur=1.0)
        self.global_transfo2 = self.view(size, (0.4, 1.0), blur=0.1, solarize=0.2)
        self.local_transfo = self.view(local_size, (0.05, 0.4), blur=0.5)

    def view(self, size, scale, blur, solarize=0.0):
        return v2.Compose(
            [
                v2.RandomResizedCrop(size, scale, interpolation=v2.InterpolationMode.BICUBIC),
                v2.RandomHorizontalFlip(),
                v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.2, 0.1)], 0.8),
                v2.RandomGrayscale(0.2),
                v2.RandomApply([v2.GaussianBlur(23, (0.1, 2.0))], blur),
                v2.RandomSolarize(128, solarize),
                v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]),
                v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
            ]
        )

    def __call__(self, image):
        crops = [self.global_transfo1(image), self.global_transfo2(image)]
        return crops + [self.local_transfo(image) for _ in range(self.local_crops_number)]


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

dataset = ImageFolder(args.data, DataAugmentationDINO(*args.size, local_crops_number=8))
sampler = DistributedSampler(dataset, shuffle=True)
data_loader = DataLoader(dataset, args.batch_size, sampler=sampler, num_workers=2, pin_memory=True, drop_last=True)

student, teacher = (
    MultiCropWrapper(VisionTransformer(args.size[0], args.patch_size), DINOHead(192, args.out_dim)).to(device) for _ in range(2)
)
student = DistributedDataParallel(student)
teacher.requires_grad_(False).load_state_dict(student.module.state_dict())
dino_loss = DINOLoss(args.out_dim, 8 + 2, 0.04, 0.04, 0, args.epochs).to(device)

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
