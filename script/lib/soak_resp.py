"""Reading RESP2 and RESP3 for script/bench soak: values, or where a reply that has not arrived whole goes on."""

import re


class Incomplete(Exception):
    """More bytes are needed: the buffer has to hold at least `needed`."""

    def __init__(self, needed):
        super().__init__(needed)
        self.needed = needed


class ReplyError(str):
    """An error reply."""


class Push(list):
    """A push of RESP3."""


def parse(buffer, position):
    """The value at `position`, and where the next one begins. Maps come as lists of pairs, flat."""
    end = buffer.find(b"\r\n", position)
    if end < 0:
        raise Incomplete(len(buffer) + 1)
    sign, line, after = chr(buffer[position]), bytes(buffer[position + 1:end]), end + 2
    if sign == "+":
        return line, after
    if sign == "-":
        return ReplyError(line.decode(errors="replace")), after
    if sign == ":":
        return int(line), after
    if sign == "$":
        length = int(line)
        if length < 0:
            return None, after
        if after + length + 2 > len(buffer):
            raise Incomplete(after + length + 2)
        if buffer[after + length:after + length + 2] != b"\r\n":
            raise ValueError(f"a bulk string of {length} bytes does not end where it should")
        return bytes(buffer[after:after + length]), after + length + 2
    if sign == "_":
        return None, after
    if sign == ",":
        return float(line), after
    if sign == "#":
        return line == b"t", after
    if sign in "*~>%":
        count = int(line)
        if count < 0:
            return None, after
        items = Push() if sign == ">" else []
        for _ in range(count * 2 if sign == "%" else count):
            item, after = parse(buffer, after)
            items.append(item)
        return items, after
    raise ValueError(f"{bytes(buffer[position:position + 60])!r}")


# What differs from one error of a kind to the next: quoted names, addresses, keys, numbers.
VARIABLE = re.compile(r"'[^']*'|\"[^\"]*\"|\S*soak:\S*|\S*\d\S*|\bnode \w+")


def kind_of(error):
    """An error's text without what is only this error's."""
    return VARIABLE.sub("…", error)[:90]
