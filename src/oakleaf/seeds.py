"""Random numbers that follow from what they are for, so that no generator's state has to be carried."""

import hashlib


def stream(*key: int | str) -> int:
    """A seed for each key, such as (seed, turn, rank): 63 well mixed bits."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
