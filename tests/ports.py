"""Ports for the services of tests: no two tests get the same one while both run, in whichever processes they are.

To ask the system for a free port and let it go again is not enough: until the service binds it, seconds later, the system may
give it to another test or to an outgoing connection, and then the wrong service answers.
"""

from __future__ import annotations

import itertools
import socket
from collections.abc import Iterator

from fraisier.demo import stage

_BLOCKS = [range(first, first + 100) for first in (*range(10_000, 18_000, 100), *range(29_000, 32_700, 100))]
"""Below the ports of outgoing connections, beside those of the demonstration."""

_claims: list[socket.socket] = []
"""Kept open: a name is held as long as its socket."""


def _claimed() -> Iterator[int]:
    """Yield ports of blocks that are this process's alone until it ends; when there are no more, those anew."""
    mine: list[range] = []
    for block in _BLOCKS:
        claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            claim.bind(f"\0fraisier-tests-{block.start}")  # an abstract name: given back at the process's end
        except OSError:
            claim.close()
            continue
        _claims.append(claim)
        mine.append(block)
        yield from block
    yield from itertools.cycle(itertools.chain.from_iterable(mine))


_ports = _claimed()


def free_ports(count: int) -> list[int]:
    """Return ports of 127.0.0.1 that nobody has bound and no other test is given; FraisierError when there are none."""
    return stage.free_ports(itertools.islice(_ports, sum(map(len, _BLOCKS))), count)


def free_port() -> int:
    """Return one such port."""
    return free_ports(1)[0]
