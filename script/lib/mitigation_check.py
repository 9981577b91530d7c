"""What script/bench mitigation makes of what it saw: arithmetic without servers."""

from collections import defaultdict


def cut(sent, reached):
    """The part of the reads that did not reach a node."""
    return 1 - reached / sent if sent else 0.0


def busiest_over_mean(loads):
    """How much more the busiest node does than the mean of all; 1 where all do the same."""
    return max(loads) * len(loads) / sum(loads) if sum(loads) else 0.0


def most_within(times, seconds):
    """The most of these moments that lie in any span of less than so many seconds."""
    ordered, first, most = sorted(times), 0, 0
    for last, time in enumerate(ordered):
        while time - ordered[first] >= seconds:
            first += 1
        most = max(most, last - first + 1)
    return most


def most_fills(reads, seconds):
    """Of reads as triples of time, who asked and key: the most that one asker sent for one key within so many seconds, and both
    of their names."""
    times = defaultdict(list)
    for time, asker, key in reads:
        times[asker, key].append(time)
    return max(((most_within(each, seconds), *who) for who, each in times.items()), default=(0, "", ""))


def last_kept_back(answered, seen, tolerance):
    """When the last read was answered that its node did not see; None where it saw all.

    `answered`: pairs of when a read was sent and when its reply came. `seen`: when the node executed reads of that key, by the same
    clock up to the tolerance; it may have seen more (a refresh, a comparison), which belong to none. A read that went there was
    executed between the two. Both are gone through from the end, each execution being taken for the latest reply that it can belong to.
    """
    left = sorted(seen)
    for sent, replied in sorted(answered, key=lambda pair: pair[1], reverse=True):
        while left and left[-1] > replied + tolerance:
            left.pop()
        if not left or left[-1] < sent - tolerance:
            return replied
        left.pop()
    return None
