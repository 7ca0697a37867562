"""What does a CUDA device make of it? Tests, times by kernel, views a second beside other libraries, training steps: stage by stage.

    python bench/gpu_stages.py --data FOLDER --out FOLDER [--budget SECONDS] [--wheels FOLDER] [--only STAGE ...]

Made for a machine that is there for minutes, has no network and misses packages. Each stage is a process of its own with a limit of time,
the most telling ones first; what it finds is in FOLDER/gpu.jsonl at once, what it prints in FOLDER/gpu.log, and a stage that fails, hangs,
misses something or gets no time is named with the reason. The same command goes on where the last one stopped: what is done under the same
conditions is not done again. Nothing is installed but into a temporary folder. Without a CUDA device every stage says so; with --rehearse
those that have a stand-in run it, tiny, on the CPU.

Exit status: 0 if all is done that can be done here, 1 if a stage failed or ran out of time, 3 if stages were left out for want of time,
4 without a device.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from harness.measuring.results import QUICK_RESULTS, ROOT
from harness.measuring.staged import FAILED, LEFT_OUT, NO_DEVICE, TIMED_OUT, Outcome, Record, Stage, run_stage, run_stages
from harness.reporting.device import report

BUDGET = 540.0  # seconds: a command of ten minutes ends in time
SLOWER = 4.0
# both run every time: each run has its temporary folder, and its conditions are looked at anew
WHEELS = Stage("wheels", 60, "harness.device.wheels:install")
ENVIRONMENT = Stage("environment", 60, "harness.device.environment:environment")
SELECTION_TESTS = ["tests/kernels/pair_scores", "tests/hvs_data", "tests/pipelines", "tests/distributed"]
STAGES = (
    Stage("render-tests", 100, "harness.device.testing:cuda_tests", {"tests": ["tests/kernels/render"]}),
    Stage("kernels", 60, "harness.device.launches:kernel_times"),
    Stage("counters", 50, "harness.device.tools:counters", stand_in=False),
    Stage("resident", 100, "harness.device.resident:beside_libraries"),
    Stage("loader", 40, "harness.device.files:own_loader"),
    Stage("memory-checks", 70, "harness.device.tools:checks", stand_in=False),
    Stage("other-tests", 120, "harness.device.testing:cuda_tests", {"tests": SELECTION_TESTS}),
    Stage("device-decoding", 60, "harness.device.files:decoding"),
    Stage("dali", 90, "harness.device.files:beside_dali"),
    Stage("scoring", 120, "harness.device.training:scoring"),
    Stage("steps", 200, "harness.device.training:steps"),
    Stage("slow-libraries", 300, "harness.device.resident:beside_slow_ones"),
)


def run(
    stages: Sequence[Stage], record: Record, data: str | None, seconds: float, *, wheels: Path | None, rehearse: bool, again: bool
) -> dict[str, Outcome]:
    """Run stages; what is known of all of them then."""
    asked: dict[str, Any] = {"data": data, "device": "cuda", "quick": rehearse}
    with tempfile.TemporaryDirectory(prefix="hvs_data-gpu-") as scratch:
        variables = environment_of(Path(scratch))
        first = [ENVIRONMENT]
        if wheels is not None:
            where = {"wheels": str(wheels), "target": str(Path(scratch) / "wheels")}
            first.insert(0, replace(WHEELS, arguments=where))
        now = begin(first, asked, record, variables)
        seconds -= sum(now[stage.name].seconds for stage in first)
        failed = now[ENVIRONMENT.name].reason
        no_device = f"none is known of: {failed}" if failed else "no CUDA device was found on this machine"
        if has_device(now):
            no_device = ""
        else:
            # a stand-in compiles on the CPU, on a machine that may have other things to do
            stages, seconds = [replace(stage, seconds=SLOWER * stage.seconds) for stage in stages], SLOWER * seconds
            asked["device"] = "cpu"
        run_stages(stages, asked, record, seconds, variables, no_device=no_device, stand_ins=rehearse, again=again)
    return record.outcomes()


def begin(first: Sequence[Stage], asked: Mapping[str, Any], record: Record, variables: Mapping[str, str]) -> dict[str, Outcome]:
    """Run the stages that every run begins with; what is known then, without what was found under other conditions."""
    before = record.outcomes()
    for stage in first:
        outcome = run_stage(stage, asked, record, stage.seconds, variables)
        print(f"{stage.name}: {outcome.status} {outcome.reason}".rstrip(), flush=True)
    if before and conditions_of(before) != conditions_of(record.outcomes()):
        record.add("anew", ENVIRONMENT.name, kept=[stage.name for stage in first])
        print("the conditions are not those of the last run: what it found does not count", flush=True)
    return record.outcomes()


def environment_of(scratch: Path) -> dict[str, str]:
    """Variables of the stages' processes: bench, the package where it is not installed, and the wheels are on their path, and whatever is
    compiled is kept in a temporary folder."""
    path = [str(ROOT / "bench"), str(scratch / "wheels"), *filter(None, [os.environ.get("PYTHONPATH")])]
    if find_spec("hvs_data") is None:
        # in a folder of its own: from the repository's root, kernels and pipelines could be imported, too
        (scratch / "package").mkdir()
        (scratch / "package" / "hvs_data").symlink_to(ROOT / "hvs_data")
        path.insert(1, str(scratch / "package"))
    kept = {f"{name}_CACHE_DIR": str(scratch / name.lower()) for name in ("TRITON", "TORCHINDUCTOR", "NUMBA")}
    fixed = {"PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    return {"PYTHONPATH": os.pathsep.join(path), **fixed, **kept}


def has_device(outcomes: Mapping[str, Outcome]) -> bool:
    return any(finding["what"] == "machine" and finding["device"] for finding in outcomes[ENVIRONMENT.name].findings)


def conditions_of(outcomes: Mapping[str, Outcome]) -> dict[str, Any]:
    """All that two runs must share to be one."""
    findings = outcomes[ENVIRONMENT.name].findings if ENVIRONMENT.name in outcomes else []
    found = [finding["conditions"] for finding in findings if finding["what"] == "conditions"]
    return {key: value for key, value in found[0].items() if key != "time"} if found else {}


def exit_status(outcomes: Mapping[str, Outcome], rehearse: bool) -> int:
    ended = {outcome.status for outcome in outcomes.values()}
    if ended & {FAILED, TIMED_OUT, None}:
        return 1
    if LEFT_OUT in ended:
        return 3
    return 4 if NO_DEVICE in ended and not rehearse else 0


def main(arguments: Sequence[str] | None = None) -> int:
    names = [stage.name for stage in STAGES]
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", help="folder of photos of ordinary size; by default the demo's example photos")
    parser.add_argument("--out", type=Path, default=QUICK_RESULTS / "gpu", help="folder of gpu.jsonl and gpu.log (build/bench/gpu)")
    parser.add_argument("--budget", type=float, default=BUDGET, help=f"seconds that all of it may take ({BUDGET:.0f})")
    parser.add_argument("--wheels", type=Path, help="folder of wheels, see gather_wheels.py, that are used in this run")
    parser.add_argument("--only", nargs="+", choices=names, metavar="STAGE", help=f"of {', '.join(names)}")
    parser.add_argument("--again", action="store_true", help="run also what is done already")
    parser.add_argument("--rehearse", action="store_true", help="only try whether everything works, without a device on the CPU")
    options = parser.parse_args(arguments)
    # a limit of the caller's ends the stage under way, too
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    options.out.mkdir(parents=True, exist_ok=True)
    record = Record((options.out / "gpu.jsonl").resolve(), (options.out / "gpu.log").resolve())
    stages = [stage for stage in STAGES if options.only is None or stage.name in options.only]
    data = None if options.data is None else str(Path(options.data).resolve())
    wheels = None if options.wheels is None else options.wheels.resolve()
    outcomes = run(stages, record, data, options.budget, wheels=wheels, rehearse=options.rehearse, again=options.again)
    print(f"\n{report(outcomes, options.rehearse)}\n\nwritten to {os.path.relpath(record.path)}")
    asked_for = {stage.name for stage in stages} | {WHEELS.name, ENVIRONMENT.name}
    return exit_status({name: outcome for name, outcome in outcomes.items() if name in asked_for}, options.rehearse)


if __name__ == "__main__":
    sys.exit(main())
