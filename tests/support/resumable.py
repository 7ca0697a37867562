"""A training loop as people write it, on one of several gloo ranks: hardest pairs, an optimiser, checkpoints, and a log of what it saw."""

import hashlib
import io
import json
import os
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from PIL import Image
from torch.nn import functional as F

import hvs_data as hvs

SEED = 11
BATCH = 4
EPOCHS = 2
IMAGES = 96  # a multiple of BATCH on 4 ranks, so that no step is filled up with samples of the beginning
BROKEN = (7, 50)
RECIPE = hvs.recipes.simsiam(candidates=4, size=12)


def write_images(folder):
    """Small images of several sizes, two of which cannot be read."""
    folder.mkdir()
    draw = np.random.default_rng(1)
    for number in range(IMAGES):
        stream = io.BytesIO()
        pixels = draw.integers(0, 256, (16 + number % 7, 20 - number % 5, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(stream, "JPEG" if number % 3 else "PNG")
        (folder / f"{number:02}.{'jpg' if number % 3 else 'png'}").write_bytes(stream.getvalue()[: 60 if number in BROKEN else None])


class Cosine(hvs.Objective):
    """The negative cosine of one linear layer's outputs."""

    def __init__(self, model):
        self.model = model

    def encode(self, pixels):
        return self.model(pixels.flatten(1))


def train(rank, world_size, images, run, segment, every):
    """Train to the end from the latest checkpoint, if there is one.

    Args:
        rank, world_size: of this process.
        images: folder of images.
        run: folder of the run: checkpoint.pt, and for each segment (the time between two starts) a log of each rank.
        segment: number of the start.
        every: steps between checkpoints.
    """
    torch.set_num_threads(1)
    store = f"file://{run / f'store-{segment}'}"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=world_size, timeout=timedelta(seconds=60))
    torch.manual_seed(0)
    model = torch.nn.Linear(3 * 12 * 12, 8)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    loader = hvs.ViewLoader(images, RECIPE, BATCH, seed=SEED, num_threads=2, prefetch=3)
    selector = hvs.HardViewSelector(Cosine(model), policy="softmax", temperature=0.3)
    loader = hvs.HardViewLoader(loader, selector)
    step, epoch = 0, 0
    if (run / "checkpoint.pt").exists():
        checkpoint = torch.load(run / "checkpoint.pt")  # weights_only, as by default
        model.load_state_dict(checkpoint["model"])
        optimizer.load_state_dict(checkpoint["optimizer"])
        loader.load_state_dict(checkpoint["loader"])
        step, epoch = checkpoint["step"], checkpoint["loader"]["epoch"]
    with open(run / f"log-{segment}-{rank}.jsonl", "w") as log:
        print(json.dumps({"begins after": step, "world_size": world_size}), file=log, flush=True)
        for number in range(epoch, EPOCHS):
            loader.set_epoch(number)
            for batch in loader:
                step += 1
                print(json.dumps({"step": step, "epoch": batch.epoch, **seen(batch)}), file=log, flush=True)
                first, second = (model(view.flatten(1)) for view in batch.views)
                optimizer.zero_grad()
                (-F.cosine_similarity(first, second).mean()).backward()
                for parameter in model.parameters():
                    dist.all_reduce(parameter.grad)
                    parameter.grad /= world_size
                optimizer.step()
                # all ranks have written down this step, or the gradients would not be there
                if rank == 0 and step % every == 0:
                    save(run, model, optimizer, loader, step)
        if rank == 0:
            save(run, model, optimizer, loader, step)
    dist.barrier()
    dist.destroy_process_group()


def save(run, model, optimizer, loader, step):
    """Write a checkpoint that is either there in full or not at all."""
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "loader": loader.state_dict(), "step": step}
    with open(run / "checkpoint.tmp", "wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(run / "checkpoint.tmp", run / "checkpoint.pt")


def seen(batch):
    """What a batch holds, image by image: index, a digest of its rows, and one of the views that were chosen."""
    rows = [digest(tensor[b] for tensor in batch.params.tensors().values()) for b in range(len(batch.index))]
    views = [digest(view[b] for view in batch.views) for b in range(len(batch.index))]
    return {"index": batch.index.tolist(), "rows": rows, "views": views}


def digest(tensors):
    state = hashlib.sha256()
    for tensor in tensors:
        state.update(tensor.contiguous().numpy().tobytes())
    return state.hexdigest()[:16]


def history(run):
    """What the run went through in the end: of each segment the steps that the next one did not do again.

    Returns:
        A list of steps; each one has ``epoch`` and, rank after rank, ``index``, ``rows`` and ``views`` of its samples.
    """
    segments = sorted({int(path.stem.split("-")[1]) for path in Path(run).glob("log-*.jsonl")})
    starts, steps = [], {}
    for segment in segments:
        logs = [lines(path) for path in sorted(Path(run).glob(f"log-{segment}-*.jsonl"))]
        begun = [log[0] for log in logs if log]
        if not begun or len(logs) < begun[0]["world_size"]:
            continue  # killed before all had begun, and so before the first step was over
        start = begun[0]["begins after"]
        starts.append(start)
        steps = {number: step for number, step in steps.items() if number <= start}
        for entries in zip(*(log[1:] for log in logs), strict=False):
            assert len({(entry["step"], entry["epoch"]) for entry in entries}) == 1
            joined = {key: [value for entry in entries for value in entry[key]] for key in ("index", "rows", "views")}
            steps[entries[0]["step"]] = {"epoch": entries[0]["epoch"], **joined}
    assert list(steps) == list(range(1, len(steps) + 1)), "steps are missing"
    return [steps[number] for number in sorted(steps)]


def lines(path):
    """Entries of a log, of which the last line may be cut off."""
    return [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
