"""Connections to agents and nodes for processes that generate load: many requests on their way at once, none waited for.

A worker that has them offers `selector`, `connections_made` (a count) and `broken` (a list of connections that it closes when it has noted
what it asked).
"""

import selectors
import socket
import time
from collections import deque

from soak_resp import Incomplete, parse

CONNECT_SECONDS_MAX = 1
RECONNECT_SECONDS = 0.1
PENDING_MAX = 1_000
RECEIVE_BYTES = 1 << 16


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
