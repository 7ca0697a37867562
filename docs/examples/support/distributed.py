"""What a trainer on several processes has anyway: how it starts, its model, and its state in a checkpoint."""

import os

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from torchvision.models import resnet18


def start():
    """Join the processes that torchrun started; returns the device of this one."""
    cuda = torch.cuda.is_available()
    dist.init_process_group("nccl" if cuda else "gloo")
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    return device


class SimSiam(nn.Module):
    def __init__(self, dim=512, pred_dim=128):
        super().__init__()
        self.encoder = resnet18(num_classes=dim)
        self.predictor = nn.Sequential(nn.Linear(dim, pred_dim), nn.BatchNorm1d(pred_dim), nn.ReLU(), nn.Linear(pred_dim, dim))

    def forward(self, x1, x2):
        z1, z2 = self.encoder(x1), self.encoder(x2)
        p1, p2 = self.predictor(z1), self.predictor(z2)
        return -(F.cosine_similarity(p1, z2.detach()).mean() + F.cosine_similarity(p2, z1.detach()).mean()) / 2


def on_all_processes(model, sharded):
    """The model, sharded by FSDP2 or copied by DDP."""
    if not sharded:
        return DistributedDataParallel(model)
    fully_shard(model.encoder)
    return fully_shard(model)


class Training:
    """Model, optimizer and epoch, as torch.distributed.checkpoint saves and loads them."""

    def __init__(self, model, optimizer):
        self.model, self.optimizer, self.epoch = model, optimizer, 0

    def state_dict(self):
        model, optimizer = get_state_dict(self.model, self.optimizer)
        return {"model": model, "optimizer": optimizer, "epoch": self.epoch}

    def load_state_dict(self, state):
        self.epoch = state["epoch"]
        set_state_dict(self.model, self.optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"])
