"""``hvs-data check``: are the files of a source sound."""

from __future__ import annotations

import argparse
import time

from hvs_data.commands.arguments import whole
from hvs_data.commands.progress import Progress

BAD = 1

ABOUT = (
    "Read and decode every image once, and tell what is there: counts, sizes, kinds of files, pictures that stand there twice, mean and "
    "standard deviation, and what cannot be used and why. Writes a page to look at, and a list of what cannot be used in the form of a "
    "loader's quarantine. Exit status 0: all images can be used; 1: some cannot; 2: the source cannot be opened."
)


def add(check: argparse.ArgumentParser) -> None:
    check.set_defaults(run=run)
    check.add_argument("source", help="a folder, tar shards or Parquet files, as hvs_data.open_source takes them (quote patterns)")
    check.add_argument("--layout", choices=("auto", "classes", "flat"), default="auto", help="how to read a folder (%(default)s)")
    check.add_argument("--report", metavar="FILE", default="check-report.html", help="the HTML file to write (%(default)s)")
    check.add_argument("--quarantine", metavar="FILE", default="check-bad.jsonl", help="the list to write, if there are any (%(default)s)")
    check.add_argument("--threads", metavar="N", type=whole(1), help="that read and decode; left out: a fair share of the CPUs")


def run(options: argparse.Namespace) -> int:
    from hvs_data import open_source
    from hvs_data.checking.page import page
    from hvs_data.checking.scan import scan, write_quarantine, write_whole
    from hvs_data.checking.words import facts
    from hvs_data.threads.share import default_threads

    source = open_source(options.source) if options.layout == "auto" else open_source(options.source, layout=options.layout)
    threads = options.threads or default_threads()
    start = time.monotonic()
    with Progress("images", len(source)) as progress:
        findings = scan(source, threads, progress.update)
    seconds = time.monotonic() - start
    for name, words in facts(source, findings, seconds, threads):
        print(f"{name + ':':<16}{words}")
    write_whole(options.report, page(source, options.source, findings, seconds, threads))
    print(f"written: {options.report}")
    if findings.bad:
        write_quarantine(options.quarantine, source, findings.bad)
        print(f"written: {options.quarantine}")
    return BAD if findings.bad else 0
