"""python explore.py: a page in the browser that explores the latents of a trained generator."""

import logging
import os
from typing import Any

from omegaconf import DictConfig, OmegaConf

from oakleaf.cli.hardware import import_torch, resolve_device
from oakleaf.cli.main import run_command
from oakleaf.errors import UserError

log = logging.getLogger(__name__)

REACH = 4.0  # of the sliders along directions, in standard deviations of the latents
MAX_SEED = 2**31 - 1


def main() -> None:
    """Run the command."""
    run_command("explore", explore)


def explore(config: DictConfig) -> None:
    """Serve the page until the command is ended."""
    if OmegaConf.is_missing(config, "checkpoint"):
        raise UserError("checkpoint= is missing: name a run's folder or a checkpoint file")
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    try:
        import gradio  # noqa: F401
    except ImportError as error:
        raise UserError("explore.py needs Gradio: pip install 'oakleaf[explore]'") from error
    import_torch()
    from oakleaf.builder.load import gan_from_checkpoint
    from oakleaf.config.types import PositiveInt
    from oakleaf.config.validate import validate
    from oakleaf.runtime.checkpoint_io import checkpoint_path, read_checkpoint
    from oakleaf.sampling.explorer import Explorer
    from oakleaf.sampling.named_directions import file_of, load

    options: Any = OmegaConf.to_container(config, resolve=True)
    fixed = {"checkpoint": str, "device": str, "host": str, "port": int, "directions": PositiveInt, "open": bool}
    validate(options, fixed={"": fixed})
    module = gan_from_checkpoint(read_checkpoint(options["checkpoint"])).to(resolve_device(options["device"]))
    file = file_of(checkpoint_path(options["checkpoint"]))
    explorer = Explorer(module, options["directions"], load(file) if file.is_file() else ())
    log.info("computing %d principal directions", explorer.count)
    _ = explorer.directions
    page(explorer).launch(
        server_name=options["host"], server_port=options["port"], inbrowser=options["open"], share=False, quiet=True
    )


def page(explorer: Any) -> Any:
    """Return the page as `gradio.Blocks`."""
    import gradio as gr

    from oakleaf.sampling.figure import images_seen, sample_title

    title = f"{sample_title(explorer.module)}, {images_seen(explorer.module)}"
    theme = gr.themes.Base(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
    with gr.Blocks(title=title, theme=theme, analytics_enabled=False) as blocks:
        gr.Markdown(f"# {title}")
        with gr.Row():
            with gr.Column():
                seed = gr.Number(0, label="seed", precision=0, minimum=0, maximum=MAX_SEED)
                condition = _condition(explorer)
                label = "truncation (1: none)"
                truncation = gr.Slider(0.1, 1.0, 1.0, step=0.05, label=label, visible=explorer.takes_truncation)
                other = gr.Number(1, label="seed of the other end", precision=0, minimum=0, maximum=MAX_SEED)
                weight = gr.Slider(0.0, 1.0, 0.0, step=0.01, label="interpolation towards the other end")
                ema = gr.Checkbox(True, label="EMA generator", visible=explorer.module.generator_ema is not None)
            with gr.Column():
                image = gr.Image(label="image", format="png", type="pil", interactive=False)
                message = gr.Markdown()
            with gr.Column():
                sliders = [gr.Slider(-REACH, REACH, 0.0, step=0.1, label=label) for label in explorer.labels]
                reset = gr.Button("reset directions")
        inputs = [seed, condition, truncation, other, weight, ema, *sliders]

        def draw(*values: Any) -> tuple[Any, str]:
            return _draw(explorer, *values)

        for control in inputs:
            control.change(draw, inputs, [image, message], show_progress="hidden", trigger_mode="always_last")
        reset.click(lambda: [0.0] * len(sliders), outputs=sliders)
        blocks.load(draw, inputs, [image, message])
    return blocks


def _condition(explorer: Any) -> Any:
    """Return the control of the condition: the classes, a text, or nothing."""
    import gradio as gr

    if explorer.classes:
        choices = [("that of the seed", ""), *((name, str(number)) for number, name in enumerate(explorer.classes))]
        return gr.Dropdown(choices, value="", label="class")
    return gr.Textbox("", label="text (empty: that of the seed)", visible=explorer.takes_text)


def _draw(
    explorer: Any, seed: float, condition: str, truncation: float, other: float, weight: float, ema: bool, *along: float
) -> tuple[Any, str]:
    """Draw the image of the page's controls; a mistake is returned as a sentence."""
    requested: int | str | None = int(condition) if explorer.classes and condition else condition or None
    truncated = None if truncation == 1 else truncation
    try:
        picture = explorer.image(int(seed or 0), along, requested, truncated, int(other or 0), weight, ema)
    except UserError as error:
        return None, str(error)
    return picture, ""
