"""The load of script/bench mitigation: processes that ask at a given rate, through agents or past them, and note every reply.

A request is sent when it is due, whether or not those before it have been answered (an open loop), on the connection with the fewest
requests on their way. Its latency counts from then to its reply. What a process that was held up has missed is left out, not made up for.
"""

import gc
import itertools
import random
import selectors
import time
from collections import Counter, namedtuple

from children import Child
from connections import Pool
from load import command, value_of
from soak_resp import ReplyError, kind_of

CONNECTIONS = 8
TICK_SECONDS = 0.001
LOOK_AFTER_SECONDS = 0.05
# Of the load that was due while a process was held up, so much is sent.
CATCH_UP_SECONDS = 0.02
# Longer than an agent is ever stopped.
REPLY_SECONDS_MAX = 30

ANSWERED, EMPTY, REJECTED, FAILED = range(4)
# How an agent begins and goes on when a node's breaker is open.
REJECTION = "is down, nothing was sent"

# `process`: which one asked. `sent`: by `time.monotonic()`. `seconds`: until the reply. `outcome`: one of the four above.
Sample = namedtuple("Sample", "process sent seconds group is_write outcome")
# What is asked for: `place` is where the key lies, for what goes past the agents; `group` is a word of the caller's.
Target = namedtuple("Target", "key weight group place")


class Mix:
    """Requests that are drawn by weight."""

    def __init__(self, targets, write_share=0.0):
        self.targets, self.write_share = targets, write_share
        self.cumulated = list(itertools.accumulate(target.weight for target in targets))
        self.range = range(len(targets))
        self.gets = [command("GET", target.key) for target in targets]
        self.sets = [command("SET", target.key, value_of(target.key)) for target in targets] if write_share else []

    def draw(self, random_source):
        """A target, whether it is written, and the bytes."""
        [index] = random_source.choices(self.range, cum_weights=self.cumulated)
        is_write = bool(self.write_share) and random_source.random() < self.write_share
        return self.targets[index], is_write, (self.sets if is_write else self.gets)[index]


class Worker:
    """One process. `ways` has, by name, the ports of each place; a way with one place takes every key there."""

    def __init__(self, ways, mixes, seed, pipe):
        self.pipe, self.mixes = pipe, mixes
        self.random = random.Random(seed)
        self.selector = selectors.DefaultSelector()
        self.selector.register(pipe, selectors.EVENT_READ, None)
        self.connections_made, self.broken = 0, []
        self.ways = {
            way: {place: Pool(self, way, port, CONNECTIONS, REPLY_SECONDS_MAX) for place, port in places.items()}
            for way, places in ways.items()}
        self.used, self.mix, self.rate = {}, None, 0.0
        self.is_ending = False
        self.forget()

    def send(self):
        target, is_write, data = self.mix.draw(self.random)
        pool = self.used.get(target.place) or self.used.get(None)
        connection = pool.idlest()
        if connection is None:
            self.note(time.monotonic(), 0, target.group, is_write, FAILED)
            self.errors["no connection"] += 1
            return
        sent = connection.ask([data], lambda replies, now: self.answered(target.group, is_write, sent, replies, now))

    def answered(self, group, is_write, sent, replies, now):
        if replies is None:
            outcome, error = FAILED, "connection lost"
        elif isinstance(replies[0], ReplyError):
            outcome, error = REJECTED if REJECTION in replies[0] else FAILED, kind_of(replies[0])
        else:
            outcome, error = EMPTY if replies[0] is None else ANSWERED, None
        if error:
            self.errors[error] += 1
        self.note(sent, now - sent, group, is_write, outcome)

    def note(self, sent, seconds, group, is_write, outcome):
        self.samples.append((sent, seconds, group, is_write, outcome))

    def obey(self):
        what, argument = self.pipe.recv()
        if what == "begin":
            way, mix, self.rate = argument
            self.used, self.mix = self.ways[way], self.mixes[mix]
            self.look_after()
            self.pipe.send(None)
        elif what == "end":
            self.rate, self.is_ending = 0.0, True
        elif what == "forget":
            self.forget()
            self.pipe.send(None)
        elif what == "samples":
            self.pipe.send((self.samples, self.errors))
            self.forget()

    def forget(self):
        self.samples, self.errors = [], Counter()

    def is_waiting(self):
        return any(connection.pending for pool in self.used.values() for connection in pool.connections)

    def look_after(self):
        now = time.monotonic()
        for pool in self.used.values():
            pool.look_after(now)

    def run(self):
        # A collection would hold up requests, and there is nothing in circles to collect.
        gc.disable()
        allowance, last, looked = 0.0, time.monotonic(), 0.0
        while True:
            now = time.monotonic()
            allowance = min(allowance + self.rate * (now - last), max(1.0, self.rate * CATCH_UP_SECONDS))
            last = now
            if now - looked > LOOK_AFTER_SECONDS:
                looked = now
                self.look_after()
            while self.rate and allowance >= 1:
                allowance -= 1
                self.send()
            for connection in self.broken:
                connection.close()
            self.broken.clear()
            if self.is_ending and not self.is_waiting():
                self.is_ending = False
                self.pipe.send(None)
            for key, _ in self.selector.select(TICK_SECONDS):
                if key.data is None:
                    self.obey()
                elif key.data.socket is not None:
                    key.data.receive()


class MitigationLoad:
    """The processes, one for each pair of ways and mixes, which are as `Worker` wants them. Start it from the main thread, before any
    other thread."""

    def __init__(self, pairs, seed):
        self.children = [
            Child("a process of the load", Worker, (ways, mixes, f"{seed} {number}"), answer_seconds_max=2 * REPLY_SECONDS_MAX)
            for number, (ways, mixes) in enumerate(pairs)]

    def _ask(self, what, argument=None):
        for child in self.children:
            child.tell(what, argument)
        return [child.answer() for child in self.children]

    def begin(self, way, mix, rate):
        """`rate` requests a second from all processes together."""
        self._ask("begin", (way, mix, rate / len(self.children)))

    def end(self):
        """Returns when all that was asked has been answered."""
        self._ask("end")

    def forget(self):
        """Leaves out what has been answered so far."""
        self._ask("forget")

    def samples(self):
        """What was answered since the last time, and errors by their kind."""
        samples, errors = [], Counter()
        for process, (some, kinds) in enumerate(self._ask("samples")):
            samples += [Sample(process, *each) for each in some]
            errors.update(kinds)
        return samples, errors

    def kill(self):
        for child in self.children:
            child.kill()


def through_agent(agent):
    """The way through one agent, whatever the key."""
    return {None: agent.port}


def past_agents(nodes):
    """The way to the nodes by themselves."""
    return {node.node_name: node.port for node in nodes}
