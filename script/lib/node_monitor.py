"""What a cache node executes, by its own word (MONITOR), and which process asked."""

import contextlib
import os
import re
import socket
import uuid
from collections import namedtuple

import redis

RECEIVE_BYTES = 1 << 20
RECEIVE_SECONDS_MAX = 10
LINE = re.compile(rb'^\+(\d+\.\d+) \[\d+ (\S+)\] (.*)$')
WORD = re.compile(rb'"((?:[^"\\]|\\.)*)"')

# `at`: by the node's clock, seconds since 1970. `client`: the address that asked.
Seen = namedtuple("Seen", "at client words")


class NodeMonitor:
    """Every command of one node from now on. The node keeps them until they are read."""

    def __init__(self, node):
        self.node = node
        self.socket = socket.create_connection(("127.0.0.1", node.port), 5)
        self.socket.settimeout(RECEIVE_SECONDS_MAX)
        self.socket.sendall(b"MONITOR\r\n")
        self.received = b""
        while b"\r\n" not in self.received:
            self.received += self._receive()

    def _receive(self):
        with contextlib.suppress(ConnectionError):
            return self.socket.recv(RECEIVE_BYTES)
        return b""

    def commands(self):
        """All of them so far; then the node is not watched any more. Where it has died meanwhile, those that it still told."""
        mark = uuid.uuid4().hex.encode()
        with contextlib.suppress(redis.exceptions.RedisError):
            self.node.client.echo(mark)
        parts = [self.received]
        while mark not in parts[-1] and mark not in b"".join(parts[-2:]):
            data = self._receive()
            if not data:
                break
            parts.append(data)
        self.socket.close()
        for line in b"".join(parts).split(b"\r\n"):
            found = LINE.match(line)
            if found and mark not in line:
                yield Seen(float(found[1]), found[2].decode(), [word.decode() for word in WORD.findall(found[3])])

    def reads(self):
        """The GETs alone, as triples of time, client and key."""
        return [(seen.at, seen.client, seen.words[1]) for seen in self.commands()
                if len(seen.words) == 2 and seen.words[0].upper() == "GET"]


def askers(port, servers):
    """Of each address that is connected to a port of this host now: which of the servers it belongs to."""
    owners = {}
    for server in servers:
        for descriptor in os.listdir(f"/proc/{server.pid}/fd"):
            with contextlib.suppress(OSError):
                owners[os.readlink(f"/proc/{server.pid}/fd/{descriptor}")] = server
    found = {}
    with open("/proc/net/tcp", encoding="ascii") as file:
        for line in file.readlines()[1:]:
            fields = line.split()
            (local, remote), inode = ([int(each.split(":")[1], 16) for each in fields[1:3]]), fields[9]
            owner = owners.get(f"socket:[{inode}]")
            if remote == port and owner:
                found[f"127.0.0.1:{local}"] = owner
    return found
