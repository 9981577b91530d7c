"""A recorded history of reads and writes, held against guarantees 1 and 2 of docs/failure-modes.md.

Pure: it sees times and sequence numbers, and no server, no clock. All times are seconds of one monotonic clock, taken by the one
process that asks: `sent` before the request leaves, `acknowledged` and `received` after the reply has come.

A key has one writer, which sends a write only when the one before has ended. So sequence numbers say which of two writes is newer.

**Staleness.** A read that was sent at t and returned sequence n is stale by t minus the moment at which the first write with a
greater sequence was acknowledged, and by 0 where that is later than t. Both ends lean to the side of the cache: the value was
overwritten before its writer knew, and the agent answered after the reader had asked. So nothing is called stale that was not, and
what is measured is less than the truth by at most the time that a request takes.

**Writes whose outcome is unknown** (an error, a lost connection, no reply in time) may have been carried out, may be later, or
never. They make no other value stale. Their own value is judged where the write was *guarded*, that is, where the node itself
refuses it beside a newer one. An unguarded one may arrive after a newer write and be what the node holds from then on. It cannot
any more once everything is settled (`settle`), so what it wrote is old from the first write on that was sent after that.

**No value** is what a key has after a write that deletes it, and after a loss.

**Losses.** A node that comes back empty has lost acknowledged writes, and a topology that moves a key leaves its value behind. That
is the nodes' doing and not the cache's. A loss is an interval: before its beginning the old home holds the key, after its end the
new one does, empty at first, and in between nobody knows. A write that was under way in between may be on either side: it makes
nothing stale, because it may be gone. "No value" is what a home holds from a loss on until the next write that was sent after the
loss; its staleness counts from that write's acknowledgement. Values from before a loss stay older than all that is written after it.

**Caps.** A read through an agent may be stale by the staleness cap of its key's rule. Where the agent could not reach the key's home
at some time between question and answer, the rule's stale-on-error cap takes its place, if it is longer. A read that goes to the
node itself may not be stale at all: if it is, the history is wrong, and so is every other verdict.
"""

import bisect
from typing import NamedTuple, Optional

# The path of requests that go past the agents.
DIRECT = "direct"
# A reply that is not a value of the key that was asked for.
FOREIGN = -1

GUARANTEE_1 = "guarantee 1"
GUARANTEE_2 = "guarantee 2"
HISTORY = "history"


class Write(NamedTuple):
    sequence: int
    path: str
    sent: float
    # When the reply came, or nobody waited for it any more.
    ended: float
    # False: the outcome is unknown.
    is_acknowledged: bool
    is_guarded: bool
    is_delete: bool

    @property
    def may_be_late(self):
        return not self.is_acknowledged and not self.is_guarded


class Read(NamedTuple):
    key: str
    path: str
    client: int
    sent: float
    received: float
    # None: the key has no value.
    sequence: Optional[int]


class Limits(NamedTuple):
    """Of a rule, in seconds."""
    cap: float
    on_error: float


class Outage(NamedTuple):
    """Agents that cannot reach the home of keys."""
    agents: frozenset
    keys: frozenset
    begin: float
    end: float


class Violation(NamedTuple):
    guarantee: str
    what: str
    read: Read
    staleness: float
    cap: float
    # The write that the read should have seen.
    missed: Optional[Write]
    # The write whose value it returned.
    returned: Optional[Write]

    def __str__(self):
        read, ago = self.read, lambda time: f"{(self.read.sent - time) * 1_000:.1f} ms before"
        text = (f"{self.guarantee}: {read.key}, read through {read.path} by client {read.client}, sent at {read.sent:.6f}, "
                f"answered after {(read.received - read.sent) * 1_000:.1f} ms with "
                f"{'no value' if read.sequence is None else f'sequence {read.sequence}'}: {self.what}")
        if self.missed:
            text += (f"; sequence {self.missed.sequence} was written through {self.missed.path} (sent {ago(self.missed.sent)}, "
                     f"acknowledged {ago(self.missed.ended)})")
        if self.returned:
            end = ago(self.returned.ended)
            text += (f"; what it returned was written through {self.returned.path} (sent {ago(self.returned.sent)}, "
                     f"{'acknowledged' if self.returned.is_acknowledged else 'given up'} {end})")
        return text


class Verdict(NamedTuple):
    staleness: float
    cap: float
    is_on_error: bool
    violations: list


class _Index:
    """What is known of one key, arranged for questions."""

    def __init__(self, writes, losses, settled, delete_under_way):
        self.delete_under_way = delete_under_way
        self.by_sequence = {write.sequence: write for write in writes}
        self.last_sequence = writes[-1].sequence if writes else 0
        self.losses, self.settled = losses, settled
        # Writes that happened, and are where the key is looked for.
        self.certain = [write for write in writes if write.is_acknowledged and not self._is_in_limbo(write)]
        self.sequences = [write.sequence for write in self.certain]
        self.sent = [write.sent for write in self.certain]
        self.by_path = {}
        for position, write in enumerate(self.certain):
            ended, positions = self.by_path.setdefault(write.path, ([], []))
            ended.append(write.ended)
            positions.append(position)
        self.deletes = [write for write in writes if write.is_delete]
        self.deletes_sent = [write.sent for write in self.deletes]
        self.late_deletes = [write for write in self.deletes if write.may_be_late]
        self.late_deletes_sent = [write.sent for write in self.late_deletes]

    def _is_in_limbo(self, write):
        return any(write.sent < end and write.ended > begin for begin, end in self.losses)

    def sent_after(self, time):
        return bisect.bisect_left(self.sent, time)

    def settled_after(self, write):
        position = bisect.bisect_left(self.settled, write.ended)
        return self.settled[position] if position < len(self.settled) else float("inf")

    def first_after(self, write):
        """The place among the certain writes of the first one after which what the write left is old."""
        if write.may_be_late:
            return self.sent_after(self.settled_after(write))
        return bisect.bisect_right(self.sequences, write.sequence)

    def first_after_nothing(self, before):
        """The same for "no value", as it may have been right at any time before."""
        if self.delete_under_way is not None and self.delete_under_way <= before:
            return len(self.certain)
        places = [self.sent_after(end) for begin, end in self.losses if begin <= before]
        for writes, sent in ((self.deletes, self.deletes_sent), (self.late_deletes, self.late_deletes_sent)):
            position = bisect.bisect_right(sent, before)
            if position:
                places.append(self.first_after(writes[position - 1]))
        return max(places, default=0)

    def last_of(self, path, before):
        """The place of the newest certain write that the path had acknowledged by then; -1 if there is none."""
        ended, positions = self.by_path.get(path, ((), ()))
        position = bisect.bisect_right(ended, before)
        return positions[position - 1] if position else -1


class History:
    """What happened. Writes of a key are added in their order, all else at any time before `judge`."""

    def __init__(self, limits):
        self.limits = dict(limits)
        self.writes = {key: [] for key in self.limits}
        self.losses = {key: [] for key in self.limits}
        self.outages = []
        self.settled = []
        self.deletes_under_way = {}
        self._indices = {}

    def add_write(self, key, write):
        known = self.writes[key]
        if known and (write.sequence <= known[-1].sequence or write.sent < known[-1].ended):
            raise ValueError(f"{key} has more than one writer: {write} came after {known[-1]}")
        known.append(write)
        self._indices.pop(key, None)

    def add_loss(self, keys, begin, end):
        for key in keys:
            self.losses[key].append((begin, end))
            self._indices.pop(key, None)

    def add_outage(self, agents, keys, begin, end):
        self.outages.append(Outage(frozenset(agents), frozenset(keys), begin, end))

    def settle(self, time):
        """No write that had ended by then is still on its way. Times come in their order."""
        self.settled.append(time)
        self._indices.clear()

    def set_deletes_under_way(self, sent):
        """Of the keys whose newest write deletes them and has not ended: when it was sent."""
        self.deletes_under_way = dict(sent)
        self._indices.clear()

    def _index(self, key):
        if key not in self._indices:
            self._indices[key] = _Index(
                self.writes[key], self.losses[key], self.settled, self.deletes_under_way.get(key))
        return self._indices[key]

    def cap_of(self, read):
        """The cap that guarantee 2 names for the read, and whether it is the one for errors."""
        if read.path == DIRECT:
            return 0.0, False
        limits = self.limits[read.key]
        if limits.on_error > limits.cap and any(
                outage.begin <= read.received and read.sent <= outage.end
                and read.path in outage.agents and read.key in outage.keys for outage in self.outages):
            return limits.on_error, True
        return limits.cap, False

    def judge(self, read):
        """Call it when every write that ended before the read did has been added, so has every loss that began before, and what is
        under way is known."""
        index = self._index(read.key)
        cap, is_on_error = self.cap_of(read)
        returned = None
        if read.sequence is None:
            place = index.first_after_nothing(read.received)
        elif (returned := index.by_sequence.get(read.sequence)) and not returned.is_delete:
            place = index.first_after(returned)
        elif returned is None and read.sequence == index.last_sequence + 1:
            # The write that is under way has not been added yet.
            place = len(index.certain)
        else:
            return Verdict(0.0, cap, is_on_error, [Violation(HISTORY, "nobody wrote that", read, 0.0, cap, None, None)])
        violations = []
        overwrote = index.certain[place] if place < len(index.certain) else None
        staleness = max(0.0, read.sent - overwrote.ended) if overwrote else 0.0
        if staleness > cap:
            allowed = "the node itself is never stale" if read.path == DIRECT else f"the cap is {cap * 1_000:.0f} ms"
            violations.append(Violation(
                HISTORY if read.path == DIRECT else GUARANTEE_2,
                f"stale by {staleness * 1_000:.1f} ms, {allowed}{' while home is out of reach' if is_on_error else ''}",
                read, staleness, cap, overwrote, returned))
        own = index.last_of(read.path, read.sent) if read.path != DIRECT else -1
        if own >= place:
            violations.append(Violation(
                GUARANTEE_1, "the agent had acknowledged a newer write", read, staleness, cap, index.certain[own], returned))
        return Verdict(staleness, cap, is_on_error, violations)


class Tally:
    """The verdicts of one phase, added up."""

    def __init__(self):
        self.under_cap, self.on_error = [], []
        self.direct = 0
        self.violations = []

    def add(self, read, verdict):
        self.violations += verdict.violations
        if read.path == DIRECT:
            self.direct += 1
        else:
            (self.on_error if verdict.is_on_error else self.under_cap).append(verdict.staleness)


def judge_all(history, reads):
    """The tally of reads of one phase. Only outages that touch them are looked at."""
    tally = Tally()
    if not reads:
        return tally
    begin, end = min(read.sent for read in reads), max(read.received for read in reads)
    outages = history.outages
    history.outages = [outage for outage in outages if outage.begin <= end and begin <= outage.end]
    try:
        for read in reads:
            if read.sequence == FOREIGN:
                tally.violations.append(Violation(
                    HISTORY, "what came back is not a value of this key", read, 0.0, 0.0, None, None))
            else:
                tally.add(read, history.judge(read))
    finally:
        history.outages = outages
    return tally
