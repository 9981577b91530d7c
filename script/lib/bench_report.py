"""What the measurements of script/bench share: options, statistics, tables."""

import argparse
import json
import os
import platform
import statistics
import sys
import time

import cluster


def median(values):
    return statistics.median(values)


def quantile(values, share):
    """The smallest value that at least this share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -int(-len(ordered) * share // 1) - 1)]


def spread(values):
    """Seconds in, milliseconds out."""
    return {
        "count": len(values),
        "p50Milliseconds": quantile(values, 0.5) * 1_000,
        "p99Milliseconds": quantile(values, 0.99) * 1_000,
        "maxMilliseconds": max(values) * 1_000,
    }


def print_table(rows):
    """Columns that line up: numbers to the right, words to the left."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [cell.rjust(width) if cell[:1].isdigit() else cell.ljust(width) for cell, width in zip(row, widths)]
        print("  ".join(cells).rstrip())


def machine():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        models = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    return {"cores": os.cpu_count(), "cpu": models[0] if models else platform.machine(), "kernel": platform.release()}


def bench(name, rounds, run, show, more_options=()):
    """Runs one measurement: `run(cluster, options, progress)` returns what `show` prints, or what --json prints.

    `more_options` are pairs of a name and what argparse wants to know of it.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--binaries", required=True)
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--json", action="store_true")
    for option, details in more_options:
        parser.add_argument(option, **details)
    options = parser.parse_args()
    sys.stdout.reconfigure(encoding="utf-8", errors="replace")
    cluster.stop_on_signals()
    started = time.monotonic()

    def progress(text):
        print(f"[{time.monotonic() - started:6.1f} s] {text}", file=sys.stderr, flush=True)
    with cluster.reporting("script/bench"):
        with cluster.Cluster(options.binaries, "hotkey-bench-") as servers:
            result = {"bench": name, "rounds": options.rounds, "machine": machine(), **run(servers, options, progress)}
        if options.json:
            print(json.dumps(result))
        else:
            print("{cpu}, {cores} cores, kernel {kernel}".format(**result["machine"]))
            show(result)
