"""script/bench propagation: how long it takes until every agent acts.

1. A key that is hot only in sum: from its first request to `HK.LIST` at each of three agents, which are polled.
2. A key that is over the threshold at one agent: from its first request to `HK.LIST` at that agent.
3. A pin: from the start of the `hkctl` process, from the moment its write reached ZooKeeper (the server's time, in
   whole milliseconds), and, for a pin that this program writes with kazoo, from the call to `set` and from its
   acknowledgement, to the message that each agent sends its subscribers once the pin is in force.
"""

import json
import threading
import time
from datetime import datetime, timezone

from kazoo.exceptions import BadVersionError

import cluster
from bench_report import bench, print_table, spread
from load import Load, OneKey, value_of
from timeline import Timeline, Written

AGENTS = ["host-1", "host-2", "host-3"]
# The rule that `hkctl init` writes has a threshold of 1,000.
RATE_IN_SUM = 600
RATE_ALONE = 1_500
KEY_ROUNDS_SHARE = 10
POLL_SECONDS = 0.002
WAIT_SECONDS_MAX = 10
# Lines of history that the pins may hold, by the schema.
HISTORY_MAX = 200
# Longer than the window over which rates are taken, so that rounds do not see each other.
PAUSE_SECONDS = 1.2


def when_listed(agents, key):
    """Polls `HK.LIST` at each agent, from a thread each. Returns the threads, and a dictionary that they fill: when the
    list first named the key, by the agent's id."""
    listed = {}

    def poll(agent):
        client = cluster.redis_client(agent.port)
        end = time.monotonic() + WAIT_SECONDS_MAX
        while time.monotonic() < end:
            keys = json.loads(client.execute_command("HK.LIST"))["keys"]
            if any(each["key"] == key for each in keys):
                listed[agent.id] = time.monotonic()
                return
            time.sleep(POLL_SECONDS)
    threads = [threading.Thread(target=poll, args=(agent,)) for agent in agents]
    for thread in threads:
        thread.start()
    return threads, listed


def key_round(load, stream, agents, key, rate):
    """Seconds from the first request for the key to its being listed at the last of the agents."""
    agents[0].client.set(key, value_of(key))
    stream.key = key
    load.forget_times(stream.name)
    threads, listed = when_listed(agents, key)
    stream.rate.value = rate
    for thread in threads:
        thread.join()
    first = load.first_sent_at(stream.name)
    stream.rate.value = 0
    missing = [agent.id for agent in agents if agent.id not in listed]
    if missing:
        raise cluster.Failure(f"{key} was not listed at {', '.join(missing)} within {WAIT_SECONDS_MAX} s")
    time.sleep(PAUSE_SECONDS)
    return max(listed.values()) - first


def edit_with_kazoo(zookeeper, path, edit):
    """Changes the pins as docs/znode-schema.md tells other programs to: read, change, write if nobody else has.

    Returns when the write began, and when it was acknowledged."""
    while True:
        data, stat = zookeeper.get(path)
        pins = json.loads(data)
        edit(pins)
        document = json.dumps(pins, sort_keys=True).encode()
        started = time.monotonic()
        try:
            zookeeper.set(path, document, version=stat.version)
        except BadVersionError:
            continue
        return started, time.monotonic()


def add_pin(key):
    """An edit that adds a pin and its line of history."""
    def edit(pins):
        now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
        pins["pins"].append({"key": key, "author": "bench", "at": now})
        pins["history"] = [{"at": now, "author": "bench", "verb": "pin", "key": key}, *pins["history"]][:HISTORY_MAX]
    return edit


def pins(servers, timeline, count, progress):
    """Each pin's latest agent, in seconds since each of the four moments. The pins pile up."""
    path = f"{cluster.ROOT}/{cluster.APP}/pins"
    since = {name: [] for name in ("processStart", "serverWrite", "kazooSet", "kazooAcknowledged")}

    def last_applied(key, started):
        applied = timeline.applied_everywhere(key, "pinned", started, WAIT_SECONDS_MAX)
        if len(applied) < len(servers.agents):
            raise cluster.Failure(f"the pin of {key} reached only {len(applied)} agents within {WAIT_SECONDS_MAX} s")
        return max(event.at for event in applied.values())
    progress(f"{count} pins with hkctl")
    for number in range(count):
        key = f"pin:{number}"
        started = time.monotonic()
        servers.hkctl("pin", key)
        last = last_applied(key, started)
        since["processStart"].append(last - started)
        written = timeline.wait(
            lambda events: next((event for event in events if isinstance(event, Written) and event.path == path), None),
            started - 0.001, WAIT_SECONDS_MAX)
        since["serverWrite"].append(last - written.at)
    # What a pin costs grows with the pins that are there, so these start from none, too.
    edit_with_kazoo(timeline.zookeeper, path, lambda pins: pins.update(pins=[], history=[]))
    progress(f"{count} pins with kazoo")
    for number in range(count):
        key = f"kazoo-pin:{number}"
        started, acknowledged = edit_with_kazoo(timeline.zookeeper, path, add_pin(key))
        last = last_applied(key, started)
        since["kazooSet"].append(last - started)
        # An agent may have been told before the writer was.
        since["kazooAcknowledged"].append(max(0, last - acknowledged))
    return {name: spread(values) for name, values in since.items()}


def run(servers, options, progress):
    servers.start_all(AGENTS)
    stream = OneKey("key")
    load = Load([agent.port for agent in servers.agents], [stream])
    load.start()
    timeline = Timeline(servers)
    try:
        timeline.watch(f"{cluster.ROOT}/{cluster.APP}/pins")
        rounds = max(3, options.rounds // KEY_ROUNDS_SHARE)
        progress(f"{rounds} keys that are hot only in sum: {RATE_IN_SUM} a second at each of {len(AGENTS)} agents")
        in_sum = [key_round(load, stream, servers.agents, f"sum:{number}", RATE_IN_SUM) for number in range(rounds)]
        progress(f"{rounds} keys that are hot at one agent alone: {RATE_ALONE} a second")
        alone = []
        for number in range(rounds):
            chosen = number % len(AGENTS)
            for index, share in enumerate(load.shares):
                share.value = 1 if index == chosen else 0
            alone.append(key_round(load, stream, [servers.agents[chosen]], f"alone:{number}", RATE_ALONE))
        return {
            "hotInSum": spread(in_sum), "hotAlone": spread(alone),
            "pin": pins(servers, timeline, options.rounds, progress),
        }
    finally:
        load.stop()
        timeline.close()


def show(result):
    rows = [["from", "to", "times", "p50 ms", "p99 ms", "max ms"]]

    def row(start, end, one):
        rows.append([start, end, f"{one['count']}", f"{one['p50Milliseconds']:.1f}", f"{one['p99Milliseconds']:.1f}",
                     f"{one['maxMilliseconds']:.1f}"])
    row("first request of a key hot only in sum", "HK.LIST at three agents", result["hotInSum"])
    row("first request of a key hot at one agent", "HK.LIST at that agent", result["hotAlone"])
    pin = result["pin"]
    row("hkctl pin: start of the process", "in force at three agents", pin["processStart"])
    row("hkctl pin: its write at ZooKeeper", "in force at three agents", pin["serverWrite"])
    row("kazoo pin: the call to set", "in force at three agents", pin["kazooSet"])
    row("kazoo pin: its acknowledgement", "in force at three agents", pin["kazooAcknowledged"])
    print_table(rows)


bench("propagation", 200, run, show)
