"""Oakleaf as its users run it: python framework.py TURNS OVERRIDE ...

What `python train.py OVERRIDE ...` does, callbacks, loggers and all, and a beat every TURNS turns.
"""

import sys
import tempfile

from beat import Beat
from hydra import compose, initialize_config_dir

from oakleaf.cli.door import conf
from oakleaf.cli.train import _quiet
from oakleaf.recipe import build
from oakleaf.resolvers import register
from oakleaf.trainer import build_trainer


def main() -> None:
    register()
    _quiet()
    with tempfile.TemporaryDirectory() as folder, initialize_config_dir(str(conf()), version_base="1.3"):
        module, data, recipe = build(compose("train", overrides=[*sys.argv[2:], f"folder={folder}"]))
        trainer = build_trainer(recipe)
        trainer.callbacks.append(Beat(int(sys.argv[1])))  # type: ignore[attr-defined]
        trainer.fit(module, datamodule=data)


if __name__ == "__main__":
    main()
