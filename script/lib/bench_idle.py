"""script/bench idle: what 10,000 clients that say nothing cost one agent in memory.

Resident memory of the agent (VmRSS, one thread) before they come, when all have connected, when each has stored and read a value
of 64 B once, and a moment later; beside it the CPU that it spends on them while they are idle, and how long a command of one more
client takes meanwhile. Fails above the limit.
"""

import resource
import selectors
import socket
import time

import cluster
from bench_report import bench, median, print_table, spread

CLIENTS = 10_000
LIMIT_MEGABYTES = 150
BATCH = 200
IDLE_SECONDS = 5
VALUE = b"x" * 64


def resident_megabytes(agent):
    with open(f"/proc/{agent.pid}/status", encoding="utf-8") as file:
        kilobytes = next(int(line.split()[1]) for line in file if line.startswith("VmRSS:"))
    return kilobytes * 1024 / 1e6


def connect(agent, clients):
    for _ in range(0, CLIENTS, BATCH):
        for _ in range(BATCH):
            clients.append(socket.create_connection(("127.0.0.1", agent.port), timeout=30))
        # The queue of a listener is shorter than this many.
        exchange(clients[-1:], lambda number: (b"*1\r\n$4\r\nPING\r\n", b"+PONG\r\n"))


def exchange(clients, words):
    """Every client asks, then every client reads: `words(number)` is what it says and what it is to hear."""
    wanted = {}
    for number, client in enumerate(clients):
        said, wanted[client] = words(number)
        client.sendall(said)
    with selectors.DefaultSelector() as selector:
        for client in clients:
            selector.register(client, selectors.EVENT_READ)
        while wanted:
            ready = selector.select(30)
            if not ready:
                raise cluster.Failure(f"{len(wanted)} clients wait for replies in vain")
            for key, _ in ready:
                client = key.fileobj
                got = client.recv(65536)
                if not got or not wanted[client].startswith(got):
                    raise cluster.Failure(f"a client was to hear {wanted[client]!r} and heard {got!r}")
                wanted[client] = wanted[client][len(got):]
                if not wanted[client]:
                    selector.unregister(client)
                    del wanted[client]


def store_and_read(number):
    key = b"idle:%06d" % number
    value = VALUE[:-6] + b"%06d" % number
    return (b"*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n*2\r\n$3\r\nGET\r\n$%d\r\n%s\r\n"
            % (len(key), key, len(value), value, len(key), key), b"+OK\r\n$%d\r\n%s\r\n" % (len(value), value))


def measure(agent):
    clients = []
    try:
        before = resident_megabytes(agent)
        connect(agent, clients)
        connected = resident_megabytes(agent)
        for start in range(0, CLIENTS, BATCH):
            exchange(clients[start:start + BATCH], lambda number, start=start: store_and_read(start + number))
        used = resident_megabytes(agent)
        cpu, latencies, end = sum(agent.cpu_seconds()), [], time.monotonic() + IDLE_SECONDS
        while time.monotonic() < end:
            asked = time.monotonic()
            agent.client.get("idle:000000")
            latencies.append(time.monotonic() - asked)
            time.sleep(0.01)
        cpu = (sum(agent.cpu_seconds()) - cpu) / IDLE_SECONDS * 100
        return {"beforeMegabytes": before, "connectedMegabytes": connected, "usedMegabytes": used,
                "idleMegabytes": resident_megabytes(agent), "cpuPercent": cpu,
                "p99Milliseconds": spread(latencies)["p99Milliseconds"]}
    finally:
        for client in clients:
            client.close()


def run(servers, options, progress):
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < CLIENTS + 1_000:
        raise cluster.Failure(f"this process may have {hard} files open, fewer than {CLIENTS + 1_000}: raise the limit (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    samples = []
    for number in range(options.rounds):
        # An agent of its own for each: memory that was used once may stay with a process.
        progress(f"round {number + 1} of {options.rounds}: {CLIENTS:,} clients")
        settings = ["--threads", "1", "--limits-clients-max", str(CLIENTS + 100)]
        if number == 0:
            servers.start_all(["bench"], *settings)
            agent = servers.agents[0]
        else:
            agent.stop()
            agent = servers.start_agent(f"bench-{number + 1}", *settings)
            cluster.wait_until(f"{agent.name} to be ready", lambda: not agent.unreadiness(), process=agent)
        samples.append(measure(agent))
    result = {field: median([sample[field] for sample in samples]) for field in samples[0]}
    worst = max(sample[field] for sample in samples for field in sample if field.endswith("Megabytes"))
    if worst > LIMIT_MEGABYTES:
        raise cluster.Failure(f"{CLIENTS:,} clients took {worst:.0f} MB, more than {LIMIT_MEGABYTES} MB: {samples}")
    return {"clients": CLIENTS, "limitMegabytes": LIMIT_MEGABYTES, "maxMegabytes": worst, **result}


def show(result):
    print(f"{result['clients']:,} clients, medians of {result['rounds']} rounds; the most was {result['maxMegabytes']:.1f} MB, the "
          f"limit is {result['limitMegabytes']} MB")
    rows = [["the agent's memory (MB)", ""]]
    for field, label in [("before", "before they come"), ("connected", "all have connected"),
                         ("used", "each has stored and read a value"), ("idle", f"after {IDLE_SECONDS} s of silence")]:
        rows.append([label, f"{result[field + 'Megabytes']:.1f}"])
    rows.append(["CPU while they are idle (%)", f"{result['cpuPercent']:.1f}"])
    rows.append(["p99 of another client's GET (ms)", f"{result['p99Milliseconds']:.2f}"])
    print_table(rows)


bench("idle", 3, run, show)
