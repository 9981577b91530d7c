"""What script/bench soak does to the nodes, and what it reads off the agents meanwhile."""

import contextlib
import os
import signal
import statistics
import time

import redis

# How long errors are excused once a node answers again: breakers stay open for up to 2 s and let probes through first, and
# reconnects have pauses.
GRACE_SECONDS = 6
CALM_SECONDS = (3, 15)
SAMPLE_SECONDS = 1
MIB = 1 << 20


class Faults:
    """One fault after the other, at one node each. `tick` is called again and again, from the thread that starts servers."""

    KINDS = {
        "killed, back empty at once": (0, 0.5),
        "killed, back empty after seconds": (1, 6),
        "stopped (SIGSTOP) for less than a timeout": (0.1, 1.5),
        "stopped (SIGSTOP) for seconds": (2.5, 8),
        "shut down, back with its data": (0, 3),
        "connections cut": (0, 0),
    }

    def __init__(self, nodes, shared, random, say):
        self.nodes, self.shared, self.random, self.say = nodes, shared, random, say
        self.counts = dict.fromkeys(self.KINDS, 0)
        self.under_way = None
        self.next_at = time.monotonic() + self.random.uniform(*CALM_SECONDS)
        self.ends_at = 0
        self.is_over = False
        # Every kind comes before any comes again.
        self.kinds = []

    def tick(self, now):
        if self.under_way is None:
            if now >= self.next_at and not self.is_over:
                self.begin(now)
        elif not self.is_over and now < self.ends_at:
            return
        elif self.ends_at:
            self.end()
        elif self.under_way[1].is_answering():
            self.under_way = None
            self.shared.excused_until.value = now + GRACE_SECONDS
            self.next_at = now + GRACE_SECONDS + self.random.uniform(*CALM_SECONDS)

    def begin(self, now):
        if not self.kinds:
            self.kinds = self.random.sample(list(self.KINDS), len(self.KINDS))
        kind, node = self.kinds.pop(), self.random.choice(self.nodes)
        seconds = self.random.uniform(*self.KINDS[kind])
        self.shared.excused_until.value = float("inf")
        self.under_way, self.ends_at = (kind, node), now + seconds
        self.counts[kind] += 1
        self.say(f"{node.name}: {kind}" + (f" ({seconds:.1f} s)" if seconds else ""))
        if kind.startswith("killed"):
            node.kill()
        elif kind.startswith("stopped"):
            os.kill(node.pid, signal.SIGSTOP)
        elif kind.startswith("shut down"):
            # It ends the connection instead of answering.
            with contextlib.suppress(redis.exceptions.RedisError):
                node.client.shutdown(save=True)
            node.process.wait()
        else:
            node.client.execute_command("CLIENT", "KILL", "TYPE", "normal")

    def end(self):
        kind, node = self.under_way
        self.ends_at = 0
        if kind.startswith("killed"):
            with contextlib.suppress(FileNotFoundError):
                os.remove(os.path.join(node.directory, "dump.rdb"))
            node.start()
        elif kind.startswith("shut down"):
            node.start()
        elif kind.startswith("stopped"):
            os.kill(node.pid, signal.SIGCONT)

    def finish(self):
        """No more faults; the one that is under way ends."""
        self.is_over = True


def readings(agent):
    """Resident bytes, descriptors and threads of an agent's process."""
    with open(f"/proc/{agent.pid}/status", encoding="utf-8") as file:
        fields = dict(line.split(":", 1) for line in file)
    return {
        "memoryBytes": int(fields["VmRSS"].split()[0]) * 1024,
        "descriptors": len(os.listdir(f"/proc/{agent.pid}/fd")),
        "threads": int(fields["Threads"]),
    }


class Samples:
    """An agent's process over time."""

    def __init__(self, agent):
        self.agent = agent
        self.idle_before = readings(agent)
        self.clients_before = int(agent.metric("hotkey_clients"))
        self.idle_after = None
        self.clients_after = self.in_flight_after = 0
        self.taken = []

    def take(self, now):
        self.taken.append((now, readings(self.agent)))

    def summary(self, warm_up_ends):
        """What it held when it had warmed up and at the end, each the mean of a fifth of the time in between, and the slope."""
        warm = [(now, reading) for now, reading in self.taken if now >= warm_up_ends]
        fifth = max(1, len(warm) // 5)
        fields = {}
        for field in ("memoryBytes", "descriptors", "threads"):
            values = [reading[field] for _, reading in warm]
            times = [now for now, _ in warm]
            slope = statistics.linear_regression(times, values).slope if len(values) > 1 else 0.0
            fields[field] = {
                "idleBefore": self.idle_before[field], "warm": statistics.fmean(values[:fifth]),
                "end": statistics.fmean(values[-fifth:]), "max": max(reading[field] for _, reading in self.taken),
                "perHour": slope * 3_600, "idleAfter": self.idle_after[field]}
        return fields
