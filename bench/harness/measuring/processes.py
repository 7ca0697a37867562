"""A measurement in a process of its own, where nothing else is counted and nothing is warm."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

from harness.measuring.results import ROOT

# prints what the function returns on its last line
_CODE = "import json, sys; from {module} import {name} as function; print(json.dumps(function(json.load(sys.stdin))))"


def in_a_process(function: Callable[[Any], Any], request: Any, environment: Mapping[str, str] | None = None) -> Any:
    """What a function returns in a new process.

    Args:
        function: of a module that can be imported; what it takes and returns can be written as JSON.
        request: what it takes.
        environment: variables of the process, beside those of this one.

    Raises:
        RuntimeError: the process failed; the message ends with what it wrote on standard error.
    """
    code = _CODE.format(module=function.__module__, name=function.__name__)
    path = os.pathsep.join(filter(None, [str(ROOT / "bench"), os.environ.get("PYTHONPATH")]))
    # -P: the working directory may hold folders named as packages are
    command = [sys.executable, "-P", "-c", code]
    variables = {**os.environ, "PYTHONPATH": path, **(environment or {})}
    done = subprocess.run(command, input=json.dumps(request), capture_output=True, text=True, env=variables)
    if done.returncode:
        raise RuntimeError(f"{function.__module__}.{function.__name__} failed in a process of its own:\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.splitlines()[-1])
