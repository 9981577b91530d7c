"""What the measurements of script/bench share: options, statistics, tables, and the page that holds their figures."""

import argparse
import contextlib
import datetime
import io
import json
import os
import platform
import re
import shlex
import statistics
import subprocess
import sys
import time

import cluster

PAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "docs", "performance.md")
PROGRAM_SECONDS_MAX = 20
# What print_table writes: columns for a terminal, or Markdown.
_markdown = False


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
    """Columns that line up: numbers to the right, words to the left. The first row is the heading."""
    if _markdown:
        print()
        for number, row in enumerate(rows):
            print("| " + " | ".join(row) + " |")
            if number == 0:
                print("|---" * len(row) + "|")
        print()
        return
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [cell.rjust(width) if cell[:1].isdigit() else cell.ljust(width) for cell, width in zip(row, widths)]
        print("  ".join(cells).rstrip())


def machine():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        models = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    return {"cores": os.cpu_count(), "cpu": models[0] if models else platform.machine(), "kernel": platform.release()}


def version_of(*command):
    """The first number with dots that a program says of itself; it may say it on either output."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=PROGRAM_SECONDS_MAX, stdin=subprocess.DEVNULL,
            env=cluster.clean_environment())
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    found = re.search(r"\d+(\.\d+)+", done.stdout + done.stderr)
    return found[0] if found else "unknown"


def programs(binaries):
    """The versions of what is measured, or what it is measured with."""
    return {
        "Redis": version_of("redis-server", "--version"),
        "nutcracker": version_of("nutcracker", "--version"),
        "hkagent": version_of(os.path.join(binaries, "hkagent"), "--version"),
    }


def markers(name):
    return f"<!-- script/bench {name}: begin -->\n", f"<!-- script/bench {name}: end -->"


def split_page(name):
    """docs/performance.md before and after the figures of one measurement."""
    with open(PAGE, encoding="utf-8") as file:
        page = file.read()
    begin, end = markers(name)
    if page.count(begin) != 1 or page.count(end) != 1 or page.index(begin) > page.index(end):
        raise cluster.Failure(f"docs/performance.md has no place for {name}: a line {begin.strip()} and, below it, a line {end}")
    return page[:page.index(begin) + len(begin)], page[page.index(end):]


def printed(show, result, markdown):
    """What `show` prints."""
    global _markdown  # pylint: disable=global-statement
    _markdown = markdown
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        show(result)
    return output.getvalue()


def as_markdown(show, result):
    """The figures as docs/performance.md holds them: where from, then the tables."""
    versions = ", ".join(f"{name} {version}" for name, version in result["programs"].items() if version != "unknown")
    origin = "`{command}`, {date}: {cpu}, {cores} cores, Linux {kernel}; {versions}.\n\n".format(
        **result, **result["machine"], versions=versions)
    return re.sub(r"\n{3,}", "\n\n", origin + printed(show, result, True)).strip() + "\n"


def options_of(rounds, more_options):
    parser = argparse.ArgumentParser()
    parser.add_argument("--binaries", required=True)
    if rounds is not None:
        parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--update-docs", action="store_true")
    for option, details in more_options:
        parser.add_argument(option, **details)
    return parser.parse_args()


def command_line(name):
    """How the measurement was asked for, without what only says how to print. HOTKEY_BIN is named: those programs may be built
    from other sources, or in another way."""
    words, skip = [*(["HOTKEY_BIN=DIR"] if os.environ.get("HOTKEY_BIN") else []), "script/bench", name], False
    for word in sys.argv[1:]:
        if not skip and word not in ("--binaries", "--json", "--markdown", "--update-docs"):
            words.append(word)
        skip = word == "--binaries"
    return shlex.join(words)


def bench(name, rounds, run, show, more_options=()):
    """Runs one measurement: `run(cluster, options, progress)` returns what `show` prints, or what --json prints.

    `rounds` is how often it is repeated unless --rounds says so; None where nothing is. `more_options` are pairs of a name and
    what argparse wants to know of it. A result may have `problems`, a list of sentences: then the exit status is 1, the logs are
    kept, and the page of figures stays as it is.
    """
    options = options_of(rounds, more_options)
    sys.stdout.reconfigure(encoding="utf-8", errors="replace")
    cluster.stop_on_signals()
    started = time.monotonic()

    def progress(text):
        print(f"[{time.monotonic() - started:6.1f} s] {text}", file=sys.stderr, flush=True)
    with cluster.reporting("script/bench"):
        if options.update_docs:
            split_page(name)
        with cluster.Cluster(options.binaries, "hotkey-bench-") as servers:
            result = {
                "bench": name, "command": command_line(name), "date": datetime.date.today().isoformat(), "machine": machine(),
                "programs": programs(options.binaries), **({} if rounds is None else {"rounds": options.rounds}),
                **run(servers, options, progress)}
            problems = result.get("problems", [])
            servers.keep_directory = bool(problems)
        if options.json:
            print(json.dumps(result))
        elif options.markdown:
            print(as_markdown(show, result), end="")
        else:
            print("{cpu}, {cores} cores, kernel {kernel}".format(**result["machine"]))
            print(printed(show, result, False), end="")
        if problems:
            raise cluster.Failure("; ".join(problems))
        if options.update_docs:
            before, after = split_page(name)
            with open(PAGE, "w", encoding="utf-8") as file:
                file.write(before + as_markdown(show, result) + after)
