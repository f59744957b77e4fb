"""Writing a generator to a file, and verifying the file; `oakleaf.export` says how."""

import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from oakleaf.errors import UserError, first_line
from oakleaf.export.formats import Format, GeneratorFunction
from oakleaf.export.generator import ExportedGenerator, remove_sampling_dropout
from oakleaf.export.pretrained import build_generator
from oakleaf.games import Game
from oakleaf.runtime.run_dir import atomic_write

log = logging.getLogger(__name__)

TOLERANCE = 1e-5  # largest difference of a pixel in [-1, 1]
TRACED_BATCH = 5  # images in the batch that is traced
VERIFIED_BATCHES = (1, 7)  # and in those that are compared


def write_and_verify(
    file_format: Format, name: str, generator: ExportedGenerator, card: dict[str, Any], game: Game, out: Path
) -> dict[str, Any]:
    """Write one file, read it back, and keep it only if it generates the same images.

    Args:
        file_format: the format.
        name: its name on the command line.
        generator: what is exported.
        card: its model card.
        game: the game of the checkpoint, which draws the inputs for the comparison.
        out: folder for `generator.<suffix>`.

    Returns:
        The file's entry in the card.

    Raises:
        UserError: the images differ, or the format cannot represent this generator.
        OSError: the disk is full.
    """

    def inputs(count: int) -> tuple[Tensor, ...]:
        torch.manual_seed(0)
        return tuple(game.sample_inputs(count).values())

    exported = copy.deepcopy(generator)
    without_dropout = not file_format.keeps_dropout and remove_sampling_dropout(exported)
    file = out / f"generator.{file_format.suffix}"
    try:
        with atomic_write(file) as part:
            with _silenced():
                file_format.write(exported, inputs(TRACED_BATCH), part)
            loaded = file_format.read(part, build_generator(card, name))
            differences = [_largest_difference(exported, loaded, inputs(count)) for count in VERIFIED_BATCHES]
            difference = float(torch.tensor(differences).max())  # NaN if one is
            if not difference <= TOLERANCE:
                raise UserError(
                    f"format={name}: the file generates other images, which differ by up to {difference:.1e}"
                )
    except (UserError, OSError):
        raise
    except Exception as error:
        reason = first_line(error)
        raise UserError(f"format={name} can't represent this generator ({reason}); format=safetensors can") from error
    note = ", without the dropout that adds noise to samples in training" if without_dropout else ""
    log.info("%s: read back, images differ by at most %.1e%s", file, difference, note)
    return {
        "name": file.name,
        "bytes": file.stat().st_size,
        "largest_difference": difference,
        "without_dropout": without_dropout,
    }


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Suppress what exporters print and log about their own work; errors are still raised."""
    output = io.StringIO()
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def _largest_difference(one: GeneratorFunction, other: GeneratorFunction, inputs: tuple[Tensor, ...]) -> float:
    images = []
    for generate in (one, other):
        torch.manual_seed(0)  # for dropout that is still active
        with torch.no_grad():
            images.append(generate(*inputs))
    return float((images[0] - images[1]).abs().max())
