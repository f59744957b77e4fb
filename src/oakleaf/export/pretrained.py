"""Loading exported generators, from a folder or from the Hugging Face hub, and uploading them.

An exported generator may come from an untrusted source. Its files are JSON and safetensors, which contain no code, and
the card's recipe is checked against the list of classes that a recipe may build before anything of it is resolved or
built (`oakleaf.config.allowlist`).
"""

from pathlib import Path
from typing import Any

from oakleaf.builder.load import build_from_stored, require_gan
from oakleaf.config.allowlist import scan_untrusted
from oakleaf.errors import UserError, first_line
from oakleaf.export import model_card
from oakleaf.export.generator import ExportedGenerator, load_weights
from oakleaf.runtime.run_dir import redact_home

WEIGHTS = "generator.safetensors"
INSTALL_HUB = "huggingface_hub is not installed here: pip install 'oakleaf[hub]'"


def from_pretrained(place: str | Path, revision: str | None = None) -> ExportedGenerator:
    """Load an exported generator.

    Args:
        place: a folder that `python export.py checkpoint=RUN` wrote, or `owner/name` of a repository on the hub.
        revision: branch, tag or commit of the repository; None: its default branch.

    Raises:
        UserError: there is no such folder or repository, it has no safetensors file, or its card is not valid.

    Example:
        generator = oakleaf.from_pretrained("exported")
        images = generator.sample(64, seed=0)  # [64, C, H, W] in [-1, 1]
        images = generator(z, y)  # your own latents, and labels if there is a condition
    """
    folder = Path(place).expanduser()
    if not folder.is_dir():
        folder = _download(str(place), revision)
    card = model_card.read(folder)
    if not (folder / WEIGHTS).is_file():
        raise UserError(f"{folder} has no {WEIGHTS}: export.py format=safetensors writes one")
    generator = build_generator(card, str(folder / model_card.CARD))
    load_weights(generator, folder / WEIGHTS)
    return generator


def build_generator(card: dict[str, Any], source: str) -> ExportedGenerator:
    """Build the generator that a card describes, with untrained weights.

    Args:
        card: the content of `card.json`.
        source: where the card comes from, for error messages.

    Raises:
        UserError: the recipe is not valid, or it names a class that no recipe may build.
    """
    scan_untrusted(card["recipe"], source)
    generator = ExportedGenerator(require_gan(build_from_stored(card["recipe"])).game)
    if hasattr(generator.game.condition, "words"):
        generator.game.condition.words = card.get("words") or []  # type: ignore[union-attr]
    generator.card = card
    return generator


def push_to_hub(folder: str | Path, repository: str, private: bool = True) -> str:
    """Upload an exported folder to the Hugging Face hub. The login is that of huggingface_hub.

    Args:
        folder: what `export.py` wrote.
        repository: `owner/name`; it is created if it does not exist.
        private: whether a new repository is private.

    Returns:
        The address of the upload.

    Raises:
        UserError: the package is not installed, the folder has no card, or the upload failed.
    """
    try:
        from huggingface_hub import HfApi
    except ImportError as error:
        raise UserError(INSTALL_HUB) from error
    model_card.read(Path(folder))
    try:
        api = HfApi()
        api.create_repo(repository, private=private, exist_ok=True)
        return str(api.upload_folder(repo_id=repository, folder_path=str(folder), commit_message="Add a generator"))
    except Exception as error:
        raise UserError(f"push_to_hub={repository}: {first_line(error)} (to log in: hf auth login)") from error


def _download(place: str, revision: str | None) -> Path:
    """Download card and weights of a repository, and return the folder."""
    if place.count("/") != 1 or place.startswith((".", "/", "~")):
        raise UserError(f"{redact_home(place)}: there is no such folder, and a repository is named as owner/name")
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise UserError(f"{place}: there is no such folder, and {INSTALL_HUB}") from error
    try:
        return Path(snapshot_download(place, revision=revision, allow_patterns=[model_card.CARD, WEIGHTS]))
    except Exception as error:
        raise UserError(f"{place}: no such folder, and the hub's download failed ({first_line(error)})") from error
