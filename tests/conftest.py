"""What holds for every test."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

# Before torch is loaded: OpenMP's threads that spin while they wait would take the cores from the loaders' threads, and from other workers.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# torch.compile keeps what it made on disk without the instructions that it was made for, and with fewer of them computes wrong values.
OF_WHOM = f"{getattr(os, 'getuid', int)()}-{os.environ.get('ATEN_CPU_CAPABILITY', 'own')}"
os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", os.path.join(tempfile.gettempdir(), f"hvs_data-inductor-{OF_WHOM}"))

# `python -m pytest` puts the working directory on the path, where packages that look for one named "kernels", as transformers does, would
# find our folder; hvs_data is imported as it is installed.
ROOT = Path(__file__).parents[1]
sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != ROOT]


try:
    from hypothesis import settings
except ImportError:  # without it, the tests that need it cannot be collected, the others can
    pass
else:
    # how long an example takes says how busy the machine is
    settings.register_profile("any speed", settings.default, deadline=None)
    settings.load_profile("any speed")


@pytest.fixture(autouse=True, scope="session")
def ctrl_c_interrupts() -> Iterator[None]:
    """A shell starts what runs in its background with Ctrl-C ignored, and Python and its children then ignore it too."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
