"""macOS and Windows are not promised, but what needs nothing of Linux works there, and what does says so.

Each test runs in a process from which everything was taken that a system lacks.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

# What Python's documentation marks as not available there, of what a package of this kind may come to use.
MACOS = {
    "os": "sched_getaffinity sched_setaffinity sched_yield posix_fadvise posix_fallocate memfd_create eventfd pipe2 getrandom "
    "listxattr getxattr copy_file_range splice pidfd_open O_DIRECT O_PATH O_NOATIME O_LARGEFILE".split(),
    "mmap": "MAP_POPULATE MADV_HUGEPAGE".split(),
}
WINDOWS = {
    "os": MACOS["os"]
    + "fork forkpty register_at_fork pread pwrite preadv pwritev readv writev sendfile getuid geteuid getgid getegid "
    "getpgid getsid setsid killpg wait wait3 wait4 nice mkfifo mknod statvfs fstatvfs sysconf getloadavg uname getpriority chown lchown "
    "fchown chroot sync posix_spawn O_CLOEXEC O_NONBLOCK O_DIRECTORY O_NOFOLLOW O_SYNC".split(),
    "mmap": MACOS["mmap"] + "MAP_SHARED MAP_PRIVATE MAP_ANON MAP_ANONYMOUS PROT_READ PROT_WRITE".split(),
    "signal": "SIGKILL SIGHUP SIGQUIT SIGUSR1 SIGUSR2 SIGALRM SIGCHLD alarm setitimer pthread_kill pthread_sigmask sigwait".split(),
    "time": "clock_gettime clock_getres CLOCK_MONOTONIC CLOCK_REALTIME pthread_getcpuclockid tzset".split(),
    "socket": "AF_UNIX socketpair".split(),
}
MODULES = {"darwin": ["spwd", "ossaudiodev"], "win32": ["fcntl", "pwd", "grp", "resource", "termios", "pty", "syslog", "crypt", "curses"]}
TAKEN = {"darwin": MACOS, "win32": WINDOWS}

# The packages of others load first, since they would ask for what their wheels have on those systems.
PREAMBLE = """
import importlib, sys
from pathlib import Path
import numpy, numba, torch, simplejpeg, PIL.Image
import torch.distributed, tempfile, concurrent.futures, ctypes, glob, logging, multiprocessing, subprocess
import numba.core.caching
system, taken, modules = {system!r}, {taken!r}, {modules!r}
for name in modules:
    sys.modules[name] = None  # whoever imports it now gets an ImportError
for module, names in taken.items():
    for name in names:
        if hasattr(importlib.import_module(module), name):
            delattr(importlib.import_module(module), name)
import os
read_text = Path.read_text
def no_kernel_files(path, *args, **kwargs):
    if str(path).startswith(("/proc", "/sys")):
        raise FileNotFoundError(2, "no such file", str(path))
    return read_text(path, *args, **kwargs)
Path.read_text = no_kernel_files
sys.platform = system
import hvs_data as hvs
"""


def run(system: str, code: str, *arguments: str) -> str:
    """What a script prints on a system like that one."""
    preamble = PREAMBLE.format(system=system, taken=TAKEN[system], modules=MODULES[system])
    done = subprocess.run([sys.executable, "-c", preamble + code, *arguments], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photos")
    for number in range(6):
        pixels = np.random.default_rng(number).integers(0, 256, (24, 32, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(root / f"{number:02}.jpg")
    return root


PURE = """
for name in hvs.__all__:
    getattr(hvs, name)
from hvs_data.loaders.order import EpochOrder
from hvs_data.drawing.philox import philox_4x32
import hvs_data.demo.machine, hvs_data.commands.main
assert "for this process" in hvs_data.demo.machine.machine_facts()["Cores"]
recipe = hvs.recipes.simsiam(candidates=3, size=16)
rows = hvs.sample_views(recipe, seed=1, epoch=2, index=[3, 4], height=[24, 24], width=[32, 32])
print(rows.box.tolist(), hvs.iou(rows).sum().item(), EpochOrder(10, 1, 2)(range(10)).tolist(), philox_4x32((1, 2, 3, 4), (5, 6)).tolist())
"""
LOADING = """
files = [path.read_bytes() for path in sorted(Path(sys.argv[1]).iterdir())]
images = hvs.decode(files)
recipe = hvs.recipes.simsiam(size=16)
rows = hvs.sample_views(recipe, seed=1, epoch=2, index=list(range(6)), height=images.height, width=images.width)
print(hvs.render(images, rows).sum().item(), hvs.render(images, rows, engine="reference").shape)
loader = hvs.ViewLoader(sys.argv[1], recipe, batch_size=3, seed=1)
print([(batch.index.tolist(), batch.views[0].sum().item()) for batch in loader])
"""


@pytest.fixture(scope="module")
def here(photos: Path) -> str:
    """What this system prints."""
    script = "import os, sys\nfrom pathlib import Path\nimport hvs_data as hvs" + PURE + LOADING
    done = subprocess.run([sys.executable, "-c", script, str(photos)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("system", ["darwin", "win32"])
def test_rows_pixels_and_folders_are_as_here(photos: Path, here: str, system: str) -> None:
    share = "\nassert f'{os.cpu_count()} thread' in repr(loader), loader"
    assert run(system, PURE + LOADING + share, str(photos)) == here


SHARDS = """
try:
    source = hvs.open_source(sys.argv[1])
except hvs.HvsError as error:
    print("refused:", error)
else:
    print([len(source.read(position).data) for position in range(len(source))])
"""


@pytest.fixture(scope="module")
def shard(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shards") / "train-000.tar"
    with tarfile.open(path, "w") as archive:
        for photo in sorted(photos.iterdir()):
            archive.add(photo, photo.name)
    return path


def test_shards_are_read_on_macos(photos: Path, shard: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HVS_DATA_CACHE", str(tmp_path))
    sizes = [path.stat().st_size for path in sorted(photos.iterdir())]
    # walked, and again by the index that was kept
    assert run("darwin", SHARDS + SHARDS, str(shard)) == f"{sizes}\n" * 2
    assert list(tmp_path.rglob("*.index"))


# Indices of shards behind a URL, which are read in another way, are kept there too.
INDEX = """
from hvs_data.sources.index_cache import IndexCache
from hvs_data.sources.packed import PackedStrings
from hvs_data.sources.shard_index import ShardIndex
index = ShardIndex(PackedStrings(["a", "bc"]), numpy.array([0, 9]), numpy.array([9, 8]), numpy.array([1, 2]))
with tempfile.TemporaryDirectory() as folder:
    IndexCache(folder).get("ab", lambda: index)
    print(IndexCache(folder).get("ab", lambda: 1 / 0).offset_N.tolist())
"""


def test_shards_are_refused_on_windows_with_a_remedy(shard: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HVS_DATA_CACHE", str(tmp_path))
    refused, kept = run("win32", SHARDS + INDEX, str(shard)).splitlines()
    assert refused.startswith("refused: ") and "got win32; unpack the shards into a folder" in refused
    assert kept == "[0, 9]"
