"""Starts scripts of checks on several ranks with torchrun, and collects what every rank found."""

import ast
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

SUPPORT = Path(__file__).parent


def checks_of(script):
    """Names of a script's checks, in order: its functions that begin with check_."""
    return [
        node.name for node in ast.parse(script.read_text()).body if isinstance(node, ast.FunctionDef) and node.name.startswith("check_")
    ]


def launch(ranks, scripts, folder, *arguments, seconds=240):
    """Run the checks of some scripts, one after another in the same processes.

    Args:
        ranks: number of processes.
        scripts: paths of scripts.
        folder: an empty folder for what the ranks write.
        arguments: strings that the checks find in ``run.ARGUMENTS``.
        seconds: after which all processes are ended.

    Returns:
        By (script's name, check's name): an empty string where all ranks passed, else what went wrong.
    """
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes=1", f"--nproc-per-node={ranks}", "--max-restarts=0"]
    command += ["--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0", "--local-addr=127.0.0.1"]
    command += [str(SUPPORT / "rank.py"), str(folder), ",".join(map(str, scripts)), *map(str, arguments)]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "GLOO_SOCKET_IFNAME": "lo",
        "PYTHONPATH": os.pathsep.join(map(str, (SUPPORT, scripts[0].parent))),
    }
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=folder, start_new_session=True
    )
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        output += f"\nended after {seconds} s"
    found = {(script.stem, check): [] for script in scripts for check in checks_of(script)}
    for rank in range(ranks):
        lines = (folder / f"rank{rank}.jsonl").read_text().splitlines() if (folder / f"rank{rank}.jsonl").exists() else []
        passed = {(line["script"], line["check"]): line["error"] for line in map(json.loads, lines)}
        for key, errors in found.items():
            if passed.get(key, "not finished"):
                errors.append(f"rank {rank}: {passed.get(key, 'not finished')}")
    return {key: "\n".join([*errors, output[-6000:]]) if errors else "" for key, errors in found.items()}
