"""Oakleaf as its users run it: python framework.py TURNS OVERRIDE ...

What `python train.py OVERRIDE ...` does, callbacks, loggers and all, and a beat every TURNS turns.
"""

import sys
import tempfile

from beat import Beat

from oakleaf.builder.build import build
from oakleaf.builder.compose import compose_config
from oakleaf.builder.trainer import build_trainer
from oakleaf.cli.hardware import import_torch


def main() -> None:
    import_torch()
    with tempfile.TemporaryDirectory() as folder:
        module, data, recipe = build(compose_config("train", [*sys.argv[2:], f"folder={folder}"]))
        trainer = build_trainer(recipe)
        trainer.callbacks.append(Beat(int(sys.argv[1])))  # type: ignore[attr-defined]
        trainer.fit(module, datamodule=data)


if __name__ == "__main__":
    main()
