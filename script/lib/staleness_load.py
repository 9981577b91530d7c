"""The load of script/bench staleness: one process that writes and reads through the agents and past them, and notes everything.

Each key has one writer, which sends its next write when the one before has ended, every time over another way: an agent, or the
node itself. Readers ask for all keys over several connections to each agent (an agent's event loops share out connections) and to
the nodes. A value is its key, its sequence number and the time at which it was written.
"""

import multiprocessing
import os
import random
import selectors
import socket
import time
import traceback
from collections import deque

import children
import cluster
from load import command
from soak_resp import Incomplete, ReplyError, parse
from staleness_check import DIRECT, FOREIGN, Read, Write

READERS_PER_AGENT = 4
WRITERS_PER_PATH = 4
TICK_SECONDS = 0.004
CONNECT_SECONDS_MAX = 1
RECONNECT_SECONDS = 0.1
# A write without a reply for so long has an unknown outcome; its connection is given up.
WRITE_SECONDS_MAX = 3
# Longer than an agent is ever stopped.
READ_SECONDS_MAX = 15
PENDING_MAX = 1_000
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
RECEIVE_BYTES = 1 << 16
HISTORY_SECONDS_MAX = 30

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


class Connection:
    """To an agent or a node. What was asked is answered in order; `done` gets the replies, or None when there are none."""

    def __init__(self, worker, path, port, seconds_max):
        self.worker, self.path, self.port, self.seconds_max = worker, path, port, seconds_max
        self.number = worker.connections_made = worker.connections_made + 1
        self.pending, self.replies, self.received = deque(), [], bytearray()
        self.socket = socket.create_connection(("127.0.0.1", port), CONNECT_SECONDS_MAX)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        worker.selector.register(self.socket, selectors.EVENT_READ, self)

    def ask(self, commands, done):
        """Returns when it was sent."""
        now = time.monotonic()
        self.pending.append((len(commands), now, done))
        data = b"".join(commands)
        try:
            is_sent = self.socket.send(data) == len(data)
        except OSError:
            is_sent = False
        if not is_sent:
            # Not at once: the caller has not noted what it asked yet.
            self.worker.broken.append(self)
        return now

    def receive(self):
        try:
            data = self.socket.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        now = time.monotonic()
        if not data:
            self.close()
            return
        self.received += data
        position = 0
        try:
            while position < len(self.received):
                value, position = parse(self.received, position)
                if not self.pending:
                    # Nothing was asked: an agent that says why it lets the client go.
                    self.close()
                    return
                self.replies.append(value)
                if len(self.replies) == self.pending[0][0]:
                    replies, self.replies = self.replies, []
                    self.pending.popleft()[2](replies, now)
        except Incomplete:
            pass
        del self.received[:position]

    def look_after(self, now):
        if self.pending and now - self.pending[0][1] > self.seconds_max:
            self.close()

    def close(self):
        if self.socket is None:
            return
        self.worker.selector.unregister(self.socket)
        self.socket.close()
        self.socket = None
        now = time.monotonic()
        pending, self.pending = self.pending, deque()
        for _, _, done in pending:
            done(None, now)


class Pool:
    """Connections over one path, made anew when they are lost."""

    def __init__(self, worker, path, port, count, seconds_max):
        self.worker, self.path, self.port, self.count, self.seconds_max = worker, path, port, count, seconds_max
        self.connections, self.next_try = [], 0

    def look_after(self, now):
        for connection in self.connections:
            connection.look_after(now)
        self.connections = [connection for connection in self.connections if connection.socket is not None]
        if len(self.connections) < self.count and now >= self.next_try:
            self.next_try = now + RECONNECT_SECONDS
            try:
                while len(self.connections) < self.count:
                    self.connections.append(Connection(self.worker, self.path, self.port, self.seconds_max))
            except OSError:
                pass

    def any(self, random_source):
        usable = [each for each in self.connections if each.socket is not None and len(each.pending) < PENDING_MAX]
        return random_source.choice(usable) if usable else None

    def idlest(self):
        usable = [each for each in self.connections if each.socket is not None]
        return min(usable, key=lambda each: len(each.pending), default=None)


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


def run_worker(arguments, pipe, parent):
    if not children.live_with(parent):
        return
    try:
        Worker(*arguments, pipe).run()
    except EOFError:
        pass
    except Exception:  # pylint: disable=broad-except
        traceback.print_exc()


class StalenessLoad:
    """The process. Start it from the main thread, before any other thread: it is forked."""

    def __init__(self, agents, nodes, keys, rate, seed):
        context = multiprocessing.get_context("fork")
        self.pipe, other = context.Pipe()
        self.process = context.Process(
            target=run_worker, args=((agents, nodes, keys, rate, seed), other, os.getpid()), daemon=True)
        self.process.start()
        other.close()

    def _ask(self, what, argument=None):
        try:
            self.pipe.send((what, argument))
            if self.pipe.poll(HISTORY_SECONDS_MAX):
                return self.pipe.recv()
        except (EOFError, BrokenPipeError):
            pass
        raise cluster.Failure("the process of readers and writers ended or hangs; what it said stands above")

    def set_homes(self, homes):
        """Where the keys lie, for what goes past the agents. None: nowhere yet, so nothing goes past them."""
        self._ask("homes", homes)

    def stir(self):
        """Every key is written past the agents within `STIR_SECONDS`, at a random moment: what agents hold is old when a fault
        begins just then."""
        self._ask("stir")

    def history(self):
        """What ended since the last time: writes as pairs with their key, and reads; keys whose delete is under way, and since when;
        how many writes and reads failed."""
        return self._ask("history")

    def kill(self):
        self.process.kill()
        self.process.join()
