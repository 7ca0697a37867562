"""Kills training runs again and again, and compares what they saw in the end with a run that was left alone.

    python tests/resume/kill.py --kills 300 --seed 0

Every run trains on hardest pairs on gloo ranks; all of its processes get SIGKILL at a random point, be it while they start, train or
write a checkpoint, and the run goes on from its latest checkpoint. Half of the runs go on with 1, 2 or 4 ranks, whichever is drawn: the
sequence of samples and their rows must be that of the run left alone, bit for bit. The other half keep their number of ranks: the chosen
views and the weights in the end must be the same, too. Prints a table; exit status 1 if anything differs.
"""

import argparse
import logging
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

os.environ["GLOO_SOCKET_IFNAME"] = "lo"
os.environ["OMP_NUM_THREADS"] = "1"

import torch  # noqa: E402
import torch._dynamo  # noqa: E402, F401  an optimiser imports it, and takes longer for it than for the whole training here

import hvs_data as hvs  # noqa: E402
import resumable  # noqa: E402

RANKS = (1, 2, 4)


def start(world_size, images, run, segment, every):
    """Processes of one segment; forked, since importing takes longer than training here."""
    processes = []
    for rank in range(world_size):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                resumable.train(rank, world_size, images, run, segment, every)
                status = 0
            except BaseException:
                # a rank whose neighbour was killed first
                (run / f"error-{segment}-{rank}.txt").write_text(traceback.format_exc())
            finally:
                os._exit(status)
        processes.append(child)
    return processes


def wait_for(processes):
    """Whether all of them ended well."""
    return all([os.waitpid(process, 0)[1] == 0 for process in processes])


def killed(processes, draw, seconds):
    """Kill all after a random time within these seconds. Returns whether the run was killed before it ended."""
    time.sleep(draw.uniform(0, seconds))
    for process in draw.sample(processes, len(processes)):
        os.kill(process, signal.SIGKILL)  # not waited for yet, so the number is still theirs
    # all of them, or the run had come to its end
    return not wait_for(processes)


def left_alone(world_size, images, run):
    """What a run sees that nobody kills, its weights in the end, and the seconds it takes."""
    run.mkdir()
    begun = time.perf_counter()
    assert wait_for(start(world_size, images, run, 0, 5)), "the run that was left alone failed"
    return resumable.history(run), torch.load(run / "checkpoint.pt")["model"], time.perf_counter() - begun


def trial(draw, images, run, seconds, ranks):
    """One run, killed at most some times and resumed each time. Returns how often it was killed, by ranks before and after."""
    run.mkdir()
    kills = Counter()
    before, world_size = None, draw.choice(ranks)
    for segment in range(10_000):
        every = draw.randint(1, 6)
        processes = start(world_size, images, run, segment, every)
        if segment >= 12 or draw.random() < 0.1:
            assert wait_for(processes), f"segment {segment} of {run} failed"
            return kills
        if not killed(processes, draw, seconds[world_size]):
            return kills
        before, world_size = world_size, draw.choice(ranks)
        kills[before, world_size] += 1
    raise AssertionError("never came to an end")


def flat(history, *keys):
    """The samples of a history, in order."""
    return [(step["epoch"], *values) for step in history for values in zip(*(step[key] for key in keys), strict=True)]


def main():
    parser = argparse.ArgumentParser(description="Kill training runs and check that they resume exactly.")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    logging.getLogger("hvs_data").setLevel(logging.ERROR)  # of the broken images, in every process
    draw, kills, runs, differing = random.Random(arguments.seed), Counter(), 0, []
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        images = folder / "images"
        resumable.write_images(images)
        # compiled once, and no thread of it left when processes are forked
        next(iter(hvs.ViewLoader(images, resumable.RECIPE, resumable.BATCH, num_threads=1)))
        alone = {world_size: left_alone(world_size, images, folder / f"alone-{world_size}") for world_size in RANKS}
        seconds = {world_size: taken for world_size, (_, _, taken) in alone.items()}
        expected = flat(alone[1][0], "index", "rows")
        assert len(expected) == resumable.EPOCHS * resumable.IMAGES
        while sum(kills.values()) < arguments.kills:
            ranks = RANKS if runs % 2 == 0 else (draw.choice(RANKS),)
            run = folder / f"run-{runs}"
            kills += trial(draw, images, run, seconds, ranks)
            runs += 1
            history = resumable.history(run)
            if flat(history, "index", "rows") != expected:
                differing.append(f"run {runs}: other samples or rows")
            if len(ranks) == 1:
                its_history, its_model, _ = alone[ranks[0]]
                model = torch.load(run / "checkpoint.pt")["model"]
                if history != its_history or any(not torch.equal(model[name], its_model[name]) for name in its_model):
                    differing.append(f"run {runs}: other views or weights")
    print("| ranks before \\ after |" + "".join(f" {after:>4} |" for after in RANKS))
    for before in RANKS:
        print(f"| {before:>20} |" + "".join(f" {kills[before, after]:>4} |" for after in RANKS))
    minutes = (time.perf_counter() - begun) / 60
    print(f"{sum(kills.values())} kills in {runs} runs, seed {arguments.seed}, {minutes:.1f} min: {len(differing)} runs differ")
    print(*differing, sep="\n")
    return int(bool(differing))


if __name__ == "__main__":
    sys.exit(main())
