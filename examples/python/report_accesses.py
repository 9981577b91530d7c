#!/usr/bin/env python3
"""Hot keys of an app that does not send its traffic through the agent.

The app goes on talking to its cache as it does. It counts each key that it asks for, in its own memory, and tells the agent of its host
once per 100 ms what it has counted: one HK.RECORD a key, all of them in one round trip. The agent adds that to its reports, so that a
key which is hot over all hosts together is found. What the agents then know of it any client can ask with HK.GET.

    counter = AccessCounter(redis.Redis(port=7379))         # the agent
    cache = CountingCache(redis.Redis(port=6379), counter)  # the cache, as before
    cache.get("item:42")

Needs redis-py (Debian: python3-redis). To try it:

    examples/python/report_accesses.py --agent 127.0.0.1:7379 --cache 127.0.0.1:6379 --key item:42 --rate 2000 --seconds 10
"""

import argparse
import threading
import time

import redis

REPORT_SECONDS = 0.1
# What has gathered for longer than this, because the agent did not answer, is not reported: it would all count in the moment in which it
# arrives, and make a key look many times as hot as it is.
GATHERED_SECONDS_MAX = 0.2
# More distinct keys than this within one report are counted in `left_out` only: the agent keeps no more either.
KEYS_PER_REPORT_MAX = 10_000


class AccessCounter:
    """Counts reads and writes of keys and reports them to an agent from a thread of its own, until it is closed.

    Counting takes a lock and one dictionary entry; it never waits for the agent. What the agent does not take is given up and
    counted in `lost`: an old count would be news about another moment.
    """

    def __init__(self, agent):
        self.reported = 0
        self.lost = 0
        self.left_out = 0
        self._agent = agent
        self._counts = {}
        self._since = time.monotonic()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hot-key-reports", daemon=True)
        self._thread.start()

    def count(self, key, reads=0, writes=0):
        with self._lock:
            entry = self._counts.get(key)
            if entry is not None:
                entry[0] += reads
                entry[1] += writes
            elif len(self._counts) < KEYS_PER_REPORT_MAX:
                self._counts[key] = [reads, writes]
            else:
                self.left_out += reads + writes

    def close(self):
        """Reports what is left and ends the thread."""
        self._closed.set()
        self._thread.join()

    def _run(self):
        due = time.monotonic()
        while not self._closed.is_set():
            due = max(due + REPORT_SECONDS, time.monotonic())
            self._closed.wait(due - time.monotonic())
            self._report()

    def _report(self):
        with self._lock:
            counts, self._counts = self._counts, {}
            now = time.monotonic()
            gathered, self._since = now - self._since, now
        if not counts:
            return
        accesses = sum(reads + writes for reads, writes in counts.values())
        if gathered > GATHERED_SECONDS_MAX:
            self.lost += accesses
            return
        pipeline = self._agent.pipeline(transaction=False)
        for key, (reads, writes) in counts.items():
            pipeline.execute_command("HK.RECORD", key, reads, writes)
        try:
            pipeline.execute()
            self.reported += accesses
        except redis.RedisError:
            self.lost += accesses


class CountingCache:
    """The commands of a cache client that this example counts; each goes where it always went."""

    def __init__(self, cache, counter):
        self._cache = cache
        self._counter = counter

    def get(self, key):
        self._counter.count(key, reads=1)
        return self._cache.get(key)

    def set(self, key, value, **options):
        self._counter.count(key, writes=1)
        return self._cache.set(key, value, **options)


def client(address):
    host, _, port = address.rpartition(":")
    return redis.Redis(host=host, port=int(port), socket_timeout=2, socket_connect_timeout=2)


def main():
    parser = argparse.ArgumentParser(description="Read one key of a cache at a rate, and report it to an agent.")
    parser.add_argument("--agent", default="127.0.0.1:7379", help="HOST:PORT of the agent (default: %(default)s)")
    parser.add_argument("--cache", default="127.0.0.1:6379", help="HOST:PORT of the cache (default: %(default)s)")
    parser.add_argument("--key", default="item:42", help="the key to read (default: %(default)s)")
    parser.add_argument("--rate", type=int, default=2_000, help="reads a second (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=10, help="for how long (default: %(default)s)")
    arguments = parser.parse_args()

    agent = client(arguments.agent)
    counter = AccessCounter(agent)
    cache = CountingCache(client(arguments.cache), counter)
    start = time.monotonic()
    done = 0
    while (passed := time.monotonic() - start) < arguments.seconds:
        while done < passed * arguments.rate:
            cache.get(arguments.key)
            done += 1
        time.sleep(0.005)
    counter.close()
    print(f"{done} reads at the cache, {counter.reported} reported to the agent, {counter.lost} lost")
    print(agent.execute_command("HK.GET", arguments.key).decode())


if __name__ == "__main__":
    main()
