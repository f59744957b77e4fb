"""README.md of an exported generator: what the Hugging Face hub shows, with sample images, metrics and code."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from oakleaf.export.model_card import CARD
from oakleaf.gan import GAN
from oakleaf.runtime.run_dir import atomic_write
from oakleaf.sampling.figure import draw_samples, images_seen, sample_panel, sample_title
from oakleaf.sampling.latents import sample_in_batches, seeded_inputs

README, SAMPLES = "README.md", "samples.png"
TASKS = {"caption": "text-to-image", "input": "image-to-image"}  # by what the generator is conditioned on
UNCONDITIONAL = "unconditional-image-generation"
SHOWN = ("fid", "kid", "inception_score", "precision", "recall", "nearest_training")  # metrics in the front matter


def write_readme(card: Mapping[str, Any], folder: Path, license: str | None, repository: str | None) -> None:
    """Write README.md beside the files of an export.

    Args:
        card: the content of card.json.
        folder: of the export; `samples.png` is shown if it is there.
        license: name of the weights' licence as the hub knows it, such as "mit"; None: none was given.
        repository: `owner/name` on the hub; None: the code samples load the folder.
    """
    front = OmegaConf.to_yaml(OmegaConf.create(front_matter(card, license)))
    with atomic_write(folder / README) as part:
        part.write_text(f"---\n{front}---\n\n{_text(card, folder, license, repository)}")


def front_matter(card: Mapping[str, Any], license: str | None) -> dict[str, Any]:
    """Return the metadata by which the hub lists a model.

    Reference: huggingface.co/docs/hub/model-cards.
    """
    task = _task(card)
    front: dict[str, Any] = {"license": license} if license else {}
    front |= {"library_name": "oakleaf", "pipeline_tag": task, "tags": ["gan", "oakleaf", str(card["model"])]}
    numbers = [one for one in card["metrics"] if str(one["name"]).startswith(SHOWN)]
    if numbers:
        metrics = [{"type": _kind(one["name"]), "name": one["name"], "value": float(one["value"])} for one in numbers]
        dataset = {"type": str(card["data"]), "name": str(card["data"])}
        result = {"task": {"type": task}, "dataset": dataset, "metrics": metrics}
        front["model-index"] = [{"name": _name(card), "results": [result]}]
    return front


def _task(card: Mapping[str, Any]) -> str:
    names = [str(one["name"]) for one in card["inputs"]]
    return next((task for key, task in TASKS.items() if key in names), UNCONDITIONAL)


def _kind(name: str) -> str:
    return next(kind for kind in SHOWN if name.startswith(kind))


def _name(card: Mapping[str, Any]) -> str:
    return f"{card['model']}-{card['data']}"


def _text(card: Mapping[str, Any], folder: Path, license: str | None, repository: str | None) -> str:
    size = " x ".join(str(side) for side in card["output"]["shape"][2:])
    channels = card["output"]["shape"][1]
    average = " The weights are an exponential moving average over the training." if card["ema"] else ""
    parts = [
        f"# {card['model']} on {card['data']}",
        f"A generator of images of {size} pixels and {channels} channels, trained by a generative adversarial network "
        f"(`model={card['model']}`) on `data={card['data']}` for {card['images_seen']:,} images with "
        f"Oakleaf {card['versions']['oakleaf']}.{average}",
        *([f"![samples]({SAMPLES})\n\n*Samples of one seed, none selected.*"] if (folder / SAMPLES).is_file() else []),
        f"## Use\n\n```bash\npip install 'oakleaf[hub]'\n```\n\n```python\n{_code(card, folder, repository)}\n```",
        f"Inputs of the generator:\n\n{_inputs(card)}",
        *([f"Classes, by number: {_classes(card)}."] if card.get("class_names") else []),
        *([f"## Metrics\n\n{_metrics(card['metrics'])}"] if card["metrics"] else []),
        f"## Training\n\n{_training(card)}",
        f"## Files\n\n{_files(card)}",
        f"## Licence\n\n{license or 'No licence was given for these weights.'}",
    ]
    return "\n\n".join(parts) + "\n"


def _code(card: Mapping[str, Any], folder: Path, repository: str | None) -> str:
    """Return Python code that generates images and saves one."""
    place = repository or folder.name
    needs_y = [one for one in card["inputs"] if one["name"] not in ("latent", "label")]
    rows = f"y = ...  # {needs_y[0]['name']}, {needs_y[0]['shape']}\n" if needs_y else ""
    y = ", y=y" if needs_y else ""
    return (
        "import oakleaf\nfrom torchvision.utils import save_image\n\n"
        f'generator = oakleaf.from_pretrained("{place}")\n{rows}'
        f"images = generator.sample(64, seed=0{y})  # {['count', *card['output']['shape'][1:]]} in [-1, 1]\n"
        'save_image(images, "samples.png", normalize=True, value_range=(-1, 1))'
    )


def _inputs(card: Mapping[str, Any]) -> str:
    lines = [f"| `{one['name']}` | {one['shape']} | {one['dtype']} |" for one in card["inputs"]]
    return "\n".join(["| input | shape | type |", "|---|---|---|", *lines])


def _classes(card: Mapping[str, Any]) -> str:
    names: Sequence[str] = card["class_names"]
    listed = ", ".join(f"{number} {name}" for number, name in enumerate(names[:50]))
    return listed + (", ..." if len(names) > 50 else "")


def _metrics(entries: Sequence[Mapping[str, Any]]) -> str:
    """Return a table of the metrics, with the baseline of real images."""
    lines = []
    for one in entries:
        protocol = one.get("protocol", {})
        real = "" if one.get("baseline") is None else f"{one['baseline']:.4g}"
        counts = [
            f"{protocol[key]:,} {what}" for key, what in (("fake", "samples"), ("real", "real")) if protocol.get(key)
        ]
        lines.append(f"| {one['name']} | {one['value']:.4g} | {real} | {one.get('better', '')} | {', '.join(counts)} |")
    head = ["| metric | samples | real images | better | computed of |", "|---|---|---|---|---|"]
    note = f"“real images” is the same number of held-out real images. The whole protocol is in `{CARD}`."
    return "\n".join([*head, *lines]) + f"\n\n{note}"


def _training(card: Mapping[str, Any]) -> str:
    recipe = card["recipe"]
    loss = recipe["loss"].get("name") or recipe["loss"].get("objective", {}).get("_target_", "")
    rows = {
        "loss": loss,
        "batch size": recipe["data"].get("batch_size"),
        "seed": recipe["seed"],
        "images seen": f"{card['images_seen']:,}",
        "torch": card["versions"]["torch"],
        "checkpoint": f"{card['checkpoint']['name']}, {card['checkpoint']['hash']}",
    }
    lines = [f"| {name} | {value} |" for name, value in rows.items() if value is not None]
    return "\n".join(["| | |", "|---|---|", *lines]) + f"\n\nThe whole configuration is in `{CARD}`, under `recipe`."


def _files(card: Mapping[str, Any]) -> str:
    lines = [f"- `{one['name']}`: {name}, {one['bytes'] / 1e6:.1f} MB" for name, one in card["files"].items()]
    return "\n".join([f"- `{CARD}`: inputs, output, metrics and recipe, as JSON", *lines])


def write_samples(module: GAN, count: int, ema: bool, folder: Path) -> None:
    """Draw samples of seed 0 as `samples.png`.

    Args:
        module: the module of the checkpoint.
        count: number of samples.
        ema: whether to use the EMA generator, if there is one.
        folder: of the export.
    """
    inputs = seeded_inputs(module.game, count, seed=0)
    images = sample_in_batches(module, inputs, ema)
    panels = [sample_panel(module, inputs)]
    with atomic_write(folder / SAMPLES) as part:
        draw_samples(module, images, panels, sample_title(module), images_seen(module)).save(part)
