"""Recognition networks that are trained on the run's own data, in minutes, before the first iteration."""

import logging
from dataclasses import replace
from typing import Literal

from torch import nn

from oakleaf.config.types import NonNegativeInt, PositiveFloat, PositiveInt, Size, height_width
from oakleaf.data.datamodule import ImageDataModule
from oakleaf.errors import UserError
from oakleaf.frozen.classifier import ClassifierJob, Network, Training, nine_tenths
from oakleaf.frozen.network import FrozenNetwork
from oakleaf.frozen.preprocessing import Input
from oakleaf.frozen.provenance import Provenance, of_weights
from oakleaf.frozen.tasks import Ages, Attributes, Identities, Labels, Part, Rotations, Task
from oakleaf.runtime import distributed

log = logging.getLogger(__name__)

Kind = Literal["label", "attributes", "identity", "age", "rotation"]


class Trained(FrozenNetwork):
    """A small convolutional network that is trained on the run's real images before the first iteration.

    It is trained on nine tenths of the images, and cached in `data.cache`, so that a second run with the same settings
    reads it. Checkpoints contain it completely. With several processes the first one trains, and the others get its
    weights.

    The seed is 1 by default, because that of the networks by which metrics compare images is 0: a metric refuses a
    network that was trained with the seed, the task and rows of its own (`part` and `seed` make others).

    Args:
        task: what it learns: `label`, `attributes`, `identity` (margin softmax), `age` (ordinal regression), or
            `rotation`, which needs no labels. The first four need a row of that name in the data.
        channels: of the images.
        size: of the images, in pixels.
        outputs: the number of classes or attributes; for ages, the largest one in years. Identities and rotations need
            no number.
        training: the widths of the layers and the length of the training; null: as `Training()`.
        seed: of its weights and batches.
        part: train on all rows, or on those of even or odd number (identities: persons of even or odd number).
        margin: of the margin softmax, in radians (arcface) or of the cosine (cosface).
        scale: of the margin softmax.
        kind_of_margin: arcface or cosface.

    Raises:
        UserError: the number of outputs is missing.
    """

    complete = True

    def __init__(
        self,
        task: Kind,
        channels: PositiveInt,
        size: Size,
        outputs: NonNegativeInt = 0,
        training: Training | None = None,
        seed: int = 1,
        part: Part = "all",
        margin: float = 0.35,
        scale: PositiveFloat = 30.0,
        kind_of_margin: Literal["arcface", "cosface"] = "cosface",
    ) -> None:
        self.task, self.training_settings, self.seed, self.part = task, training or Training(), seed, part
        self.margin, self.scale, self.kind_of_margin = margin, scale, kind_of_margin
        sides = height_width(size)
        if task == "rotation":
            outputs = Rotations(sides).outputs
        if not outputs and task != "identity":
            raise UserError(f"model.frozen: Trained(task={task}) needs outputs=, the number of its classes")
        self.outputs = 0 if task == "identity" else outputs
        head = nn.Linear(self.training_settings.features, self.outputs) if self.outputs else None
        network = Network(channels, sides, head, self.training_settings, rectified=task != "identity")
        super().__init__(network, Input(size, channels))

    @property
    def source(self) -> str:
        return f"Trained(task={self.task}, seed={self.seed}, part={self.part})"

    def read(self) -> Provenance:
        """Raise an error, because the weights are in checkpoints, and nowhere else."""
        raise UserError("the checkpoint does not contain its weights")

    def initialize(self, data: ImageDataModule | None = None) -> None:
        """Train the network, or read it from the cache; the other processes get the first one's weights.

        Raises:
            UserError: the data lack the row that the task needs, or have other classes, channels or another size.
        """
        if data is None:
            raise UserError(f"{self.source} is trained on the data of a run, which are missing")

        def train() -> None:
            self.provenance = self._train(data)

        distributed.run_on_rank_zero(train)
        distributed.broadcast_tensors([*self.network.parameters(), *self.network.buffers()])
        self.provenance = distributed.broadcast_object(self.provenance)
        self.reason = ""

    def _train(self, data: ImageDataModule) -> Provenance:
        pixels, device = data.images(), self.preprocessing.factor.device
        expected = self.preprocessing.expected
        if (pixels.shape[1], *pixels.shape[2:]) != (expected.channels, *height_width(expected.size or 1)):
            raise UserError(
                f"model.frozen: {self.source} is for images [{expected.channels}, {expected.size}], and the data have "
                f"{list(pixels.shape[1:])}: channels=${{data.channels}} size=${{data.size}}"
            )
        task = self.task_for(data)
        rows = task.part(len(pixels), self.part)
        where = (data.digest, data.cache, device)
        job = ClassifierJob(pixels, task, self.training_settings, *where, nine_tenths(rows), rows, self.seed)
        job.train()
        trained = job.load()
        if trained.accuracy is not None:
            log.info("%s: %.1f %% correct on held-out images", self.source, 100 * trained.accuracy)
        weights = {name: value for name, value in trained.network.state_dict().items() if self._keeps(name)}
        self.network.load_state_dict(weights)
        about = of_weights(self.source, self.network)
        return replace(about, data=data.hash, part=self.part, seed=self.seed, task=task.kind)

    def _keeps(self, name: str) -> bool:
        """Whether a weight of the trained network is kept; the vectors of the training's persons are not."""
        return bool(self.outputs) or not name.startswith("outputs.")

    def task_for(self, data: ImageDataModule) -> Task:
        """Return the task on these data.

        Raises:
            UserError: the data lack the row that it needs, or have another number of classes.
        """
        if self.task == "rotation":
            return Rotations(data.size)
        if self.task not in data.columns:
            have = ", ".join(data.columns) or "none"
            raise UserError(f"model.frozen: {self.source} needs the row `{self.task}`; the data have {have}")
        row = data.column(self.task)
        if self.task == "identity":
            return Identities(row, self.margin, self.scale, self.kind_of_margin)
        if self.task == "age":
            return Ages(row, self.outputs)
        task = Labels(row, len(data.classes)) if self.task == "label" else Attributes(row)
        if task.outputs != self.outputs:
            raise UserError(f"model.frozen: Trained(outputs={self.outputs}): the data have {task.outputs} classes")
        return task
