"""Models on which a plain forward under no_grad leaves a trace, and what it takes to see one."""

import random
from collections import OrderedDict, deque

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, prune
from torch.utils.checkpoint import checkpoint
from torchvision.ops import StochasticDepth

WIDTH = 6


CONTAINERS = (dict, OrderedDict, list, set, deque)


def bits(tensor):
    """The tensor's bytes, so that NaN equals itself and -0.0 differs from 0.0; of a sharded one, those on this rank."""
    local = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return local.detach().clone().contiguous().reshape(-1).view(torch.uint8).tolist()


def grad_bits(parameter):
    return None if parameter.grad is None else bits(parameter.grad)


def plain(value):
    return isinstance(value, (int, float, str, type(None)))


def inside(container):
    """What a container holds, by identity."""
    items = container.items() if isinstance(container, dict) else container
    return [tuple(map(id, item)) if isinstance(container, dict) else id(item) for item in items]


def state_of(model, state_dict=True):
    """Everything that a forward could change, bit for bit. Making a state_dict is no mere look at a model that FSDP2 shards."""
    modules = list(model.modules())
    named = model.state_dict() if state_dict else {}
    return {
        "state_dict": {name: bits(tensor) for name, tensor in named.items() if isinstance(tensor, torch.Tensor)},
        "buffers": {name: (id(tensor), bits(tensor)) for name, tensor in model.named_buffers(remove_duplicate=False)},
        "parameters": {name: (id(tensor), bits(tensor), grad_bits(tensor), tensor._version) for name, tensor in model.named_parameters()},
        "attributes": [{name: value for name, value in vars(module).items() if plain(value)} for module in modules],
        "names": [list(vars(module)) for module in modules],
        "tensors": [{name: id(value) for name, value in vars(module).items() if isinstance(value, torch.Tensor)} for module in modules],
        "containers": [[inside(value) for value in vars(module).values() if type(value) in CONTAINERS] for module in modules],
        "torch": torch.get_rng_state().tolist(),
        "numpy": [np.asarray(part).tolist() for part in np.random.get_state()],
        "python": random.getstate(),
        "grad": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        "autocast": (torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu"), torch.is_autocast_cache_enabled()),
        "attention": torch.backends.mha.get_fastpath_enabled(),
    }


def changes(before, after):
    return {name for name in before if before[name] != after[name]}


class Forward(nn.Module):
    """A linear layer followed by something that could leave a trace."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)
        self.prepare()

    def prepare(self):
        pass


class Queue(Forward):
    def prepare(self):
        self.register_buffer("queue", torch.zeros(4, WIDTH))
        self.register_buffer("position", torch.zeros((), dtype=torch.int64))

    def forward(self, x):
        self.queue[int(self.position)] = self.linear(x)[0].detach()
        self.position += 1
        return self.linear(x)


class Centre(Forward):
    """Assigns its buffer anew, as DINO's loss does."""

    def prepare(self):
        self.register_buffer("centre", torch.zeros(WIDTH))

    def forward(self, x):
        out = self.linear(x)
        self.centre = 0.9 * self.centre + 0.1 * out.detach().mean(0)
        return out - self.centre


class WritesThroughData(Forward):
    """Changes a buffer in the way that does not count as a new version of it."""

    def prepare(self):
        self.register_buffer("centre", torch.zeros(WIDTH), persistent=False)

    def forward(self, x):
        out = self.linear(x)
        self.centre.data.add_(out.detach().mean(0))
        return out - self.centre.clone()


class MakesBuffer(Forward):
    """Keeps a cache and, apart from it, what the cache holds."""

    def prepare(self):
        self.cached_length = 0

    def forward(self, x):
        if self.cached_length < len(x):
            self.register_buffer("positions", torch.arange(len(x))[:, None])
            self.cached_length = len(x)
        return self.linear(x) + self.positions[: len(x)]


class Counter(Forward):
    def prepare(self):
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        self.latest = self.linear(x)
        return self.latest * self.calls


class SplitNorm(nn.BatchNorm1d):
    """A batch norm with a forward of its own, which moves its statistics whatever track_running_stats says."""

    def forward(self, x):
        mean, var = self.running_mean.clone(), self.running_var.clone()
        out = F.batch_norm(x, mean, var, self.weight, self.bias, True, self.momentum)
        self.running_mean.data.copy_(mean)
        self.running_var.data.copy_(var)
        return out


class Images(nn.Module):
    """A layer for feature maps, used on vectors."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x[:, :, None] * torch.arange(1.0, 4.0))[:, :, 0]


class FunctionalDropout(Forward):
    def forward(self, x):
        return F.dropout(self.linear(x), 0.5, training=self.training)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, 2, dropout=0.5, batch_first=True)

    def forward(self, x):
        tokens = torch.stack([x, x.flip(1), -x], dim=1)
        return self.attention(tokens, tokens, tokens, need_weights=False)[0].mean(1)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(WIDTH, WIDTH, num_layers=2, dropout=0.5, batch_first=True)

    def forward(self, x):
        return self.lstm(torch.stack([x, x.flip(1)], dim=1))[0][:, -1]


class NumpyNoise(Forward):
    def forward(self, x):
        return self.linear(x) + np.random.rand()


class PythonNoise(Forward):
    def forward(self, x):
        return self.linear(x) + random.random()


class TorchNoise(Forward):
    def forward(self, x):
        return self.linear(x) + torch.randn(())


class Recorder(Forward):
    """Gathers its outputs in a list, and the sizes that it has met in a table."""

    def prepare(self):
        self.outputs = deque(maxlen=2)
        self.sizes = {}

    def forward(self, x):
        self.outputs.append(self.linear(x))
        return self.outputs[-1] * self.sizes.setdefault(len(x), 1 + len(self.sizes))


class HookedOnce(Forward):
    """A hook that ends with its first call, and that is put there again by nothing."""

    def prepare(self):
        def double(module, args, output):
            handle.remove()
            return 2 * output

        handle = self.linear.register_forward_hook(double)

    def forward(self, x):
        return self.linear(x)


class Checkpointed(nn.Module):
    """Runs its layers again in the backward."""

    def __init__(self, *layers, reentrant):
        super().__init__()
        self.layers = nn.Sequential(*layers)
        self.reentrant = reentrant

    def forward(self, x):
        return checkpoint(self.layers, x, use_reentrant=self.reentrant)


def checkpointed(reentrant):
    return beside(Checkpointed(nn.Linear(WIDTH, WIDTH), nn.BatchNorm1d(WIDTH), nn.Dropout(0.5), reentrant=reentrant))


def beside(*layers):
    """Layers between others, as in a model; below the root."""
    return nn.Sequential(nn.Linear(WIDTH, WIDTH), *layers, nn.Linear(WIDTH, WIDTH))


def transformer():
    return nn.TransformerEncoderLayer(WIDTH, 2, dim_feedforward=8, dropout=0.5, batch_first=True)


class Tokens(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(torch.stack([x, x.flip(1)], dim=1)).mean(1)


# What a plain forward under no_grad changes in each.
DANGERS = {
    "batch norm": (lambda: beside(nn.BatchNorm1d(WIDTH)), {"state_dict", "buffers"}),
    "batch norm with cumulative average": (lambda: beside(nn.BatchNorm1d(WIDTH, momentum=None)), {"state_dict", "buffers"}),
    "batch norm for images": (lambda: beside(Images(nn.BatchNorm1d(WIDTH))), {"state_dict", "buffers"}),
    "batch norm of another kind": (lambda: beside(SplitNorm(WIDTH)), {"state_dict", "buffers"}),
    "instance norm": (lambda: beside(Images(nn.InstanceNorm1d(WIDTH, track_running_stats=True))), {"state_dict", "buffers"}),
    "queue": (lambda: beside(Queue()), {"state_dict", "buffers"}),
    "centre": (lambda: beside(Centre()), {"state_dict", "buffers"}),
    "buffer written through data": (lambda: beside(WritesThroughData()), {"buffers"}),
    "buffer made in the forward": (lambda: beside(MakesBuffer()), {"state_dict", "buffers", "attributes"}),
    "counter": (lambda: beside(Counter()), {"attributes", "names"}),
    "dropout": (lambda: beside(nn.Dropout(0.5)), {"torch"}),
    "alpha dropout": (lambda: beside(nn.AlphaDropout(0.5), nn.FeatureAlphaDropout(0.5)), {"torch"}),
    "drop path": (lambda: beside(StochasticDepth(0.5, "row")), {"torch"}),
    "functional dropout": (lambda: beside(FunctionalDropout()), {"torch"}),
    "attention": (lambda: beside(Attention()), {"torch"}),
    "recurrent": (lambda: beside(Recurrent()), {"torch"}),
    "transformer": (lambda: beside(Tokens(transformer())), {"torch"}),
    "recorder": (lambda: beside(Recorder()), {"containers"}),
    "one-time hook": (lambda: beside(HookedOnce()), {"containers"}),
    "weight norm": (lambda: beside(nn.utils.weight_norm(nn.Linear(WIDTH, WIDTH))), {"tensors"}),
    "spectral norm": (lambda: beside(nn.utils.spectral_norm(nn.Linear(WIDTH, WIDTH))), {"buffers", "tensors"}),
    "spectral norm as a parametrization": (lambda: beside(parametrizations.spectral_norm(nn.Linear(WIDTH, WIDTH))), {"buffers"}),
    "pruned": (lambda: beside(prune.random_unstructured(nn.Linear(WIDTH, WIDTH), "weight", 0.5)), {"tensors"}),
    "checkpointed": (lambda: checkpointed(False), {"buffers", "torch"}),
    "checkpointed, reentrant": (lambda: checkpointed(True), {"buffers", "torch"}),
    "torch noise": (lambda: beside(TorchNoise()), {"torch"}),
    "numpy noise": (lambda: beside(NumpyNoise()), {"numpy"}),
    "python noise": (lambda: beside(PythonNoise()), {"python"}),
}
DROPOUTS = ["dropout", "alpha dropout", "drop path", "functional dropout", "attention", "recurrent", "transformer"]
BATCH_NORMS = ["batch norm", "batch norm with cumulative average", "batch norm for images", "batch norm of another kind"]


def make(name):
    torch.manual_seed(3)
    np.random.seed(3)
    random.seed(3)
    return DANGERS[name][0]()


def inputs(images=5, seed=0):
    return torch.randn(images, WIDTH, generator=torch.Generator().manual_seed(seed))
