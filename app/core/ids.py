"""UUIDv7: ids that sort by the time they were made, so that new rows land at an index's end."""

import secrets
import time
from uuid import UUID


def new_id() -> UUID:
    """Return a UUIDv7 (RFC 9562, section 5.7): 48 bits of Unix milliseconds, then random bits."""
    milliseconds = time.time_ns() // 1_000_000
    random_bits = secrets.randbits(74)
    value = (milliseconds & ((1 << 48) - 1)) << 80
    value |= 0x7 << 76 | (random_bits >> 62) << 64  # version, rand_a
    value |= 0b10 << 62 | (random_bits & ((1 << 62) - 1))  # variant, rand_b
    return UUID(int=value)
