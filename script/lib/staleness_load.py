"""The load of script/bench staleness: one process that writes and reads through the agents and past them, and notes everything.

Each key has one writer, which sends its next write when the one before has ended, every time over another way: an agent, or the
node itself. Readers ask for all keys over several connections to each agent (an agent's event loops share out connections) and to
the nodes. A value is its key, its sequence number and the time at which it was written.
"""

import random
import selectors
import time

from children import Child
from connections import Pool
from load import command
from soak_resp import ReplyError
from staleness_check import DIRECT, FOREIGN, Read, Write

READERS_PER_AGENT = 4
WRITERS_PER_PATH = 4
TICK_SECONDS = 0.004
# A write without a reply for so long has an unknown outcome; its connection is given up.
WRITE_SECONDS_MAX = 3
# Longer than an agent is ever stopped.
READ_SECONDS_MAX = 15
# After a short one the next write meets what the last one left behind; a long one lets copies be filled and read.
WRITE_PAUSES_SECONDS = [(0.05, 0.6), (0.05, 0.6), (1.5, 4.0)]
STIR_SECONDS = 0.6
DIRECT_READ_PERCENT = 8
DIRECT_WRITE_PERCENT = 25
# Of unguarded writes: a guard does not outlive the value that it looks at.
DELETE_PERCENT = 15
MGET_PERCENT = 10
MGET_KEYS = 3
GETRANGE_PERCENT = 5
# Reads that follow an acknowledged write at once, through the same agent.
FOLLOWING_READS = 2

# A write that comes late does nothing beside a newer one.
GUARDED_WRITE = b"""
local held = redis.call('GET', KEYS[1])
if held and tonumber(string.match(held, ' (%d+) ')) >= tonumber(ARGV[2]) then return 0 end
redis.call('SET', KEYS[1], ARGV[1])
return 1
"""


def value_of(key, sequence, now):
    return f"{key} {sequence} {int(now * 1e9)}".encode()


def sequence_in(value, key):
    """The sequence number in a reply; None where there is no value."""
    if value is None:
        return None
    parts = value.split(b" ") if isinstance(value, bytes) else ()
    if len(parts) != 3 or parts[0] != key.encode() or not parts[1].isdigit():
        return FOREIGN
    return int(parts[1])


def guarded(key, sequence, value):
    return [command("EVAL", GUARDED_WRITE, 1, key, value, sequence)], lambda replies: replies[0] == 1


def delete(random_source, key):
    return ([command(random_source.choice(["DEL", "UNLINK", "GETDEL"]), key)],
            lambda replies: not isinstance(replies[0], ReplyError))


def unguarded(random_source, key, value):
    """One of the ways to replace a value, as commands and as what their replies have to say."""
    draw = random_source.randrange(10)
    if draw < 5:
        return [command("SET", key, value)], lambda replies: replies[0] == b"OK"
    if draw < 6:
        return [command("SET", key, value, "GET")], lambda replies: not isinstance(replies[0], ReplyError)
    if draw < 7:
        return [command("MSET", key, value)], lambda replies: replies[0] == b"OK"
    if draw < 8:
        return ([command("MULTI"), command("SET", key, value), command("EXEC")], lambda replies: replies[2] == [b"OK"])
    # By twemproxy's rule a name in braces lies where the key lies.
    draft = f"{{{key}}}.draft"
    change = command("RENAME", draft, key) if draw < 9 else command("COPY", draft, key, "REPLACE")
    return [command("SET", draft, value), change], lambda replies: replies[0] == b"OK" and replies[1] in (b"OK", 1)


class Writer:
    """The one writer of a key."""

    def __init__(self, worker, key, is_guarded):
        self.worker, self.key, self.is_guarded = worker, key, is_guarded
        self.sequence = 0
        self.is_under_way = self.is_stirred = False
        # When the delete was sent that is under way.
        self.delete_sent = None
        self.next_at = 0

    def stir(self, now):
        self.is_stirred = True
        self.next_at = now + self.worker.random.uniform(0, STIR_SECONDS)

    def act(self, now):
        if self.is_under_way or now < self.next_at:
            return
        path, connection = self.worker.writing_way(self.key, self.is_stirred)
        if connection is None:
            return
        self.is_stirred = False
        self.sequence += 1
        sequence, value = self.sequence, value_of(self.key, self.sequence, now)
        is_delete = not self.is_guarded and self.worker.random.randrange(100) < DELETE_PERCENT
        if is_delete:
            commands, is_done = delete(self.worker.random, self.key)
        elif self.is_guarded:
            commands, is_done = guarded(self.key, sequence, value)
        else:
            commands, is_done = unguarded(self.worker.random, self.key, value)
        self.is_under_way = True
        sent = connection.ask(commands, lambda replies, then: self.ended(Write(
            sequence, path, sent, then, replies is not None and is_done(replies), self.is_guarded, is_delete)))
        self.delete_sent = sent if is_delete else None

    def ended(self, write):
        self.is_under_way, self.delete_sent = False, None
        self.next_at = write.ended + self.worker.random.uniform(*self.worker.random.choice(WRITE_PAUSES_SECONDS))
        self.worker.writes.append((self.key, write))
        if not write.is_acknowledged:
            self.worker.unknown_writes += 1
        elif write.path != DIRECT:
            for _ in range(FOLLOWING_READS):
                self.worker.read(write.path, self.key)


class Worker:
    def __init__(self, agents, nodes, keys, rate, seed, pipe):
        """`agents`: names to ports. `nodes`: names to ports. `keys`: to whether their writes are guarded."""
        self.pipe, self.rate = pipe, rate
        self.random = random.Random(seed)
        self.selector = selectors.DefaultSelector()
        self.selector.register(pipe, selectors.EVENT_READ, None)
        self.connections_made = self.unknown_writes = self.failed_reads = 0
        self.broken, self.writes, self.reads = [], [], []
        self.homes = dict.fromkeys(keys)
        self.agents, self.keys = list(agents), list(keys)
        self.readers = {name: Pool(self, name, port, READERS_PER_AGENT, READ_SECONDS_MAX) for name, port in agents.items()}
        self.writers = {name: Pool(self, name, port, WRITERS_PER_PATH, WRITE_SECONDS_MAX) for name, port in agents.items()}
        self.direct = {name: Pool(self, DIRECT, port, 2, WRITE_SECONDS_MAX) for name, port in nodes.items()}
        self.writing = [Writer(self, key, is_guarded) for key, is_guarded in keys.items()]
        self.is_running = True

    def direct_way(self, key):
        home = self.homes[key]
        return self.direct[home].idlest() if home else None

    def writing_way(self, key, is_direct=False):
        if is_direct or self.random.randrange(100) < DIRECT_WRITE_PERCENT:
            return DIRECT, self.direct_way(key)
        agent = self.random.choice(self.agents)
        return agent, self.writers[agent].idlest()

    def read(self, path=None, key=None):
        if path is None:
            path = DIRECT if self.random.randrange(100) < DIRECT_READ_PERCENT else self.random.choice(self.agents)
        draw, keys = self.random.randrange(100), [key or self.random.choice(self.keys)]
        connection = self.direct_way(keys[0]) if path == DIRECT else self.readers[path].any(self.random)
        if connection is None:
            return
        if draw < GETRANGE_PERCENT:
            asked = command("GETRANGE", keys[0], 0, -1)
        elif draw < GETRANGE_PERCENT + MGET_PERCENT and path != DIRECT:
            keys += self.random.sample(self.keys, MGET_KEYS - 1)
            asked = command("MGET", *keys)
        else:
            asked = command("GET", keys[0])
        number = connection.number
        sent = connection.ask([asked], lambda replies, now: self.answered(path, number, keys, sent, replies, now))

    def answered(self, path, number, keys, sent, replies, now):
        if replies is None or isinstance(replies[0], ReplyError):
            self.failed_reads += 1
            return
        values = replies[0] if isinstance(replies[0], list) else replies
        if len(values) != len(keys):
            values = [b""] * len(keys)
        for key, value in zip(keys, values):
            # GETRANGE has no other word for "no value".
            value = None if value == b"" and len(keys) == 1 else value
            # What an MGET has no answer to is an error within it.
            if isinstance(value, ReplyError):
                self.failed_reads += 1
                continue
            self.reads.append(Read(key, path, number, sent, now, sequence_in(value, key)))

    def obey(self):
        what, argument = self.pipe.recv()
        if what == "homes":
            self.homes.update(argument)
            self.pipe.send(None)
        elif what == "stir":
            now = time.monotonic()
            for writer in self.writing:
                writer.stir(now)
            self.pipe.send(None)
        elif what == "history":
            deletes = {writer.key: writer.delete_sent for writer in self.writing if writer.delete_sent is not None}
            self.pipe.send((self.writes, self.reads, deletes, self.unknown_writes, self.failed_reads))
            self.writes, self.reads = [], []
            self.unknown_writes = self.failed_reads = 0
        elif what == "stop":
            self.is_running = False

    def run(self):
        allowance, last = 0.0, time.monotonic()
        pools = [*self.readers.values(), *self.writers.values(), *self.direct.values()]
        while self.is_running:
            now = time.monotonic()
            # What was missed is not made up for in a burst.
            allowance = min(allowance + self.rate * (now - last), self.rate * 0.05)
            last = now
            for pool in pools:
                pool.look_after(now)
            for writer in self.writing:
                writer.act(now)
            while allowance >= 1:
                allowance -= 1
                self.read()
            for connection in self.broken:
                connection.close()
            self.broken.clear()
            for key, _ in self.selector.select(TICK_SECONDS):
                if key.data is None:
                    self.obey()
                elif key.data.socket is not None:
                    key.data.receive()


class StalenessLoad:
    """The process. Start it from the main thread, before any other thread: it is forked."""

    def __init__(self, agents, nodes, keys, rate, seed):
        self.child = Child("the process of readers and writers", Worker, (agents, nodes, keys, rate, seed))

    def set_homes(self, homes):
        """Where the keys lie, for what goes past the agents. None: nowhere yet, so nothing goes past them."""
        self.child.ask("homes", homes)

    def stir(self):
        """Every key is written past the agents within `STIR_SECONDS`, at a random moment: what agents hold is old when a fault
        begins just then."""
        self.child.ask("stir")

    def history(self):
        """What ended since the last time: writes as pairs with their key, and reads; keys whose delete is under way, and since when;
        how many writes and reads failed."""
        return self.child.ask("history")

    def kill(self):
        self.child.kill()
