"""script/bench fanout: from a publication to its being applied in every agent, beside the floor in the same run.

Ours: each agent is a session and a subscriber of the registry library; a coordinator publishes one more hot key. The floor: as
many sessions of the bare C library that read one znode again when its watch fires, which is set to as many bytes as our head
has. The two take turns, publication by publication. Both count from before the write to after the read.
"""

import argparse
import os
import resource
import subprocess

import cluster
from bench_report import bench, median, print_table, quantile

AGENTS = [10, 200, 1000]
WARM_UP = 5


class Driver(cluster.Server):
    """One of the two programs, which publishes when it is told to."""

    def start(self):
        self.process = subprocess.Popen(
            [*cluster.ENDS_WITH_US, *self.arguments], cwd=self.directory, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True, start_new_session=True, env=cluster.clean_environment())

    def wait_until_ready(self):
        if self.process.stdout.readline() != "ready\n":
            raise cluster.Failure(f"{self.name} did not get ready; it ended with {self.process.wait()}")

    def publish(self, command):
        """The numbers that it printed."""
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line.endswith("\n"):
            raise cluster.Failure(f"{self.name} ended in the middle: {self.process.wait()}")
        return [int(word) for word in line.split()]

    def memory_and_threads(self):
        """Resident KiB, threads."""
        with open(f"/proc/{self.pid}/status", encoding="utf-8") as file:
            fields = dict(line.split(":", 1) for line in file)
        return int(fields["VmRSS"].split()[0]), int(fields["Threads"])


def figures(rounds):
    """Of each round the quantiles over its agents; the median over the rounds."""
    return {
        "p50Milliseconds": median([quantile(times, 0.5) for times in rounds]) / 1_000,
        "p99Milliseconds": median([quantile(times, 0.99) for times in rounds]) / 1_000,
        "maxMilliseconds": max(max(times) for times in rounds) / 1_000,
    }


def measure(servers, agents, rounds, progress):
    programs = {}
    for name, program, place in [
            ("ours", "FanoutAgents", f"/fanout{agents}"), ("floor", "FanoutFloor", f"/floor{agents}")]:
        directory, log = servers.place(f"{name}{agents}")
        programs[name] = driver = servers.add(Driver(name, [
            os.path.join(servers.binaries, program), servers.zookeeper, place, str(agents)], directory, log))
        driver.wait_until_ready()
        progress(f"{agents} agents, {name}: ready")
    times = {"ours": [], "floor": []}
    head_bytes = 0
    for number in range(WARM_UP + rounds):
        head_bytes, *ours = programs["ours"].publish("publish")
        floor = programs["floor"].publish(f"publish {head_bytes}")
        if number >= WARM_UP:
            times["ours"].append(ours)
            times["floor"].append(floor)
    result = {"agents": agents, "headBytes": head_bytes}
    for name, driver in programs.items():
        kibibytes, threads = driver.memory_and_threads()
        result[name] = {
            **figures(times[name]), "kibibytesPerSession": kibibytes / agents, "threadsPerSession": threads / agents}
        driver.process.stdin.close()
        driver.stop()
    for share in ["p50", "p99"]:
        result[f"{share}Ratio"] = result["ours"][f"{share}Milliseconds"] / result["floor"][f"{share}Milliseconds"]
    return result


def run(servers, options, progress):
    # A socket a session; the servers inherit this.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    servers.start_zookeeper()
    return {"results": [measure(servers, agents, options.rounds, progress) for agents in options.agents]}


def show(result):
    rows = [["agents", "", "p50 ms", "p99 ms", "max ms", "KiB/session", "threads/session"]]
    for entry in result["results"]:
        for name in ["ours", "floor"]:
            part = entry[name]
            rows.append([
                str(entry["agents"]), name, *(f"{part[key]:.1f}" for key in (
                    "p50Milliseconds", "p99Milliseconds", "maxMilliseconds", "kibibytesPerSession", "threadsPerSession"))])
        rows.append([str(entry["agents"]), "ratio", f"{entry['p50Ratio']:.2f}", f"{entry['p99Ratio']:.2f}", "", "", ""])
    print_table(rows)


def agent_counts(text):
    counts = [int(word) for word in text.split(",")]
    if not all(1 <= count <= 5000 for count in counts):
        raise argparse.ArgumentTypeError("expected numbers from 1 to 5000 with commas between")
    return counts


if __name__ == "__main__":
    bench("fanout", 40, run, show, [("--agents", {"type": agent_counts, "default": AGENTS})])
