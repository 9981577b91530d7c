"""What the clients of script/bench soak ask, and what the replies must be.

A check gets a reply and returns what is wrong with it, or None. A key that is missing is never wrong: nodes restart empty.
"""

from load import command

KEYS = 20_000
HOT_KEYS = 8
LARGE_KEYS = 24
LISTS = 200
CHANNELS = 6
# So many versions of a key are told apart; enough that an older one is not taken for a newer one.
VERSIONS = 1 << 40
LARGE_BYTES = [128 << 10, 512 << 10, 1 << 20, 3 << 20]


def filler(key, length):
    return (key * (length // len(key) + 1))[:length]


def value_of(key, version, length):
    """At least `length` bytes that name the key at both ends and, in between, hold nothing but it."""
    head = b"%s|%d|%d|" % (key, version, length)
    return head + filler(key, length) + b"|" + key


def fault_of(key, value):
    """What is wrong with a value of this key; None when nothing is."""
    if value is None:
        return None
    if not isinstance(value, bytes):
        return f"expected a value of {key!r}, got {value!r:.200}"
    parts = value[:200].split(b"|", 3)
    if len(parts) == 4 and parts[0] == key and parts[1].isdigit() and parts[2].isdigit():
        if value == value_of(key, int(parts[1]), int(parts[2])):
            return None
        return f"the value of {key!r} is torn: {len(value)} bytes, {value[:80]!r} … {value[-80:]!r}"
    return f"expected a value of {key!r}, got {value[:200]!r}"


def version_of(value):
    return int(value.split(b"|", 2)[1])


class Transaction:
    """Once one of its commands was answered with an error, the others' replies are those of commands outside of it."""

    def __init__(self):
        self.has_failed = False


class Request:
    """A command, its kind, and the check of its reply."""

    __slots__ = ("kind", "data", "_check", "own_key", "transaction")

    def __init__(self, kind, words, check, own_key=None, transaction=None):
        self.kind, self._check, self.own_key, self.transaction = kind, check, own_key, transaction
        self.data = command(*words)

    def check(self, value):
        return None if self.transaction and self.transaction.has_failed else self._check(value)


def is_ok(value):
    return None if value == b"OK" else f"expected OK, got {value!r:.200}"


def is_queued(value):
    return None if value == b"QUEUED" else f"expected QUEUED, got {value!r:.200}"


def is_number(value):
    return None if isinstance(value, int) else f"expected a number, got {value!r:.200}"


def is_exactly(expected):
    return lambda value: None if value == expected else f"expected {expected!r}, got {value!r:.200}"


def is_value_of(key):
    return lambda value: fault_of(key, value)


def are_values_of(keys):
    """Of a reply with one value for each key."""
    def check(value):
        if not isinstance(value, list) or len(value) != len(keys):
            return f"expected {len(keys)} values, got {value!r:.200}"
        return next(filter(None, map(fault_of, keys, value)), None)
    return check


def are_elements_of(key):
    """Of a list, all of whose elements name its key."""
    def check(value):
        if not isinstance(value, list):
            return f"expected the list {key!r}, got {value!r:.200}"
        return next(filter(None, (fault_of(key, each) for each in value)), None)
    return check


def is_hello(value):
    return None if isinstance(value, list) and b"proto" in value else f"expected HELLO's reply, got {value!r:.200}"


def is_scan(value):
    if not isinstance(value, list) or len(value) != 2 or not value[0].isdigit() or not isinstance(value[1], list):
        return f"expected SCAN's reply, got {value!r:.200}"
    return next((f"SCAN returned {key!r}" for key in value[1] if not key.startswith(b"soak:")), None)


def verify_message(value, names):
    """What is wrong with what a subscriber got."""
    if not isinstance(value, list) or not value:
        return f"a subscriber got {value!r:.200}"
    if value[0] in (b"subscribe", b"psubscribe", b"ssubscribe"):
        return None if value[1] in names else f"subscribed to {value[1]!r}, which was not asked for"
    channel = value[-2]
    if value[0] not in (b"message", b"pmessage", b"smessage") or value[1] not in names:
        return f"a subscriber to {names} got {value!r:.200}"
    return fault_of(channel, value[-1])


def of_transaction(steps):
    transaction = Transaction()
    return [Request("transaction", words, check, transaction=transaction) for words, check in steps]


class Scenarios:
    """One client's requests."""

    # Weights. `own` keys are written by this client alone, so their versions never go back.
    WEIGHTS = {
        "read": 20, "hot": 22, "write": 12, "delete": 3, "several": 8, "list": 8, "hash": 4, "transaction": 6, "watch": 3,
        "publish": 5, "blocking": 1, "large": 2, "script": 3, "echo": 3, "scan": 1, "own": 8}

    def __init__(self, random, name):
        self.random, self.name = random, name
        self.version = 0
        self.generation = 0
        self.own_acknowledged = 0
        self.names, self.weights = list(self.WEIGHTS), list(self.WEIGHTS.values())

    def batch(self):
        """Requests for one pipeline: of one sort, or of several."""
        sorts = self.random.choices(self.names, self.weights, k=self.random.choice([1, 1, 1, 2, 8]))
        return [request for sort in sorts for request in getattr(self, "of_" + sort)()]

    def failed(self, request):
        """A write of an own key whose fate is not known may still be carried out: the key is not used again."""
        if request.transaction:
            request.transaction.has_failed = True
        if request.own_key == self.own_key:
            self.generation += 1
            self.own_acknowledged = 0

    @property
    def own_key(self):
        return f"soak:hot:own:{self.name}:{self.generation}".encode()

    def next_version(self):
        self.version += 1
        return self.version % VERSIONS

    def key(self):
        # Some keys are more frequent than others.
        return b"soak:k:%d" % int(KEYS * self.random.random() ** 3)

    def hot_key(self):
        return b"soak:hot:%d" % int(HOT_KEYS * self.random.random() ** 2)

    def value(self, key, length=None):
        return value_of(key, self.next_version(), self.random.choice([8, 60, 60, 400, 4_000, 30_000]) if length is None else length)

    def hello(self):
        return [Request("HELLO", ["HELLO", "3"], is_hello)]

    def subscribe(self):
        names = [b"soak:channel:%d" % number for number in self.random.sample(range(CHANNELS), self.random.randint(1, 3))]
        data = command("SUBSCRIBE", *names)
        if self.random.random() < 0.3:
            names.append(b"soak:channel:*")
            data += command("PSUBSCRIBE", b"soak:channel:*")
        return names, data

    def of_read(self):
        return [Request("GET", ["GET", key], is_value_of(key))
                for key in (self.key() for _ in range(self.random.choice([1, 4, 16])))]

    def of_hot(self):
        keys = [self.hot_key() for _ in range(self.random.choice([1, 8, 30]))]
        requests = [Request("GET, hot", ["GET", key], is_value_of(key)) for key in keys]
        if self.random.random() < 0.05:
            requests.append(Request("SET, hot", ["SET", keys[0], self.value(keys[0], 200)], is_ok))
        return requests

    def of_write(self):
        key = self.key()
        words = ["SET", key, self.value(key)]
        if self.random.random() < 0.2:
            words += ["PX", self.random.randint(50, 5_000)]
        if self.random.random() < 0.1:
            return [Request("SET GET", [*words, "GET"], is_value_of(key))]
        return [Request("SET", words, is_ok)]

    def of_delete(self):
        keys = [self.key() for _ in range(self.random.choice([1, 1, 5]))]
        if self.random.random() < 0.1:
            keys = [self.hot_key()]
        return [Request("DEL", [self.random.choice(["DEL", "UNLINK"]), *keys], is_number)]

    def of_several(self):
        keys = list({self.key() for _ in range(self.random.randint(2, 20))} | {self.hot_key()})
        if self.random.random() < 0.3:
            pairs = [word for key in keys for word in (key, self.value(key, 100))]
            return [Request("MSET", ["MSET", *pairs], is_ok)]
        return [Request("MGET", ["MGET", *keys], are_values_of(keys)), Request("EXISTS", ["EXISTS", *keys], is_number)]

    def of_list(self):
        key = b"soak:list:%d" % self.random.randrange(LISTS)
        return [
            Request("RPUSH", ["RPUSH", key, self.value(key, 50), self.value(key, 500)], is_number),
            Request("LRANGE", ["LRANGE", key, 0, -1], are_elements_of(key)),
            Request("LPOP", ["LPOP", key], is_value_of(key)),
            Request("LTRIM", ["LTRIM", key, -30, -1], is_ok)]

    def of_hash(self):
        key = b"soak:hash:%d" % self.random.randrange(LISTS)
        field = b"f%d" % self.random.randrange(20)
        return [
            Request("HSET", ["HSET", key, field, self.value(key, 80)], is_number),
            Request("HGET", ["HGET", key, field], is_value_of(key)),
            Request("HVALS", ["HVALS", key], are_elements_of(key))]

    def of_transaction(self):
        tag = self.random.randrange(1_000)
        one, two = b"soak:{t%d}:1" % tag, b"soak:{t%d}:2" % tag

        def executed(value):
            if not isinstance(value, list) or len(value) != 4:
                return f"expected EXEC's four replies, got {value!r:.200}"
            return is_ok(value[0]) or fault_of(one, value[1]) or is_ok(value[2]) or are_values_of([one, two])(value[3])
        end = (["DISCARD"], is_ok) if self.random.random() < 0.1 else (["EXEC"], executed)
        return of_transaction([
            (["MULTI"], is_ok), (["SET", one, self.value(one, 100)], is_queued), (["GET", one], is_queued),
            (["SET", two, self.value(two, 100)], is_queued), (["MGET", one, two], is_queued), end])

    def of_watch(self):
        key = b"soak:{t%d}:1" % self.random.randrange(20)

        def executed(value):
            return None if value is None else is_ok(value[0]) if len(value) == 1 else f"expected one reply, got {value!r:.200}"
        return of_transaction([
            (["WATCH", key], is_ok), (["GET", key], is_value_of(key)), (["MULTI"], is_ok),
            (["SET", key, self.value(key, 100)], is_queued), (["EXEC"], executed)])

    def of_publish(self):
        channel = b"soak:channel:%d" % self.random.randrange(CHANNELS)
        return [Request("PUBLISH", ["PUBLISH", channel, self.value(channel, 200)], is_number)]

    def of_blocking(self):
        key = b"soak:blocking:%d" % self.random.randrange(20)

        def popped(value):
            if value is None:
                return None
            return fault_of(key, value[1]) if len(value) == 2 and value[0] == key else f"BLPOP {key!r}: {value!r:.200}"
        if self.random.random() < 0.5:
            return [Request("RPUSH", ["RPUSH", key, self.value(key, 50)], is_number)]
        return [Request("BLPOP", ["BLPOP", key, "0.2"], popped)]

    def of_large(self):
        key = b"soak:large:%d" % self.random.randrange(LARGE_KEYS)
        if self.random.random() < 0.3:
            return [Request("SET, large", ["SET", key, self.value(key, self.random.choice(LARGE_BYTES))], is_ok)]
        return [Request("GET, large", ["GET", key], is_value_of(key))]

    def of_script(self):
        key = self.key()

        def returned(value):
            return (fault_of(key, value[1]) if isinstance(value, list) and len(value) == 2 and value[0] == key
                    else f"expected {key!r} and its value, got {value!r:.200}")
        script = "return {KEYS[1], redis.call('get', KEYS[1]) or ARGV[1]}"
        return [Request("EVAL", ["EVAL", script, 1, key, value_of(key, 0, 1)], returned)]

    def of_echo(self):
        token = f"soak {self.name} {self.next_version()}".encode()
        return [Request("ECHO", ["ECHO", token], is_exactly(token))]

    def of_scan(self):
        return [Request("SCAN", ["SCAN", 0, "COUNT", 20], is_scan)]

    def of_own(self):
        """Writes and reads of a key that nobody else writes, often enough to make it hot: what was acknowledged is not older
        than what is read after it."""
        key, requests = self.own_key, []
        for _ in range(self.random.choice([1, 1, 3])):
            version = self.next_version()
            requests.append(self.own_set(key, version))
            requests += [self.own_get(key) for _ in range(self.random.choice([1, 3, 25]))]
        return requests

    def own_set(self, key, version):
        def acknowledged(value):
            if self.own_key == key:
                self.own_acknowledged = version
            return is_ok(value)
        return Request("SET, own", ["SET", key, value_of(key, version, 100), "PX", 30_000], acknowledged, key)

    def own_get(self, key):
        # The replies come in the order of the requests, so what was acknowledged by then was sent before this.
        def read(value):
            fault = fault_of(key, value)
            if fault or value is None or self.own_key != key:
                return fault
            return (None if version_of(value) >= self.own_acknowledged else
                    f"{key!r} had version {self.own_acknowledged} acknowledged, and {version_of(value)} is read")
        return Request("GET, own", ["GET", key], read, key)
