"""Two small sets of images that are no pictures: scans of 16 bits and one channel, and satellite-like images of 13 bands."""

import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image


def shapes(number, channels, height=56, width=72):
    """Smooth blobs on a ramp, others in every image and channel: [H, W, C] from 0 to 1."""
    draw = np.random.default_rng(number)
    y, x = np.mgrid[:height, :width][..., None] / height
    centre_y, centre_x, spread = draw.uniform(0, 1, (3, 1, 1, channels))
    blob = np.exp(-((y - centre_y) ** 2 + (x - centre_x) ** 2) / (0.02 + 0.1 * spread))
    return np.clip(0.7 * blob + 0.2 * y + draw.normal(0, 0.02, blob.shape), 0, 1)


def write_scans(folder, count):
    """PNG files of 16 bits, whose values use 12 of them."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        Image.fromarray((4095 * shapes(number, 1)[..., 0]).astype(np.uint16)).save(Path(folder) / f"{number:03}.png")


def write_bands(path, count, channels=13):
    """A tar shard of float32 `.npy` files, reflectances, and labels."""
    with tarfile.open(path, "w") as archive:
        for number in range(count):
            file = io.BytesIO()
            np.save(file, (1.4 * shapes(number, channels) - 0.1).astype(np.float32))
            for extension, data in (("npy", file.getvalue()), ("cls", str(number % 2).encode())):
                member = tarfile.TarInfo(f"{number:05}.{extension}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
