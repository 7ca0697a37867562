"""The house: what a wheel holds, what an import loads, that every public name resolves."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import hvs_data as hvs

ROOT = Path(__file__).parents[1]
FOLDERS = ("hvs_data", "kernels", "pipelines")
SOURCES = (*FOLDERS, "tests", "bench", "pyproject.toml", "README.md", "LICENSE")
LEFTOVERS = ("__pycache__", "*.egg-info", ".*")

HEAVY = ["nvidia.dali", "kornia", "triton", "numba", "llvmlite", "torchvision", "lightning", "pytorch_lightning", "lightly", "datasets"]
HEAVY += ["accelerate", "transformers", "simplejpeg", "PIL", "sklearn", "matplotlib", "pyarrow", "tqdm", "fsspec", "aiohttp"]
# installed with the package, small, and needed as soon as anything is decoded
DECODERS = ["simplejpeg", "PIL"]


def python(code: str, cwd: Path, *path: Path) -> str:
    """Standard output of a fresh interpreter started in a folder, which `python -c` puts first on the path."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))}
    done = subprocess.run([sys.executable, "-c", code], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def modules_after(code: str, cwd: Path = ROOT) -> set[str]:
    return set(json.loads(python(f"{code}\nimport json, sys\nprint(json.dumps(list(sys.modules)))", cwd).splitlines()[-1]))


# --- imports -----------------------------------------------------------------------------------------------------------


def test_importing_the_package_loads_little_more_than_torch() -> None:
    loaded = modules_after("import hvs_data")
    torch_alone = modules_after("import torch, numpy")
    assert [name for name in HEAVY if name in loaded - torch_alone] == []
    foreign = {name.partition(".")[0] for name in loaded - torch_alone} - {"hvs_data"} - set(sys.stdlib_module_names)
    assert foreign == set()
    # the face alone: everything else loads when it is used
    assert {name for name in loaded if name.startswith("hvs_data")} == {"hvs_data"}


def test_resolving_every_public_name_loads_no_optional_package() -> None:
    loaded = modules_after("import hvs_data\nfor name in hvs_data.__all__: getattr(hvs_data, name)")
    torch_alone = modules_after("import torch, numpy")
    assert [name for name in HEAVY if name in loaded - torch_alone and name not in DECODERS] == []


@pytest.mark.parametrize("name", hvs.__all__)
def test_every_public_name_resolves(name: str) -> None:
    value = getattr(hvs, name)
    assert name in dir(hvs)
    assert value.__name__.rpartition(".")[2] == name
    home = getattr(value, "__module__", value.__name__)
    assert home.startswith("hvs_data.")


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'hardest'"):
        hvs.hardest  # noqa: B018


IMPORT_ALL = """
import importlib, pkgutil, hvs_data
OPTIONAL = {"nvidia", "kornia", "lightning", "pytorch_lightning", "lightly", "accelerate", "datasets", "matplotlib", "pyarrow", "tqdm"}
for module in pkgutil.walk_packages(hvs_data.__path__, "hvs_data."):
    try:
        importlib.import_module(module.name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in OPTIONAL:
            raise
"""


def test_our_folders_are_never_top_level_modules() -> None:
    # from the repository's root, where a plain `import kernels` would find one
    loaded = modules_after(IMPORT_ALL, cwd=ROOT)
    assert {"hvs_data.kernels.render", "hvs_data.pipelines", "hvs_data.recipes.presets"} <= loaded
    for modules in (loaded, set(sys.modules)):
        assert {name.partition(".")[0] for name in modules} & {"kernels", "pipelines"} == set()


def test_the_symlinks_are_relative_links() -> None:
    for folder in ("kernels", "pipelines"):
        assert os.readlink(ROOT / "hvs_data" / folder) == f"../{folder}"


# --- the wheel ---------------------------------------------------------------------------------------------------------


def pip_wheel(source: Path, out: Path) -> Path:
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(out), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=out.parent)
    assert done.returncode == 0, done.stderr
    (wheel,) = out.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the source tree as it is committed, without anything built in it."""
    copy = tmp_path_factory.mktemp("house") / "source"
    copy.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=shutil.ignore_patterns(*LEFTOVERS))
        else:
            shutil.copy(ROOT / name, copy / name)
    return copy


@pytest.fixture(scope="module")
def wheel(source: Path) -> Path:
    return pip_wheel(source, source.parent / "wheel")


@pytest.fixture(scope="module")
def wheel_of_the_sdist(source: Path) -> Path:
    archives = source.parent / "sdist"
    archives.mkdir()
    python(f"from setuptools import build_meta; build_meta.build_sdist({str(archives)!r})", source)
    (archive,) = archives.glob("*.tar.gz")
    return pip_wheel(archive, source.parent / "wheel-of-sdist")


def expected_files(source: Path) -> dict[str, bytes]:
    """Every file of the three folders, by its path in a wheel."""
    files = {}
    for folder in FOLDERS:
        for path in (source / folder).rglob("*"):
            inside = path.relative_to(source).as_posix()
            if path.is_file() and not inside.startswith(("hvs_data/kernels/", "hvs_data/pipelines/")):
                files[inside if folder == "hvs_data" else f"hvs_data/{inside}"] = path.read_bytes()
    return files


@pytest.mark.parametrize("built", ["wheel", "wheel_of_the_sdist"])
def test_a_wheel_holds_the_package_and_nothing_beside_it(built: str, source: Path, request: pytest.FixtureRequest) -> None:
    expected = expected_files(source)
    assert {"hvs_data/__init__.py", "hvs_data/kernels/render/__init__.py", "hvs_data/pipelines/__init__.py"} <= set(expected)
    with zipfile.ZipFile(request.getfixturevalue(built)) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
        (metadata,) = {name.partition("/")[0] for name in names} - {"hvs_data"}
        assert metadata == f"hvs_data-{hvs.__version__}.dist-info"
        assert {name: archive.read(name) for name in names if not name.startswith(metadata)} == expected
        assert archive.read(f"{metadata}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
        assert "hvs-data = hvs_data.commands.main:main" in archive.read(f"{metadata}/entry_points.txt").decode()


def test_an_installed_wheel_works_without_the_repository(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    resolved = "import hvs_data\nfor name in hvs_data.__all__: getattr(hvs_data, name)"
    homes = "import sys\nprint(*(m.__file__ for n, m in list(sys.modules.items()) if n.startswith('hvs_data')), sep='\\n')"
    files = [Path(line) for line in python(f"{resolved}\nimport hvs_data.kernels.render\n{homes}", tmp_path, site).splitlines()]
    assert site / "hvs_data/kernels/render/__init__.py" in files
    assert all(path.is_relative_to(site) for path in files)


def test_the_command_exists() -> None:
    from hvs_data.commands.main import main

    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"hvs-data": f"{main.__module__}:{main.__name__}"}
