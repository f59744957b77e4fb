"""Random numbers that follow from what they are for, so that no generator's state has to be carried."""

import hashlib

import torch


def derive_seed(*key: int | str) -> int:
    """A seed for each key, such as (seed, turn, rank): 63 well mixed bits."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def seed_generators(seed: int, device: torch.device) -> None:
    """`torch.manual_seed` for the CPU and this device alone, every turn. The whole one asks every kind of device that
    is not there to remember the call, with a stack trace each: half a millisecond."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(seed)
    elif device.type != "cpu":
        torch.manual_seed(seed)
