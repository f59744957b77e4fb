"""Random streams that are derived from what they are used for."""

import hashlib

import torch


def derive_seed(*key: int | str) -> int:
    """Return the seed of the random stream with the given key.

    Every random number of a run belongs to a stream with a key, such as (seed, iteration, rank) for a training step.
    Each stream is seeded from its key by a hash, so it does not depend on how many numbers were drawn before.
    Therefore a resumed run draws what the uninterrupted run would have drawn, without a generator's state in the
    checkpoint; two ranks never draw the same latents; and sampling or evaluating between two training steps does not
    change the training. Streams of one run seed must have different keys: name the purpose by a text,
    `derive_seed(seed, "weights")`.

    Args:
        key: integers and texts; the order counts.

    Returns:
        A non-negative integer of 63 bits (the first 8 bytes of BLAKE2b of the key's repr, without the last bit).
    """
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def seed_generators(seed: int, device: torch.device) -> None:
    """Seed torch's default generators of the CPU and of one device.

    This is `torch.manual_seed` for these two alone. The original also registers the call with every kind of
    accelerator that is not initialized, with a stack trace for each, which takes half a millisecond in each training
    step.

    Args:
        seed: from `derive_seed`.
        device: the device on which the step runs.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(seed)
    elif device.type != "cpu":
        torch.manual_seed(seed)
