"""What script/demo prints: lines with the time, and a table at the end."""

import os
import sys
import time

BOLD, GREEN, RED, PLAIN = "\033[1m", "\033[32m", "\033[31m", "\033[0m"


def milliseconds(seconds):
    return f"{seconds * 1_000:,.0f} ms" if seconds >= 0.0095 else f"{seconds * 1_000:.1f} ms"


class Report:
    def __init__(self):
        self.started = time.monotonic()
        self.is_coloured = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        self.claims = []
        # Reads a second by node, by the part of the show; and the hot key's requests a second meanwhile.
        self.reads = {}
        self.hot_rate = 0

    def colour(self, code, text):
        return f"{code}{text}{PLAIN}" if self.is_coloured else text

    def say(self, text, at=None):
        """A line, with the time that it is about: now, or a moment ago."""
        passed = (time.monotonic() if at is None else at) - self.started
        print(f"[{passed:7.3f} s] {text}")

    def title(self, text):
        print()
        print(self.colour(BOLD, text))

    def check(self, claim, holds, measured):
        self.claims.append((claim, holds, measured))
        if not holds:
            self.say(self.colour(RED, f"✗ {claim}: {measured}"))

    def check_applied(self, claim, applied, since, agents, seconds_max):
        """That all agents applied something in time."""
        missing = [agent for agent in agents if agent not in applied]
        if missing:
            self.check(claim, False, f"not {', '.join(missing)}")
            return
        last = max(event.at for event in applied.values()) - since
        self.check(
            f"{claim} (within {milliseconds(seconds_max)})", last <= seconds_max,
            f"the last after {milliseconds(last)}")

    @property
    def broken(self):
        return [f"{claim} ({measured})" for claim, holds, measured in self.claims if not holds]

    def summarise(self, nodes, home):
        self.title("Summary")
        print(f"Reads a second at each node, as the nodes count them; {self.hot_rate:,.0f} a second of the load are "
              "for the hot key")
        rows = [
            ("quiet", "before the key is hot"), ("off", "hot, agents as plain proxies"),
            ("mitigate", "hot, agents acting"), ("after", "hot, after the node's death and return")]
        header = [f"node {name}" + (" (home)" if name == home else "") for name in nodes]
        width = max(len(words) for _, words in rows)
        print("  " + " " * width + "".join(f"{cell:>16}" for cell in header))
        for part, words in rows:
            print(f"  {words:<{width}}" + "".join(f"{self.reads[part][name]:>16,.0f}" for name in nodes))
        print()
        width = max(len(claim) for claim, _, _ in self.claims)
        for claim, holds, measured in self.claims:
            sign = self.colour(GREEN, "✓") if holds else self.colour(RED, "✗")
            print(f"  {sign} {claim:<{width}}  {measured}")
        print()
        passed = time.monotonic() - self.started
        count = len(self.claims)
        if self.broken:
            print(self.colour(RED, f"{len(self.broken)} of {count} claims did not hold") + f" ({passed:.0f} s)")
        else:
            print(self.colour(GREEN, f"All {count} claims held") + f" ({passed:.0f} s)")
