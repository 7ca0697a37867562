"""Encoded images to uint8 RGB with nvImageCodec, on which DALI's own decoder is built: on a GPU, or on the CPU for checks.

DALI's decoder answers for a whole batch: one bad file, and the pipeline is lost with all that was in it. nvImageCodec answers for every
image, so a file that it does not read is read another way, and one that nothing reads is reported in its place.
"""

# Axes: B image, H W pixels, C channel.

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import nvidia.nvimgcodec as nvimgcodec
import simplejpeg
import torch
from torch import Tensor

from hvs_data.errors import DecodeError, HvsError
from hvs_data.pipelines.decode import DEFAULT_MAX_PIXELS, decode_image, jpeg_size, usable_device

_JPEG_END = b"\xff\xd9"
# Bytes that may follow a JPEG file's end mark: some programs fill files up.
_FILLING = 64


class BatchDecoder:
    """Decodes many images at a time. May be used from several threads, one of which decodes at a time.

    Ordinary JPEG files go to nvImageCodec, everything else to :func:`hvs_data.pipelines.decode.decode_image`, and so do files whose end is
    missing, which a GPU would fill up with grey, and files that nvImageCodec refuses.

    Args:
        device: where the images go. On a CUDA device, its hardware decoder takes part where it has one.
        exif_orientation, max_pixels: as of :func:`hvs_data.decode`.
        hardware_share: of the images, from 0 to 1, that the hardware decoder gets; None adapts the share to what it manages.
        num_threads: threads of nvImageCodec on the CPU.

    Raises:
        HvsError: a device that cannot be used or on which nvImageCodec decodes nothing, or a share outside of 0 to 1.
    """

    def __init__(
        self,
        device: torch.device | str,
        *,
        exif_orientation: bool = False,
        max_pixels: int = DEFAULT_MAX_PIXELS,
        hardware_share: float | None = None,
        num_threads: int = 1,
    ):
        if hardware_share is not None and not 0 <= hardware_share <= 1:
            raise HvsError(f"hardware_share must satisfy 0 <= hardware_share <= 1, got {hardware_share!r}; it is a share of the images")
        self.device = _numbered(usable_device(device))
        self._exif_orientation = exif_orientation
        self._max_pixels = max_pixels
        self._lock = threading.Lock()
        self._decoder = nvimgcodec.Decoder(
            device_id=nvimgcodec.NVIMGCODEC_DEVICE_CPU_ONLY if self.device.type == "cpu" else self.device.index,
            max_num_cpu_threads=num_threads,
            backends=_backends(self.device, hardware_share),
            # chroma as libjpeg and Pillow upsample it
            options=":fancy_upsampling=1",
        )
        self._parameters = nvimgcodec.DecodeParams(apply_exif_orientation=exif_orientation, color_spec=nvimgcodec.ColorSpec.SRGB)
        # what it refuses goes to the CPU, image by image: without this, that would be all of them, and nobody would be told
        if self._decode_jpegs([simplejpeg.encode_jpeg(np.zeros((16, 16, 3), np.uint8))]) == [None]:
            raise HvsError(
                f"expected nvImageCodec to decode a plain JPEG file on {self.device}, got nothing, as where nvJPEG is missing or the "
                "driver is older than the packages; install hvs_data[cuda12] or [cuda13], whichever fits the driver, or decode on the CPU"
            )

    def decode(self, items: Sequence[Any]) -> list[Tensor | DecodeError]:
        """Decode what :func:`hvs_data.pipelines.decode.decode_image` takes.

        Returns:
            for each item uint8 [H, W, 3] on the device, or the error that says why there is none.
        """
        ordinary = [position for position, item in enumerate(items) if self._is_ordinary(item)]
        decoded: dict[int, Tensor] = {}
        if ordinary:
            images = self._decode_jpegs([bytes(items[position]) for position in ordinary])
            decoded = {position: image for position, image in zip(ordinary, images, strict=True) if image is not None}
        return [decoded[position] if position in decoded else self._decode_singly(item) for position, item in enumerate(items)]

    def _is_ordinary(self, item: Any) -> bool:
        """A whole JPEG file of three colours or grey, of a size that is allowed."""
        if not isinstance(item, (bytes, bytearray)):
            return False
        size = jpeg_size(item)
        return size is not None and size[0] * size[1] <= self._max_pixels and item.rfind(_JPEG_END, max(0, len(item) - _FILLING)) >= 0

    def _decode_jpegs(self, files: list[bytes]) -> list[Tensor | None]:
        """None for files that nvImageCodec refuses."""
        streams = [_code_stream(file) for file in files]
        readable = [stream for stream in streams if stream is not None]
        # memory is taken, and the default stream is meant, on the device that is the thread's current one
        with torch.cuda.device(self.device) if self.device.type == "cuda" else nullcontext():
            cuda_stream = 0 if self.device.type == "cpu" else torch.cuda.current_stream(self.device).cuda_stream
            with self._lock:
                images = iter(self._decoder.decode(readable, params=self._parameters, cuda_stream=cuda_stream) if readable else [])
            return [None if stream is None else self._tensor(next(images)) for stream in streams]

    def _tensor(self, image: Any) -> Tensor | None:
        if image is None:
            return None
        if self.device.type == "cpu":
            return torch.from_numpy(np.asarray(image))
        # into torch's memory: nvImageCodec's own is free on the decoding stream once the tensor is gone, whichever stream still reads it
        return torch.from_dlpack(image).clone()

    def _decode_singly(self, item: Any) -> Tensor | DecodeError:
        try:
            pixels_HWC = decode_image(item, exif_orientation=self._exif_orientation, max_pixels=self._max_pixels)
        except DecodeError as error:
            return error
        return torch.from_numpy(pixels_HWC).to(self.device)


def _numbered(device: torch.device) -> torch.device:
    """The device with its number: "cuda" is the current one, which is not the same at all times."""
    return torch.device("cuda", torch.cuda.current_device()) if device.type == "cuda" and device.index is None else device


def _code_stream(file: bytes) -> Any:
    try:
        return nvimgcodec.CodeStream(file)
    except Exception:  # a RuntimeError in the version at hand: a header that it does not read
        return None


def _backends(device: torch.device, hardware_share: float | None) -> list[Any]:
    kinds, policies = nvimgcodec.BackendKind, nvimgcodec.LoadHintPolicy
    if device.type == "cpu":
        return [nvimgcodec.Backend(kinds.CPU_ONLY)]
    hardware = (
        nvimgcodec.Backend(kinds.HW_GPU_ONLY, load_hint_policy=policies.ADAPTIVE_MINIMIZE_IDLE_TIME)
        if hardware_share is None
        else nvimgcodec.Backend(kinds.HW_GPU_ONLY, load_hint=hardware_share, load_hint_policy=policies.FIXED)
    )
    return [hardware, *(nvimgcodec.Backend(kind) for kind in (kinds.GPU_ONLY, kinds.HYBRID_CPU_GPU, kinds.CPU_ONLY))]
