"""Where the time of a few turns went, by kinds of work, and how to say so."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

DATA, OPTIMIZER, CASTS = "waiting for data", "the optimizer", "copies and casts"
CONVOLUTIONS, HOST, IDLE = "convolutions", "Python and the framework", "the GPU was idle"
CALLBACKS = "samples, checkpoints and other callbacks"
FUSED, SMALL = "fused kernels of compiled graphs", "activations, losses and other small operations"
KINDS = {
    DATA: r"dataloader_next$|\.batch_to_device$|batch_transfer$",
    CALLBACKS: r"^\[Callback\]",
    OPTIMIZER: r"^Optimizer\.",
    "averages of weights": r"_foreach_lerp",
    "exchange between processes": r"c10d|nccl|gloo|all_?reduce",
    CONVOLUTIONS: r"conv",
    "matrix products": r"linear$|matmul|Linear|::(add|b)?mm$|(Mm|Bmm|Addmm)Backward",
    "normalisation": r"(batch|layer|group|instance)_?norm",
    CASTS: r"::(copy_|clone|contiguous|cat|index_select)$|CopySlices|CloneBackward|^Memcpy",
}
CAST = re.compile(r"::_to_copy$|ToCopyBackward")  # a cast inside a convolution is a cast
BACKWARD = re.compile(r"^autograd::engine")
COMPILED = re.compile(r"Compiled|^triton_|cudaGraphLaunch|cuGraphLaunch")
SCOPE = re.compile(r"\[|run_training_")  # Lightning's, around operations
PATTERNS = {kind: re.compile(pattern, re.IGNORECASE) for kind, pattern in KINDS.items()}
TWO_WAYS = (CONVOLUTIONS, "matrix products", "normalisation")

ADVICE = {  # kind: the share from which something can be done about it, and what
    DATA: (0.2, "the data are late: data.keep=device where they fit, else a larger data.workers"),
    OPTIMIZER: (0.15, "the optimizer costs the same for any batch: a larger data.batch_size shares it out"),
    "exchange between processes": (0.2, "processes wait for each other: a larger data.batch_size, or fewer of them"),
    CALLBACKS: (0.2, "callbacks.samples.every=IMAGES callbacks.checkpoint.every=IMAGES make them seldom"),
    CASTS: (0.25, "many copies and casts: compile=true fuses them; trainer.precision=32-true has no casts"),
    HOST: (0.35, "the networks are small for this machine: a larger data.batch_size, or compile=true"),
    IDLE: (0.25, "the GPU waits for the host: compile=cuda_graphs, or a larger data.batch_size"),
    SMALL: (0.3, "many small operations: compile=true fuses them"),
}


def kind(path: list[str]) -> str:
    """What an operation belongs to, by the names of those that called it, the outermost first, and its own."""
    found = _outermost(path)
    if found not in (DATA, OPTIMIZER, CALLBACKS) and any(CAST.search(name) for name in path):
        return CASTS
    if not found and SCOPE.match(path[-1]):
        return HOST
    if not found:
        return FUSED if any(COMPILED.search(name) for name in path) else SMALL
    if found in TWO_WAYS:
        return f"{found}, {'backward' if any(BACKWARD.search(name) for name in path) else 'forward'}"
    return found


def _outermost(path: list[str]) -> str:
    return next((kind for name in path for kind, pattern in PATTERNS.items() if pattern.search(name)), "")


def shares(events: Iterable[Any], seconds: float, device: bool) -> dict[str, float]:
    """The share of each kind in so many seconds, largest first; together 1.

    events: of torch's profiler. device: whether time on the GPU counts, or that of the thread that plays the turns.
    What no operation accounts for is idleness of the GPU, or Python's.
    """
    events = list(events)
    thread = next((event.thread for event in events if SCOPE.match(event.name)), None)
    spent: defaultdict[str, float] = defaultdict(float)
    for event in events:
        microseconds = event.self_device_time_total if device else event.self_cpu_time_total
        if microseconds > 0 and (device or event.thread == thread) and "CPU" in str(event.device_type):
            spent[kind(_path(event))] += microseconds / 1e6
    whole = max(seconds, sum(spent.values()))  # streams may overlap
    spent[IDLE if device else HOST] += whole - sum(spent.values())
    return {name: part / whole for name, part in sorted(spent.items(), key=lambda item: -item[1])}


def _path(event: Any) -> list[str]:
    names = []
    while event is not None:
        names.append(event.name)
        event = event.cpu_parent
    return names[::-1]


def words(shares: Mapping[str, float], milliseconds: float) -> str:
    """The three largest costs of a turn, and what may be done about one."""
    largest = [f"{name} {share:.0%}" for name, share in list(shares.items())[:3]]
    line = f"a turn takes {milliseconds:.3g} ms: {'; '.join(largest)}"
    advice = [ADVICE[name][1] for name, share in shares.items() if name in ADVICE and share >= ADVICE[name][0]]
    return "\n".join([line, *advice[:1]])
