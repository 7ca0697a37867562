"""What holds for every test."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

# Before torch is loaded: OpenMP's threads that spin while they wait would take the cores from the loaders' threads, and from other workers.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# torch.compile keeps what it made on disk without the instructions that it was made for, and with fewer of them computes wrong values.
OF_WHOM = f"{getattr(os, 'getuid', int)()}-{os.environ.get('ATEN_CPU_CAPABILITY', 'own')}"
os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", os.path.join(tempfile.gettempdir(), f"hvs_data-inductor-{OF_WHOM}"))

# `python -m pytest` puts the working directory on the path, where packages that look for one named "kernels", as transformers does, would
# find our folder; hvs_data is imported as it is installed, and where it is not, from a folder that holds nothing else.
ROOT = Path(__file__).parents[1]
sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != ROOT]
if find_spec("hvs_data") is None:
    ALONE = tempfile.TemporaryDirectory(prefix="hvs_data-tests-")
    Path(ALONE.name, "hvs_data").symlink_to(ROOT / "hvs_data")
    sys.path.append(ALONE.name)
    # the processes that tests start
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), ALONE.name]))


try:
    from hypothesis import settings
except ImportError:  # without it, the tests that need it cannot be collected, the others can
    pass
else:
    # how long an example takes says how busy the machine is
    settings.register_profile("any speed", settings.default, deadline=None)
    settings.load_profile("any speed")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--bare", action="store_true", help="skip files whose imports need packages that are not installed: not an error then")


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    return BareModule.from_parent(parent, path=module_path) if parent.config.getoption("--bare") else None


class BareModule(pytest.Module):
    """A file of tests on a machine that was not made for them, and misses packages that some need."""

    def collect(self) -> Any:
        try:
            return super().collect()
        except (self.CollectError, ImportError) as error:
            if why := _what_misses(error):
                pytest.skip(why, allow_module_level=True)
            raise


def _what_misses(error: BaseException | None) -> str | None:
    """The package without which a file could not be imported, in words; None where it is another error."""
    from hvs_data.errors import MissingDependencyError

    while error is not None:
        if isinstance(error, MissingDependencyError):
            return str(error)
        # of a package that is there, a missing module is a mistake
        if isinstance(error, ModuleNotFoundError) and error.name and find_spec(error.name.partition(".")[0]) is None:
            return f"needs {error.name}, which is not installed"
        error = error.__cause__ or error.__context__
    return None


@pytest.fixture(autouse=True, scope="session")
def ctrl_c_interrupts() -> Iterator[None]:
    """A shell starts what runs in its background with Ctrl-C ignored, and Python and its children then ignore it too."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
