"""What a LightningModule that is no `oakleaf.gan.GAN` lacks for a run of Oakleaf: a clock in images, and a recipe."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from oakleaf.errors import UserError
from oakleaf.runtime.seeds import derive_seed, seed_generators

Batch = dict[str, Tensor]


class Clock(Callback):
    """Count iterations and images of any LightningModule, end its run, and complete its checkpoints.

    A `GAN` does this itself. The callback sets attributes of the module, by which Oakleaf's data, loggers and callbacks
    know how far the run is: `iteration`, `images_seen`, `global_batch_size` (all of them over all processes),
    `total_images`, `max_images` and `log_every`. As for a GAN, all random numbers of an iteration follow from (seed,
    iteration, rank), so a resumed run equals the uninterrupted one if the module keeps no other state.

    It is no entry of a configuration: the builder adds it, before all other callbacks.

    Args:
        seed: seed of all random numbers of the training.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    @staticmethod
    def attach(module: Any, recipe: dict[str, Any]) -> None:
        """Set the attributes of a module that begins a run.

        Args:
            module: it has none of these attributes itself.
            recipe: has `log_every` and `max_images`.

        Raises:
            UserError: the module has an attribute of such a name that cannot be set.
        """
        values = {"iteration": 0, "images_seen": 0, "global_batch_size": 0, "recipe": {}}
        values |= {name: recipe[name] for name in ("log_every", "max_images")} | {"total_images": recipe["max_images"]}
        for name, value in values.items():
            try:
                setattr(module, name, value)
            except AttributeError as error:
                raise UserError(f"module: its own `{name}` has to be renamed; Oakleaf sets this attribute") from error

    @staticmethod
    def restore(module: Any, checkpoint: dict[str, Any]) -> None:
        """Set the attributes from a checkpoint."""
        module.iteration, module.images_seen = checkpoint["iteration"], checkpoint["images_seen"]

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Compute the length of the run if the epochs decide it; the size of a batch is known later."""
        endless = pl_module.max_images or (trainer.max_epochs or -1) < 0 or trainer.num_training_batches == float("inf")
        self.epochs = None if endless else trainer.max_epochs

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Batch, batch_idx: int) -> None:
        """Seed all random numbers of the iteration."""
        seed_generators(derive_seed(self.seed, pl_module.iteration, trainer.global_rank), pl_module.device)

    def on_train_batch_end(  # type: ignore[override]
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Count, and end the run after `max_images`."""
        pl_module.iteration += 1
        pl_module.global_batch_size = len(next(iter(batch.values()))) * trainer.world_size
        pl_module.images_seen += pl_module.global_batch_size
        if self.epochs:
            pl_module.total_images = int(self.epochs * trainer.num_training_batches * pl_module.global_batch_size)
        if pl_module.max_images and pl_module.images_seen >= pl_module.max_images:
            trainer.should_stop = True

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add what a `GAN` adds, and its recipe in place of the module's own hyperparameters."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        module: Any = pl_module
        checkpoint.pop("hparams_type", None)  # a class, which is not read as data
        checkpoint["hyper_parameters"] = module.recipe
        checkpoint["iteration"], checkpoint["images_seen"] = module.iteration, module.images_seen
        checkpoint["trained_on"] = {"classes": list(data.classes), "data": data.hash}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Restore the clock."""
        self.restore(pl_module, checkpoint)
