"""Deterministic payload: both ends can make the same bytes and their digest without telling each other."""

import hashlib
import random

BLOCK = 1 << 20
_SEED_BLOCK = random.Random(7).randbytes(BLOCK)


def blocks(count):
    """Yields `count` bytes in blocks; every block differs, so a lost or doubled one changes the digest."""
    number = 0
    while count > 0:
        block = number.to_bytes(8, "big") + _SEED_BLOCK[8:]
        yield block[:count]
        count -= len(block)
        number += 1


def digest(count):
    total = hashlib.sha256()
    for block in blocks(count):
        total.update(block)
    return total.hexdigest()
