"""Generators that were exported, from a folder or from the hub."""

from pathlib import Path
from typing import Any

from oakleaf.builder.load import build_from_stored
from oakleaf.config.allowlist import scan_untrusted
from oakleaf.errors import UserError, first_line
from oakleaf.export import model_card
from oakleaf.export.generator import ExportedGenerator, load_weights
from oakleaf.runtime.run_dir import redact_home

WEIGHTS = "generator.safetensors"
HUB = "huggingface_hub is not installed here: pip install 'oakleaf[hub]'"


def from_pretrained(place: str | Path, revision: str | None = None) -> ExportedGenerator:
    """What `python export.py checkpoint=RUN` wrote into a folder, or `name/of-a-repository` on the hub: `drawer(z)`,
    `drawer(z, y)`, `drawer.draw(64, seed=0)`; see `ExportedGenerator`. Nothing in it is code, and nothing of it is run.

    Raises:
        UserError: no such place, no safetensors in it, or a card that asks for what no recipe may ask for.
    """
    folder = Path(place).expanduser()
    if not folder.is_dir():
        folder = _downloaded(str(place), revision)
    said = model_card.read(folder)
    if not (folder / WEIGHTS).is_file():
        raise UserError(f"{folder} holds no {WEIGHTS}: export.py format=safetensors writes one")
    generator = generator_from_card(said, str(folder / model_card.CARD))
    load_weights(generator, folder / WEIGHTS)
    return generator


def generator_from_card(said: dict[str, Any], of: str) -> ExportedGenerator:
    """The generator of a card, without what it learned."""
    scan_untrusted(said["recipe"], of)
    generator = ExportedGenerator(build_from_stored(said["recipe"]).game)
    if hasattr(generator.game.condition, "words"):
        generator.game.condition.words = said.get("words") or []  # type: ignore[union-attr]
    generator.card = said
    return generator


def push_to_hub(folder: str | Path, repository: str, private: bool = True) -> str:
    """Upload an exported folder; the address. The login is huggingface_hub's own.

    Raises:
        UserError: no package, no login, no network.
    """
    try:
        from huggingface_hub import HfApi
    except ImportError as error:
        raise UserError(HUB) from error
    model_card.read(Path(folder))
    try:
        api = HfApi()
        api.create_repo(repository, private=private, exist_ok=True)
        return str(api.upload_folder(repo_id=repository, folder_path=str(folder), commit_message="Add a generator"))
    except Exception as error:
        raise UserError(f"push_to_hub={repository}: {first_line(error)} (hf auth login says who you are)") from error


def _downloaded(place: str, revision: str | None) -> Path:
    if place.count("/") != 1 or place.startswith((".", "/", "~")):
        raise UserError(f"{redact_home(place)}: there is no such folder, and name/of-a-repository is not written so")
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise UserError(f"{place}: there is no such folder, and {HUB}") from error
    try:
        return Path(snapshot_download(place, revision=revision, allow_patterns=[model_card.CARD, WEIGHTS]))
    except Exception as error:
        raise UserError(f"{place}: no such folder, and not to be had from the hub ({first_line(error)})") from error
