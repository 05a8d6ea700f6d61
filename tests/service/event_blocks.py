"""What stands in a stream of server-sent events, block by block, with nothing made of it."""

from collections.abc import Iterator

Block = dict[str, str]


def blocks(lines: Iterator[str]) -> Iterator[Block]:
    block: Block = {}
    for line in lines:
        if line:
            name, _, value = line.partition(": ")
            block[name] = value
        elif block:
            yield block
            block = {}
