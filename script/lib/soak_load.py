"""The load of script/bench soak: processes of many clients each, on raw sockets, that check every reply.

A value names its key, its length and its version, and is made of nothing else, so a reply that crossed over from another
request, or that was torn, is seen at once. Requests of all sorts are pipelined; clients come and go, some in the middle of what
they asked; some read slowly.

An error is excused when its request was sent while a fault was under way or shortly after: the driver says until when.
"""

import collections
import ctypes
import multiprocessing
import os
import random
import selectors
import socket
import struct
import time
import traceback

import children
from soak_requests import Scenarios, verify_message
from soak_resp import Incomplete, ReplyError, kind_of, parse

CLIENTS = 25
RECEIVE_BYTES = 1 << 18
CONNECT_SECONDS_MAX = 5
# A client without a reply for so long is one that was forgotten: every limit of the agent is shorter.
SILENCE_SECONDS_MAX = 30
# Texts that are kept of one kind of fault.
DETAILS_MAX = 3
# Out of a hundred batches.
SLOW_READER_PERCENT = 1
LEAVES_IN_THE_MIDDLE_PERCENT = 1
SUBSCRIBERS_PERCENT = 12


class Shared:
    """What the processes and the driver tell each other."""

    def __init__(self):
        self.excused_until = multiprocessing.RawValue(ctypes.c_double, time.monotonic())
        self.is_stopping = multiprocessing.RawValue(ctypes.c_bool, False)


class Findings:
    """What one process has seen."""

    def __init__(self):
        self.requests = collections.Counter()
        self.excused = collections.Counter()
        self.unexcused = collections.Counter()
        self.connections = collections.Counter()
        self.messages = 0
        self.bytes_received = 0
        self.wrong = 0
        self.details = []

    def crossed(self, text):
        self.wrong += 1
        if self.wrong <= DETAILS_MAX:
            self.details.append("wrong reply: " + text)

    def error(self, kind, is_excused, text):
        (self.excused if is_excused else self.unexcused)[kind] += 1
        if not is_excused and self.unexcused[kind] <= DETAILS_MAX:
            # The agents' logs have their times in UTC, too.
            moment = time.strftime("%H:%M:%S", time.gmtime())
            self.details.append(f"without a fault, at {moment}: {text}")


class Client:
    """One connection: sends a batch, checks its replies, sends the next one, and leaves after some."""

    def __init__(self, worker):
        self.worker, self.random, self.findings = worker, worker.random, worker.findings
        self.port = self.random.choice(worker.ports)
        self.pending = collections.deque()
        self.received, self.needed = bytearray(), 0
        self.unsent = memoryview(b"")
        self.batches_left = self.random.randint(1, 150)
        self.quiet_until = 0
        self.subscribed = None
        self.born_at = time.monotonic()
        self.leaves_at = None
        self.scenarios = Scenarios(self.random, worker.name_of_client())
        self.socket = socket.socket()
        self.socket.settimeout(CONNECT_SECONDS_MAX)
        try:
            self.socket.connect(("127.0.0.1", self.port))
        except OSError:
            self.socket.close()
            raise
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        worker.selector.register(self.socket, selectors.EVENT_READ, self)
        self.findings.connections["opened"] += 1
        self.first_batch()

    def first_batch(self):
        if self.random.randrange(100) < SUBSCRIBERS_PERCENT:
            self.subscribed, data = self.scenarios.subscribe()
            self.leaves_at = self.born_at + self.random.uniform(1, 60)
            self.send(data)
        elif self.random.random() < 0.5:
            self.ask(self.scenarios.hello())

    @property
    def is_idle(self):
        return not self.pending and self.subscribed is None

    def act(self, now):
        """Sends the next batch, or leaves. Returns how many requests it sent."""
        if self.batches_left == 0:
            self.leave(self.random.random() < 0.5)
            return 0
        self.batches_left -= 1
        batch = self.scenarios.batch()
        draw = self.random.randrange(100)
        if draw < LEAVES_IN_THE_MIDDLE_PERCENT:
            self.ask(batch)
            if self.socket is not None:
                self.findings.connections["left in the middle"] += 1
                self.leave(True)
            return len(batch)
        if draw < LEAVES_IN_THE_MIDDLE_PERCENT + SLOW_READER_PERCENT:
            self.findings.connections["read slowly"] += 1
            self.quiet_until = now + self.random.uniform(0.1, 2)
        self.ask(batch)
        return len(batch)

    def ask(self, batch):
        now = time.monotonic()
        for request in batch:
            self.findings.requests[request.kind] += 1
            self.pending.append((request, now))
        self.send(b"".join(request.data for request in batch))

    def send(self, data):
        self.unsent = memoryview(bytes(self.unsent) + data) if self.unsent else memoryview(data)
        self.flush()

    def flush(self):
        try:
            while self.unsent:
                self.unsent = self.unsent[self.socket.send(self.unsent):]
        except BlockingIOError:
            pass
        except OSError as error:
            self.lost(type(error).__name__)
            return
        self.watch()

    def watch(self):
        events = selectors.EVENT_WRITE if self.unsent else 0
        if not self.quiet_until:
            events |= selectors.EVENT_READ
        self.worker.watch(self, events)

    def look_after(self, now):
        if self.quiet_until and now >= self.quiet_until:
            self.quiet_until = 0
            self.watch()
        if self.leaves_at is not None and now >= self.leaves_at:
            self.leave(False)
        elif self.pending and now - self.pending[0][1] > SILENCE_SECONDS_MAX:
            self.findings.crossed(
                f"no reply to {self.pending[0][0].kind} in {SILENCE_SECONDS_MAX} s ({len(self.pending)} requests wait)")
            self.leave(True)

    def receive(self):
        try:
            data = self.socket.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self.lost(type(error).__name__)
            return
        if not data:
            self.lost("closed by the agent")
            return
        self.findings.bytes_received += len(data)
        self.received += data
        if len(self.received) < self.needed:
            return
        self.needed = 0
        position = 0
        try:
            while position < len(self.received):
                value, position = parse(self.received, position)
                self.take(value)
        except Incomplete as incomplete:
            self.needed = incomplete.needed - position
        except ValueError as error:
            self.findings.crossed(f"what is not RESP: {error}")
            self.leave(True)
            return
        del self.received[:position]

    def take(self, value):
        if self.subscribed is not None:
            if isinstance(value, ReplyError):
                # The agent's answer to a subscription that reaches no node.
                self.error(value, self.born_at)
                return
            fault = verify_message(value, self.subscribed)
            if fault:
                self.findings.crossed(fault)
            self.findings.messages += 1
            return
        if not self.pending:
            self.findings.crossed(f"nothing was asked, and {value!r:.200} came")
            return
        request, sent_at = self.pending.popleft()
        if isinstance(value, ReplyError):
            self.error(value, sent_at)
            self.scenarios.failed(request)
            return
        for each in value if isinstance(value, list) else ():
            if isinstance(each, ReplyError):
                self.error(each, sent_at)
                self.scenarios.failed(request)
                return
        fault = request.check(value)
        if fault:
            when = "during a fault or shortly after" if self.is_excused(sent_at) else "without a fault"
            self.findings.crossed(
                f"{request.kind} to port {self.port} from port {self.socket.getsockname()[1]}, asked "
                f"{time.monotonic() - sent_at:.3f} s before, {when}: {fault}")

    def error(self, value, sent_at):
        self.findings.error(kind_of(value), self.is_excused(sent_at), f"{value} (port {self.port})")

    def is_excused(self, sent_at):
        return sent_at <= self.worker.shared.excused_until.value

    def lost(self, how):
        """The agent let go of this client. A subscriber's question is the one that it is still waiting for."""
        now = time.monotonic()
        sent_at = self.pending[0][1] if self.pending else now
        what = "subscriber" if self.subscribed is not None else f"client with {'requests' if self.pending else 'nothing'} open"
        self.findings.error(f"connection lost: {how}", self.is_excused(sent_at), f"{how}: a {what} (port {self.port})")
        self.leave(False)

    def leave(self, is_abrupt):
        if self.socket is None:
            return
        self.worker.selector_forget(self)
        if is_abrupt:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()
        self.socket = None
        self.pending.clear()


class Worker:
    """One process."""

    def __init__(self, number, ports, rate, seed, shared):
        self.number, self.ports, self.rate, self.shared = number, ports, rate, shared
        self.random = random.Random(seed * 1_000 + number)
        self.findings = Findings()
        self.selector = selectors.DefaultSelector()
        self.events = {}
        self.clients = []
        self.clients_made = 0

    def name_of_client(self):
        self.clients_made += 1
        return f"{self.number}:{self.clients_made}"

    def watch(self, client, events):
        """Clients that wait for nothing (they read slowly) are not in the selector."""
        known = self.events.get(client, selectors.EVENT_READ)
        if events == known:
            return
        if not known:
            self.selector.register(client.socket, events, client)
        elif not events:
            self.selector.unregister(client.socket)
        else:
            self.selector.modify(client.socket, events, client)
        self.events[client] = events

    def selector_forget(self, client):
        if self.events.pop(client, selectors.EVENT_READ):
            self.selector.unregister(client.socket)

    def replace_clients(self):
        self.clients = [client for client in self.clients if client.socket is not None]
        while len(self.clients) < CLIENTS:
            try:
                client = Client(self)
            except OSError as error:
                self.findings.error(
                    f"connecting: {type(error).__name__}", time.monotonic() <= self.shared.excused_until.value, str(error))
                return
            if client.socket is not None:
                self.clients.append(client)

    def run(self):
        allowance, last = 0.0, time.monotonic()
        while not self.shared.is_stopping.value:
            now = time.monotonic()
            # What was missed is not made up for in a burst.
            allowance = min(allowance + self.rate * (now - last), self.rate * 0.05)
            last = now
            self.replace_clients()
            for client in self.clients:
                client.look_after(now)
            idle = [client for client in self.clients if client.socket is not None and client.is_idle]
            self.random.shuffle(idle)
            for client in idle:
                if allowance <= 0:
                    break
                allowance -= client.act(now)
            for key, events in self.selector.select(0.005):
                if events & selectors.EVENT_WRITE and key.data.socket is not None:
                    key.data.flush()
                if events & selectors.EVENT_READ and key.data.socket is not None:
                    key.data.receive()
        for client in self.clients:
            client.leave(False)


class SoakLoad:
    """The processes. Start it from the main thread, before any other thread: they are forked."""

    def __init__(self, ports, processes, rate, seed):
        self.shared = Shared()
        self.arguments = [(number, ports, rate / processes, seed, self.shared) for number in range(processes)]
        self.processes, self.pipes = [], []

    def start(self):
        context = multiprocessing.get_context("fork")
        for arguments in self.arguments:
            receiver, sender = context.Pipe(duplex=False)
            process = context.Process(target=run_worker, args=(arguments, sender, os.getpid()), daemon=True)
            process.start()
            sender.close()
            self.processes.append(process)
            self.pipes.append(receiver)

    def is_running(self):
        return all(process.is_alive() for process in self.processes)

    def stop(self):
        """Ends the load and returns the findings of all processes, or None of one that died."""
        self.shared.is_stopping.value = True
        found = []
        for receiver in self.pipes:
            try:
                found.append(receiver.recv() if receiver.poll(SILENCE_SECONDS_MAX) else None)
            except EOFError:
                found.append(None)
        self.kill()
        return found

    def kill(self):
        for process in self.processes:
            process.kill()
            process.join()


def run_worker(arguments, sender, parent):
    if not children.live_with(parent):
        return
    worker = Worker(*arguments)
    try:
        worker.run()
    except Exception:  # pylint: disable=broad-except
        traceback.print_exc()
        return
    sender.send(worker.findings)
