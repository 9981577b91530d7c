"""The network that can be cut, with real sockets."""

import os
import socket
import subprocess
import sys
import threading
import time
import unittest

from fault_proxy import REPLIES, REQUESTS, FaultProxy

SECONDS_MAX = 10
# Long enough for what is not held to arrive; where something must not arrive, no time is long enough to prove it.
MOMENT_SECONDS = 0.2
CLIENT = "import socket, sys\ns = socket.create_connection(('127.0.0.1', int(sys.argv[1])))\n" \
    "for line in sys.stdin:\n    s.sendall(line.encode()); print(s.recv(100).decode(), end='', flush=True)\n"


class EchoServer:
    """Answers what it gets, in capitals, and remembers it."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.received = []

    def start(self):
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        with connection:
            while data := connection.recv(100):
                self.received.append(data)
                connection.sendall(data.upper())


class FaultProxies(unittest.TestCase):
    def setUp(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port = listener.getsockname()[1]
        self.server = EchoServer()
        self.proxy = FaultProxy({"n": (self.port, self.server.port)})
        # Threads are started after what is forked.
        self.server.start()
        self.addCleanup(self.server.listener.close)
        self.addCleanup(self.proxy.kill)

    def client(self):
        client = socket.create_connection(("127.0.0.1", self.port), SECONDS_MAX)
        self.addCleanup(client.close)
        return client

    def asks(self, client, data):
        client.sendall(data)
        return client.recv(100)

    def hears_nothing(self, client):
        client.settimeout(MOMENT_SECONDS)
        with self.assertRaises(TimeoutError):
            client.recv(100)
        client.settimeout(SECONDS_MAX)

    def test_what_is_held_arrives_late(self):
        client = self.client()
        self.assertEqual(self.asks(client, b"a"), b"A")
        self.proxy.cut("n")
        client.sendall(b"b")
        self.hears_nothing(client)
        self.assertEqual(self.server.received, [b"a"])
        self.proxy.heal("n")
        self.assertEqual(client.recv(100), b"B")

    def test_a_request_arrives_although_its_sender_has_gone(self):
        client = self.client()
        self.asks(client, b"a")
        self.proxy.cut("n")
        client.sendall(b"late")
        client.close()
        self.proxy.heal("n")
        end = time.monotonic() + SECONDS_MAX
        while self.server.received != [b"a", b"late"]:
            self.assertLess(time.monotonic(), end)
            time.sleep(0.01)

    def test_a_connection_made_during_a_cut_works_after_it(self):
        self.proxy.cut("n")
        client = self.client()
        client.sendall(b"a")
        self.hears_nothing(client)
        self.assertEqual(self.server.received, [])
        self.proxy.heal("n")
        self.assertEqual(client.recv(100), b"A")

    def test_one_direction(self):
        client = self.client()
        self.asks(client, b"a")
        self.proxy.cut("n", None, (REPLIES,))
        client.sendall(b"b")
        self.hears_nothing(client)
        self.assertEqual(self.server.received, [b"a", b"b"])
        self.proxy.heal("n")
        self.assertEqual(client.recv(100), b"B")
        self.proxy.cut("n", None, (REQUESTS,))
        client.sendall(b"c")
        self.hears_nothing(client)
        self.assertEqual(self.server.received, [b"a", b"b"])

    def test_one_process(self):
        other = subprocess.Popen(
            [sys.executable, "-c", CLIENT, str(self.port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.addCleanup(other.communicate)
        self.addCleanup(other.kill)

        def ask_other(line):
            other.stdin.write(line)
            other.stdin.flush()
        client = self.client()
        self.asks(client, b"a")
        ask_other("b\n")
        self.assertEqual(other.stdout.readline(), "B\n")
        self.proxy.cut("n", other.pid)
        self.assertEqual(self.asks(client, b"c"), b"C")
        self.assertEqual(self.asks(self.client(), b"d"), b"D")
        ask_other("e\n")
        time.sleep(MOMENT_SECONDS)
        self.assertNotIn(b"e\n", self.server.received)
        self.proxy.heal("n")
        self.assertEqual(other.stdout.readline(), "E\n")
        self.proxy.cut("n", os.getpid())
        client.sendall(b"f")
        self.hears_nothing(client)
        made_since = self.client()
        made_since.sendall(b"g")
        self.hears_nothing(made_since)

    def test_a_muted_connection_stays_silent_and_others_do_not(self):
        client, other = self.client(), self.client()
        self.asks(client, b"CLIENT TRACKING ON")
        self.asks(other, b"a")
        self.assertEqual(self.proxy.mute_tracking("n"), 1)
        client.sendall(b"b")
        self.hears_nothing(client)
        self.assertEqual(self.asks(other, b"c"), b"C")
        self.assertIn(b"b", self.server.received)

    def test_closed_and_open_again(self):
        client = self.client()
        self.asks(client, b"a")
        self.proxy.close("n")
        with self.assertRaises(OSError):
            if client.recv(100) == b"":
                raise ConnectionResetError
        with self.assertRaises(ConnectionRefusedError):
            self.client()
        self.proxy.open("n")
        self.assertEqual(self.asks(self.client(), b"b"), b"B")


if __name__ == "__main__":
    unittest.main()
