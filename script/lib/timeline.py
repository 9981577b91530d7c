"""What happens in the registry and at the agents, as it happens, with one clock: `time.monotonic()` of this process."""

import json
import threading
import time
from dataclasses import dataclass

import redis
from kazoo.client import KazooClient

import cluster

CHANNEL = "__hotkeys__"


@dataclass
class Applied:
    """An agent told its subscribers that a key's state changed, which it does once the change is in force."""
    agent: str
    key: str
    state: str
    version: int
    at: float


@dataclass
class Written:
    """An operators' or the coordinator's document was written. `at` is the server's time of the write."""
    path: str
    node_version: int
    document: dict
    at: float


class Timeline:
    """Subscribes to every agent and watches documents in ZooKeeper."""

    def __init__(self, servers):
        self.events = []
        self.changed = threading.Condition()
        self.agents = servers.agents
        self.zookeeper = KazooClient(hosts=servers.zookeeper, timeout=10)
        self.zookeeper.start(timeout=30)
        for agent in self.agents:
            subscription = cluster.redis_client(agent.port).pubsub()
            subscription.subscribe(CHANNEL)
            # The first message says that the subscription stands: what happens from now on is not missed.
            if subscription.get_message(timeout=10) is None:
                raise cluster.Failure(f"{agent.name} does not answer SUBSCRIBE {CHANNEL}")
            threading.Thread(target=self._follow, args=(agent.id, subscription), daemon=True).start()

    def close(self):
        self.zookeeper.stop()
        self.zookeeper.close()

    def watch(self, path):
        """Notes every version of the document at `path` that is seen."""
        @self.zookeeper.DataWatch(path)
        def note(data, stat):
            if data is not None:
                # The server gives its wall clock; on one host that is ours.
                at = stat.mtime / 1_000 - time.time() + time.monotonic()
                self._add(Written(path, stat.version, json.loads(data), at))

    def _add(self, event):
        with self.changed:
            self.events.append(event)
            self.changed.notify_all()

    def _follow(self, agent_id, subscription):
        while True:
            try:
                message = subscription.get_message(timeout=60)
            except (redis.exceptions.RedisError, OSError, ValueError):
                return
            if not message or message["type"] != "message":
                continue
            at = time.monotonic()
            news = json.loads(message["data"])
            for change in news["changes"]:
                self._add(Applied(agent_id, change["key"], change["state"], news["version"], at))

    def wait(self, find, since, seconds):
        """Waits until `find(events since then)` is true and returns it; None after `seconds`. What did not happen is
        for the caller to say."""
        end = time.monotonic() + seconds
        with self.changed:
            while True:
                found = find([event for event in self.events if event.at >= since])
                left = end - time.monotonic()
                if found or left <= 0:
                    return found or None
                self.changed.wait(left)

    def applied_everywhere(self, key, state, since, seconds):
        """The first `Applied` of each agent, by the agent's id; agents that did not are missing."""
        def first_of_each(events):
            first = {}
            for event in events:
                if isinstance(event, Applied) and (event.key, event.state) == (key, state):
                    first.setdefault(event.agent, event)
            return first

        def complete(events):
            first = first_of_each(events)
            return first if len(first) == len(self.agents) else None
        return self.wait(complete, since, seconds) or self.wait(first_of_each, since, 0) or {}

    def publication(self, path, key, since, seconds):
        """The first head written since then that says the key became hot."""
        def find(events):
            for event in events:
                if isinstance(event, Written) and event.path == path and publication_version(event.document, key):
                    return event
        return self.wait(find, since, seconds)


def publication_version(head, key):
    """The version under which a head says that the key became hot; None when it does not say so."""
    for change in head["changes"]:
        if (change["key"], change["state"]) == (key, "hot"):
            return change["version"]
    return None
