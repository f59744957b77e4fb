"""Writing a generator down, and making sure that it is the same."""

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
from oakleaf.export.pretrained import generator_from_card
from oakleaf.games import Game
from oakleaf.runtime.run_dir import atomic_write

log = logging.getLogger(__name__)

CLOSE = 1e-5  # largest difference of a pixel in [-1, 1]
COUNTS = (1, 7)  # images drawn to compare; traced with another number
TRACED = 5


def write_and_verify(
    one: Format, name: str, generator: ExportedGenerator, said: dict[str, Any], game: Game, out: Path
) -> dict[str, Any]:
    """One file, which is there only if it draws the same images.

    Raises:
        UserError: it does not, or the format can't hold this generator.
        OSError: the disk takes no more.
    """
    own = copy.deepcopy(generator)
    silenced = not one.keeps_dropout and remove_sampling_dropout(own)
    file = out / f"generator.{one.suffix}"
    try:
        with atomic_write(file) as part:
            with _quiet():
                one.write(own, tuple(game.sample_inputs(TRACED).values()), part)
            back = one.read(part, generator_from_card(said, name))
            apart = max(_apart(own, back, tuple(game.sample_inputs(count).values())) for count in COUNTS)
            if not apart <= CLOSE:
                raise UserError(f"format={name}: what was read back draws other images, up to {apart:.1e} apart")
    except (UserError, OSError):
        raise
    except Exception as error:
        reason = first_line(error)
        raise UserError(f"format={name} can't hold this generator ({reason}); format=safetensors can") from error
    left_out = ", without the dropout that is noise in training's samples" if silenced else ""
    log.info("%s: read back, images differ by at most %.1e%s", file, apart, left_out)
    return {"name": file.name, "bytes": file.stat().st_size, "largest_difference": apart, "without_dropout": silenced}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what exporters say of their own working, graphs and all; an error still comes out."""
    nowhere = io.StringIO()
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def _apart(one: GeneratorFunction, other: GeneratorFunction, rows: tuple[Tensor, ...]) -> float:
    images = []
    for draw in (one, other):
        torch.manual_seed(0)  # of dropout, where it is noise
        with torch.no_grad():
            images.append(draw(*rows))
    return float((images[0] - images[1]).abs().max())
