"""Runs a function on many tasks in a process that may crash, hang or run out of memory without taking the tests with it."""

import faulthandler
import importlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MIB = 2**20


def run_isolated(function, tasks, *, seconds=20.0, headroom_mib=2048):
    """The outcome of each task, in order, as soon as it is there.

    Args:
        function: "module:name" of a function in tests/support that takes one task and returns what JSON can hold.
        tasks: what JSON can hold, one an element.
        seconds: a task may take; past it the process is ended.
        headroom_mib: address space that tasks may take beyond what the process has once the function's module is imported.

    Yields:
        For each task a dictionary: ``result``, ``seconds`` and ``grown_mib`` (most resident memory so far beyond that of the start);
        or ``died``, why the process ended, and ``trace``, where it was.
    """
    tasks = list(tasks)
    done = 0
    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder) / "tasks.jsonl"
        listed.write_text("".join(json.dumps(task) + "\n" for task in tasks))
        while done < len(tasks):
            command = [sys.executable, __file__, function, str(listed), str(done), str(seconds), str(headroom_mib)]
            with (
                tempfile.TemporaryFile("w+") as errors,
                subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
            ):
                for line in process.stdout:
                    if not line.endswith("\n"):
                        break  # it died while writing
                    yield json.loads(line)
                    done += 1
                code = process.wait()
                errors.seek(0)
                trace = errors.read()[-4000:]
            if done < len(tasks):
                yield {"died": f"signal {-code}" if code < 0 else f"exit status {code}", "trace": trace}
                done += 1


def address_space():
    """Bytes of address space of this process."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")


def most_resident():
    """The most memory that this process has had, in MiB. (``ru_maxrss`` would count what its parent had when it was started.)"""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


def take_memory(mib):
    """Bytes that were taken, and written to."""
    return len(bytearray(b"x") * (mib * MIB))


def crash(number):
    """Die of a signal, as broken native code does."""
    os.kill(os.getpid(), number)


def work(function, listed, start, seconds, headroom_mib):
    faulthandler.enable()
    module, _, name = function.partition(":")
    call = getattr(importlib.import_module(module), name)
    limit = address_space() + headroom_mib * MIB
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    base = most_resident()
    with open(listed) as lines:
        for number, line in enumerate(lines):
            if number < start:
                continue
            faulthandler.dump_traceback_later(seconds, exit=True)
            begun = time.perf_counter()
            result = call(json.loads(line))
            took = time.perf_counter() - begun
            faulthandler.cancel_dump_traceback_later()
            outcome = {"result": result, "seconds": round(took, 4), "grown_mib": round(most_resident() - base, 1)}
            print(json.dumps(outcome), flush=True)


if __name__ == "__main__":
    work(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5]))
