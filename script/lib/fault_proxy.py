"""A network between agents and cache nodes that can be cut: one process that passes bytes on, and the commands to it.

Each node has an address here. What is cut is *held*, not thrown away, as TCP would send it again: when the cut is over it arrives,
late. So a write that its agent has long given up may still reach the node. What goes over a *muted* connection is thrown away for
good, as by a firewall that has forgotten the connection.

Whose a connection is, is found out by the process that has its other end, where a cut concerns one agent only.
"""

import asyncio
import contextlib
import multiprocessing
import os
import socket

import children
import cluster

ANSWER_SECONDS_MAX = 10
REQUESTS, REPLIES = "requests", "replies"
BOTH = (REQUESTS, REPLIES)


def local_sockets(pid):
    """The local ports of a process's TCP connections on loopback."""
    inodes = set()
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(FileNotFoundError):
                target = os.readlink(f"/proc/{pid}/fd/{name}")
                if target.startswith("socket:["):
                    inodes.add(target[8:-1])
    ports = set()
    with open("/proc/net/tcp", encoding="ascii") as file:
        next(file)
        for line in file:
            fields = line.split()
            if fields[9] in inodes:
                ports.add(int(fields[1].rpartition(":")[2], 16))
    return ports


class End(asyncio.Protocol):
    """One end of a connection: the agent's or the node's."""

    def __init__(self, link, direction):
        self.link, self.direction, self.transport = link, direction, None

    def connection_made(self, transport):
        self.transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.link.made(self)

    def data_received(self, data):
        self.link.pass_on(self, data)

    def connection_lost(self, _):
        self.link.lost(self)


class Link:
    """One connection of an agent, and the one to the node that belongs to it."""

    def __init__(self, door):
        self.door = door
        self.agent, self.node = End(self, REQUESTS), End(self, REPLIES)
        self.is_connecting = self.is_over = self.is_tracking = self.is_muted = False
        self.held = frozenset()

    @property
    def port(self):
        """The agent's port."""
        return self.agent.transport.get_extra_info("peername")[1]

    def made(self, end):
        if end is self.agent:
            self.door.links.add(self)
            self.door.hold(self)
            # Pausing holds only once asyncio has begun to read, which it does after this call.
            asyncio.get_running_loop().call_soon(self.go_on)
        else:
            self.go_on()

    def go_on(self):
        """Reads from where nothing is held. A connection that began while it was cut reaches the node when it is not any more."""
        if self.is_over:
            return
        if self.node.transport is None:
            self.agent.transport.pause_reading()
            if not self.is_connecting and not self.held:
                self.is_connecting = True
                self.door.start(self.connect())
            return
        for end in (self.agent, self.node):
            (end.transport.pause_reading if end.direction in self.held else end.transport.resume_reading)()

    async def connect(self):
        try:
            await asyncio.get_running_loop().create_connection(lambda: self.node, "127.0.0.1", self.door.node_port)
        except OSError:
            self.end()

    def pass_on(self, end, data):
        if end is self.agent:
            if b"TRACKING" in data:
                self.is_tracking = True
            self.node.transport.write(data)
        elif not self.is_muted:
            self.agent.transport.write(data)

    def lost(self, end):
        other = self.node if end is self.agent else self.agent
        if other.transport is not None:
            # What was passed on before still goes out.
            other.transport.close()
        self.is_over = True
        self.door.links.discard(self)

    def end(self):
        """At once, as when the node's process dies."""
        self.is_over = True
        self.door.links.discard(self)
        for end in (self.agent, self.node):
            if end.transport is not None:
                end.transport.abort()


class Door:
    """A node's address for the agents."""

    def __init__(self, port, node_port):
        self.port, self.node_port = port, node_port
        self.links, self.tasks = set(), set()
        self.server = None
        # The directions in which everybody's, and one process's, connections are held.
        self.cuts = {}

    def start(self, task):
        task = asyncio.ensure_future(task)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def open(self):
        self.server = await asyncio.get_running_loop().create_server(
            lambda: Link(self).agent, "127.0.0.1", self.port, reuse_address=True)

    def close(self):
        self.server.close()
        for link in list(self.links):
            link.end()

    def hold(self, link):
        held = set()
        for pid, directions in self.cuts.items():
            if pid is None or link.port in local_sockets(pid):
                held.update(directions)
        link.held = frozenset(held)

    def cut(self, pid, directions):
        self.cuts[pid] = directions
        self.apply()

    def heal(self):
        self.cuts.clear()
        self.apply()

    def apply(self):
        for link in list(self.links):
            self.hold(link)
            link.go_on()

    def mute_tracking(self):
        muted = [link for link in self.links if link.is_tracking]
        for link in muted:
            link.is_muted = True
        return len(muted)


async def serve(doors, pipe):
    for door in doors.values():
        await door.open()
    is_over = asyncio.Event()

    async def obey(name, method, arguments):
        done = getattr(doors[name], method)(*arguments)
        pipe.send(await done if asyncio.iscoroutine(done) else done)

    def receive():
        try:
            asked = pipe.recv()
        except EOFError:
            is_over.set()
            return
        next(iter(doors.values())).start(obey(*asked))
    asyncio.get_running_loop().add_reader(pipe.fileno(), receive)
    pipe.send(None)
    await is_over.wait()


def run_proxy(ports, pipe, parent):
    if children.live_with(parent):
        asyncio.run(serve({name: Door(*pair) for name, pair in ports.items()}, pipe))


class FaultProxy:
    """The process. Start it from the main thread, before any other thread: it is forked."""

    def __init__(self, ports):
        """`ports`: of each node's name, the port here and the node's own."""
        context = multiprocessing.get_context("fork")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=run_proxy, args=(ports, other, os.getpid()), daemon=True)
        self.process.start()
        other.close()
        self._answer("to open its ports")

    def _answer(self, what):
        try:
            if self.pipe.poll(ANSWER_SECONDS_MAX):
                return self.pipe.recv()
        except EOFError:
            pass
        raise cluster.Failure(f"the proxy between agents and nodes was told {what} and did not answer")

    def _ask(self, node, method, *arguments):
        self.pipe.send((node, method, arguments))
        return self._answer(f"to {method} {node}")

    def close(self, node):
        """Refuses connections and breaks off those there are, as a host does on which no node runs."""
        self._ask(node, "close")

    def open(self, node):
        self._ask(node, "open")

    def cut(self, node, pid=None, directions=BOTH):
        """Holds what goes between the node and one process, or all."""
        self._ask(node, "cut", pid, directions)

    def heal(self, node):
        self._ask(node, "heal")

    def mute_tracking(self, node):
        """Throws away what the node sends over connections that asked for tracking. Returns how many there are."""
        return self._ask(node, "mute_tracking")

    def kill(self):
        self.process.kill()
        self.process.join()
