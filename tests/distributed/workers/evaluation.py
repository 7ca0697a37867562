"""Features of labelled images: each rank takes its share, and all ranks get all of them, once each."""

import numpy as np
import torch
import torch.distributed as dist

from hvs_data.evaluation import features

# no multiple of a batch on 2 or 4 ranks, each image of a colour of its own
IMAGES = [(np.full((20, 24, 3), 10 * number, np.uint8), number % 3) for number in range(22)]


class Means(torch.nn.Module):
    """[N, 3, S, S] -> [N, 3]; counts the images that it was shown."""

    shown = 0

    def forward(self, pixels):
        self.shown += len(pixels)
        return pixels.mean((2, 3))


def check_every_rank_gets_all_features_once(*_):
    encoder, alone = Means(), Means()
    found = features(encoder, IMAGES, size=8, batch_size=4)
    whole = features(alone, IMAGES, size=8, batch_size=4, rank=0, world_size=1)
    assert found.labels.tolist() == whole.labels.tolist() == [label for _, label in IMAGES]
    assert torch.equal(found.values, whole.values)
    assert alone.shown == 22 and encoder.shown <= -(-22 // dist.get_world_size()) + 1
