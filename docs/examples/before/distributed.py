"""SimSiam on several processes: torchrun --nproc-per-node 2 distributed.py FOLDER [--fsdp] [--resume]"""

import argparse

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from support.distributed import SimSiam, Training, on_all_processes, start
from torch.utils.data import DataLoader, DistributedSampler
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2


class TwoCrops:
    def __init__(self, size):
        self.transform = v2.Compose(
            [
                v2.RandomResizedCrop(size, (0.2, 1.0)),
                v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.4, 0.1)], 0.8),
                v2.RandomGrayscale(0.2),
                v2.RandomApply([v2.GaussianBlur(23, (0.1, 2.0))], 0.5),
                v2.RandomHorizontalFlip(),
                v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]),
                v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
            ]
        )

    def __call__(self, image):
        return [self.transform(image), self.transform(image)]


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("data")
parser.add_argument("--epochs", type=int, default=1)
parser.add_argument("--batch-size", type=int, default=64, help="of one process")
parser.add_argument("--size", type=int, default=224)
parser.add_argument("--lr", type=float, default=0.05)
parser.add_argument("--fsdp", action="store_true", help="shard the model (FSDP2) in place of copying it (DDP)")
parser.add_argument("--save-every", type=int, default=100, help="steps")
parser.add_argument("--checkpoint", default="checkpoint")
parser.add_argument("--resume", action="store_true")
args = parser.parse_args()
device = start()

torch.manual_seed(0)
model = on_all_processes(SimSiam().to(device), args.fsdp)
optimizer = torch.optim.SGD(model.parameters(), args.lr, momentum=0.9, weight_decay=1e-4)
dataset = ImageFolder(args.data, TwoCrops(args.size))
loader = DataLoader(dataset, args.batch_size, sampler=DistributedSampler(dataset), num_workers=2, pin_memory=True, drop_last=True)

training = Training(model, optimizer)
state = {"training": training}
if args.resume:
    dcp.load(state, checkpoint_id=args.checkpoint)

for epoch in range(training.epoch, args.epochs):
    training.epoch = epoch
    loader.sampler.set_epoch(epoch)
    for step, (images, _) in enumerate(loader, start=1):
        loss = model(*(image.to(device, non_blocking=True) for image in images))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % args.save_every == 0:
            dcp.save(state, checkpoint_id=args.checkpoint)
        if step % 10 == 0 and dist.get_rank() == 0:
            print(f"epoch {epoch}, step {step}, loss {loss.item():.4f}")
dist.destroy_process_group()
