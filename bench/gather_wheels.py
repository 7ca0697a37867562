"""What does a GPU machine without a network need beside this repository? Wheels for its Python, and photographs, in one folder.

    python bench/gather_wheels.py --data FOLDER --out FOLDER [--packages NAME ...] [--limit MIB]

The folder travels with the repository: ``gpu_stages.py --wheels FOLDER/wheels --data FOLDER/photos`` uses it there. Wheels are those that
pip's index has for Linux on x86-64, without what they need in turn: a package that the machine lacks has to be named. What is larger than
the limit is refused. Nothing of it belongs into the repository.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from harness.data.photos import photo_paths

# what a machine with torch, Triton, torchvision, timm, Numba and pytest may lack, for CUDA 13; DALI is far larger than the limit
PACKAGES = ("simplejpeg", "kornia", "kornia-rs", "triton-augment", "lightly", "nvidia-nvimgcodec-cu13", "nvidia-nvjpeg")
# pip compares names, and takes no wheel of an older platform that is not named
PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in (34, 31, 28, 27, 26, 24, 17)] + ["manylinux2014_x86_64", "manylinux1_x86_64"]
PHOTOS, LIMIT = 128, 60.0
MIB = 2**20


def download(packages: Sequence[str], python: str, folder: Path) -> None:
    """One wheel of each package for a version of Python.

    Raises:
        SystemExit: pip finds none of one of them.
    """
    options = ["--no-deps", "--only-binary=:all:", "--implementation", "cp", "--python-version", python, "--dest", str(folder)]
    options += [word for platform in PLATFORMS for word in ("--platform", platform)]
    if subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", *options, *packages]).returncode:
        raise SystemExit(f"expected wheels of {', '.join(packages)} for Python {python}, pip found not all of them; see above")


def chosen(paths: Sequence[str], count: int, size: float) -> list[Path]:
    """So many photographs: of the whole folder evenly if they take no more than so many bytes, else the smallest ones.

    Raises:
        SystemExit: too few, or too large ones.
    """
    files = [Path(path) for path in paths]
    if len(files) < count:
        raise SystemExit(f"expected at least {count} photographs, got {len(files)}; say how many with --photos")
    evenly = [files[number * len(files) // count] for number in range(count)]
    smallest = sorted(files, key=lambda path: (path.stat().st_size, path))[:count]
    for some in (evenly, smallest):
        if size_of(some) <= size:
            return some
    raise SystemExit(
        f"expected {count} photographs of {size / MIB:.1f} MiB at most, which the wheels leave; the smallest ones take "
        f"{size_of(smallest) / MIB:.1f} MiB: take fewer with --photos, or smaller ones"
    )


def size_of(files: Sequence[Path]) -> int:
    """Bytes of all of them."""
    return sum(path.stat().st_size for path in files)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", required=True, help="folder of photos of ordinary size")
    parser.add_argument("--out", type=Path, required=True, help="folder that gets wheels/ and photos/, new or of an earlier call")
    parser.add_argument("--python", default="3.12", help="of the machine (3.12)")
    parser.add_argument("--packages", nargs="*", default=list(PACKAGES), help=f"({' '.join(PACKAGES)})")
    parser.add_argument("--photos", type=int, default=PHOTOS, help=f"how many ({PHOTOS})")
    parser.add_argument("--limit", type=float, default=LIMIT, help=f"MiB of all of it ({LIMIT:.0f})")
    options = parser.parse_args(arguments)
    wheels, photos = options.out / "wheels", options.out / "photos"
    for folder in (wheels, photos):
        # two versions of one package could not be installed
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    download(options.packages, options.python, wheels)
    found = sorted(wheels.glob("*.whl"))
    left = options.limit * MIB - size_of(found)
    if left < 0:
        raise SystemExit(f"expected {options.limit:.0f} MiB at most, the wheels alone take {size_of(found) / MIB:.1f} MiB; name fewer")
    some = chosen(photo_paths(options.data), options.photos, left)
    for number, path in enumerate(some):
        shutil.copyfile(path, photos / f"{number:05d}{path.suffix.lower()}")
    for path in found:
        print(f"{path.stat().st_size / MIB:6.1f} MiB  {path.name}")
    print(f"{size_of(some) / MIB:6.1f} MiB  {len(some)} photographs")
    print(f"{(size_of(found) + size_of(some)) / MIB:6.1f} MiB  of {options.limit:.0f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
