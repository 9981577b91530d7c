"""Load on agents: one process for each agent, with connections of its own, steered and read through shared memory.

A stream sends at an even pace and in pipelines. When the process was held up it does not catch up in a burst: a burst
would look like heat that nobody asked for. What was really sent is counted, and only that is quoted.
"""

import ctypes
import itertools
import multiprocessing
import os
import random
import select
import socket
import time
from collections import deque

import children

TICK_SECONDS = 0.005
# Later than this, the ticks that were missed are left out.
LATE_SECONDS = 0.02
# Requests without a reply on one connection; beyond them a stream waits.
PENDING_MAX = 2_000
RECEIVE_BYTES = 1 << 16
KEY_BYTES_MAX = 128


def command(*words):
    """A command as RESP."""
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        data = word if isinstance(word, bytes) else str(word).encode()
        parts.append(b"$%d\r\n%s\r\n" % (len(data), data))
    return b"".join(parts)


class Tally:
    """What became of the requests of one kind at one agent. In shared memory, written by one process."""

    FIELDS = ("sent", "answered", "empty", "failed")

    def __init__(self):
        self.counts = multiprocessing.RawArray(ctypes.c_longlong, len(self.FIELDS))
        self.first_sent_at = multiprocessing.RawValue(ctypes.c_double, 0)
        self.slowest_seconds = multiprocessing.RawValue(ctypes.c_double, 0)
        self.last_error = multiprocessing.RawArray(ctypes.c_char, 200)

    def snapshot(self):
        return dict(zip(self.FIELDS, self.counts))

    def count_sent(self, now):
        self.counts[0] += 1
        if not self.first_sent_at.value:
            self.first_sent_at.value = now

    def count_reply(self, outcome, seconds, error=b""):
        self.counts[outcome] += 1
        if seconds > self.slowest_seconds.value:
            self.slowest_seconds.value = seconds
        if error:
            self.last_error.value = error[:199]


ANSWERED, EMPTY, FAILED = 1, 2, 3


class Stream:
    """Requests of one sort, on one connection an agent. Subclasses say which."""

    def __init__(self, name):
        self.name = name
        self.rate = multiprocessing.RawValue(ctypes.c_double, 0)

    def kinds(self):
        """The names of the kinds that its requests are counted under."""
        return [self.name]

    def prepare(self, agent_number):
        """Called once, in the process that sends."""

    def requests(self, count):
        """`count` pairs of kind and bytes."""
        raise NotImplementedError


class OneKey(Stream):
    """GETs of one key, which may be changed between runs."""

    def __init__(self, name, key=""):
        super().__init__(name)
        self.shared_key = multiprocessing.RawArray(ctypes.c_char, KEY_BYTES_MAX)
        self.key = key

    @property
    def key(self):
        return self.shared_key.value.decode()

    @key.setter
    def key(self, key):
        self.shared_key.value = key.encode()

    def requests(self, count):
        return [(self.name, command("GET", self.shared_key.value))] * count


def zipf_weights(count, exponent):
    """How often keys are asked for, the most frequent first, in parts of how often that one is."""
    return [1 / rank ** exponent for rank in range(1, count + 1)]


class Zipf(Stream):
    """GETs, and some SETs, of keys whose frequency falls with their rank to the power of `exponent`.

    `reads` and `writes` say, for each key from the most frequent on, under which kind a request is counted; no kind:
    such requests are not sent.
    """

    def __init__(self, name, keys, reads, writes, write_share, exponent=0.99, seed=1):
        super().__init__(name)
        self.keys, self.reads, self.writes, self.write_share, self.seed = keys, reads, writes, write_share, seed
        self.cumulated = list(itertools.accumulate(zipf_weights(len(keys), exponent)))

    def kinds(self):
        return sorted({kind for kind in self.reads + self.writes if kind})

    def prepare(self, agent_number):
        self.random = random.Random(self.seed * 1_000 + agent_number)
        self.gets = [(kind, command("GET", key)) for kind, key in zip(self.reads, self.keys)]
        self.sets = [(kind, command("SET", key, value_of(key))) for kind, key in zip(self.writes, self.keys)]

    def requests(self, count):
        chosen = self.random.choices(range(len(self.keys)), cum_weights=self.cumulated, k=count)
        pairs = [(self.sets if self.random.random() < self.write_share else self.gets)[index] for index in chosen]
        return [pair for pair in pairs if pair[0]]


def value_of(key):
    """64 bytes that belong to the key."""
    return f"value of {key} ".ljust(64, ".")


class Pipe:
    """One connection of one stream."""

    def __init__(self, port, stream, tallies):
        self.port, self.stream, self.tallies = port, stream, tallies
        self.carry = 0.0
        self.pending = deque()
        self.received = bytearray()
        self.socket = None
        self.connect()

    def connect(self):
        self.socket = socket.create_connection(("127.0.0.1", self.port), 5)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def tick(self):
        self.carry += self.stream.rate.value * TICK_SECONDS
        count = int(self.carry)
        self.carry -= count
        if count == 0 or len(self.pending) > PENDING_MAX:
            return
        if self.socket is None:
            try:
                self.connect()
            except OSError:
                return
        requests = self.stream.requests(count)
        now = time.monotonic()
        for kind, _ in requests:
            self.tallies[kind].count_sent(now)
            self.pending.append((kind, now))
        try:
            self.socket.sendall(b"".join(data for _, data in requests))
        except OSError as error:
            self.lost(str(error))

    def receive(self):
        try:
            data = self.socket.recv(RECEIVE_BYTES)
        except OSError as error:
            self.lost(str(error))
            return
        if not data:
            self.lost("the agent closed the connection")
            return
        self.received += data
        self.take_replies(time.monotonic())

    def take_replies(self, now):
        buffer, position = self.received, 0
        while (line_end := buffer.find(b"\r\n", position)) >= 0:
            sign, outcome, error, after = buffer[position], ANSWERED, b"", line_end + 2
            if sign == ord("$"):
                length = int(buffer[position + 1:line_end])
                if length < 0:
                    outcome = EMPTY
                else:
                    after += length + 2
                    if after > len(buffer):
                        break
            elif sign == ord("_"):
                outcome = EMPTY
            elif sign == ord("-"):
                outcome, error = FAILED, bytes(buffer[position + 1:line_end])
            kind, sent_at = self.pending.popleft()
            self.tallies[kind].count_reply(outcome, now - sent_at, error)
            position = after
        del buffer[:position]

    def lost(self, reason):
        now = time.monotonic()
        for kind, sent_at in self.pending:
            self.tallies[kind].count_reply(FAILED, now - sent_at, reason.encode())
        self.pending.clear()
        self.received.clear()
        self.socket.close()
        self.socket = None


class Load:
    """Streams on several agents. Start it from the main thread, before any other thread: its processes are forked."""

    def __init__(self, ports, streams):
        self.ports = ports
        self.streams = streams
        kinds = sorted({kind for stream in streams for kind in stream.kinds()})
        self.tallies = [{kind: Tally() for kind in kinds} for _ in ports]
        # A factor for each agent: 0 leaves it out.
        self.shares = [multiprocessing.RawValue(ctypes.c_double, 1) for _ in ports]
        self.processes = []

    def start(self):
        context = multiprocessing.get_context("fork")
        parent = os.getpid()
        for number in range(len(self.ports)):
            process = context.Process(target=self._run, args=(number, parent), daemon=True)
            process.start()
            self.processes.append(process)

    def stop(self):
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.join()

    def is_running(self):
        return all(process.is_alive() for process in self.processes)

    def counts(self, *kinds):
        """Sums over the agents: of one kind, or of several."""
        total = dict.fromkeys(Tally.FIELDS, 0)
        for tallies in self.tallies:
            for kind in kinds:
                for field, count in tallies[kind].snapshot().items():
                    total[field] += count
        return total

    def first_sent_at(self, kind):
        """When the first request of the kind was sent, by `time.monotonic()`; None while there was none."""
        return min((t[kind].first_sent_at.value for t in self.tallies if t[kind].first_sent_at.value), default=None)

    def slowest_seconds(self, kind):
        return max(tallies[kind].slowest_seconds.value for tallies in self.tallies)

    def last_error(self, kind):
        return next((t[kind].last_error.value.decode(errors="replace") for t in self.tallies
                     if t[kind].last_error.value), "")

    def forget_times(self, kind):
        """Starts first request, slowest reply and last error of the kind anew."""
        for tallies in self.tallies:
            tallies[kind].first_sent_at.value = 0
            tallies[kind].slowest_seconds.value = 0
            tallies[kind].last_error.value = b""

    def _run(self, number, parent):
        if not children.live_with(parent):
            return
        pipes = []
        for stream in self.streams:
            stream.prepare(number)
            pipes.append(Pipe(self.ports[number], stream, self.tallies[number]))
        share = self.shares[number]
        due = time.monotonic()
        while True:
            if share.value:
                for pipe in pipes:
                    pipe.tick()
            due += TICK_SECONDS
            if time.monotonic() - due > LATE_SECONDS:
                due = time.monotonic()
            while True:
                left = due - time.monotonic()
                sockets = {pipe.socket: pipe for pipe in pipes if pipe.socket}
                readable, _, _ = select.select(list(sockets), [], [], max(0, left))
                for each in readable:
                    sockets[each].receive()
                if left <= 0:
                    break
