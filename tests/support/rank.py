"""One rank: runs the checks of scripts, and writes down how each ended. Started by :func:`ranks.launch`."""

import importlib.util
import json
import os
import sys
import time
import traceback
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from ranks import checks_of

FOLDER = Path(sys.argv[1])
ARGUMENTS = sys.argv[3:]


def main():
    torch.set_num_threads(1)
    dist.init_process_group("gloo", timeout=timedelta(seconds=60))
    with open(FOLDER / f"rank{dist.get_rank()}.jsonl", "w") as report:
        for path in map(Path, sys.argv[2].split(",")):
            spec = importlib.util.spec_from_file_location(path.stem, path)
            script = importlib.util.module_from_spec(spec)
            sys.modules[path.stem] = script
            spec.loader.exec_module(script)
            for check in checks_of(path):
                run(getattr(script, check), path.stem, report)
    dist.destroy_process_group()


def run(check, script, report):
    error, start = "", time.perf_counter()
    try:
        check(*ARGUMENTS)
        dist.barrier()
    except BaseException:
        error = traceback.format_exc()
    line = {"script": script, "check": check.__name__, "error": error, "seconds": round(time.perf_counter() - start, 2)}
    print(json.dumps(line), file=report, flush=True)
    if error:
        os._exit(1)  # the others may wait for this rank in vain; torchrun ends them


if __name__ == "__main__":
    main()
