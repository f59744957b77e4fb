"""python export.py: from a checkpoint to a generator that others can use."""

import logging
from typing import Any

from omegaconf import DictConfig, OmegaConf

from oakleaf.cli.hardware import libraries
from oakleaf.cli.main import enter
from oakleaf.errors import Mistake
from oakleaf.runtime.run_dir import made

log = logging.getLogger(__name__)


def main() -> None:
    enter("export", export)


def export(config: DictConfig) -> None:
    """Write the generator in each format, read it back and compare; then its card."""
    if OmegaConf.is_missing(config, "checkpoint"):
        raise Mistake("checkpoint= is missing: name a run's folder or a checkpoint file")
    libraries()
    from oakleaf.builder.recipe import make, opened, resolved
    from oakleaf.config.validate import check
    from oakleaf.export import model_card
    from oakleaf.export.generator import Drawer
    from oakleaf.export.pretrained import push_to_hub
    from oakleaf.export.write import written
    from oakleaf.runtime.checkpoint_io import find, read

    asked: Any = OmegaConf.to_container(config, resolve=True)
    words: dict[str, Any] = {"checkpoint": str, "out": str, "push_to_hub": str | None}
    check(asked, fixed={"": {**words, "average": bool, "private": bool, "format": Any}})
    formats = {name: make(node) for name, node in (asked.get("format") or {}).items()}
    if not formats:
        raise Mistake("format= is empty: safetensors, onnx or pt2, or several as format=[safetensors,onnx]")
    for one in formats.values():
        one.ready()
    file = find(asked["checkpoint"])
    content = read(file)
    module = opened(content)
    with module.averaged(asked["average"]) as game:
        drawer = Drawer(game)
    said = model_card.card(module, drawer, resolved(content["hyper_parameters"]), file, asked["average"])
    out = made(asked["out"])
    for name, one in formats.items():
        said["files"][name] = written(one, name, drawer, said, module.game, out)
    model_card.write(said, out)
    log.info("%s/%s says how to use it", out, model_card.CARD)
    if asked["push_to_hub"]:
        log.info("%s", push_to_hub(out, asked["push_to_hub"], asked["private"]))


if __name__ == "__main__":
    main()
