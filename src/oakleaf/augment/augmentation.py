"""The base class of all augmentations."""

from torch import Tensor

from oakleaf.errors import UserError
from oakleaf.losses.stateful import Stateful
from oakleaf.round import Round


class Augmentation(Stateful):
    """A random change of every image that a critic sees, drawn anew for each pass of the critic.

    Attributes:
        needs_images: True if points and vectors cannot be augmented.
    """

    needs_images = True

    def forward(self, images: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Augment the inputs of a critic.

        Args:
            images: [B, C, H, W] in [-1, 1]; several batches may follow one another.
            condition: what the critic is conditioned on, in as many rows. A picture [B, C', H, W] is moved by the
                geometry of its image and keeps its colours; anything else stays as it is.

        Returns:
            The augmented images and the condition.

        Raises:
            UserError: the images are points, and `needs_images` is True.
        """
        if self.needs_images and images.dim() != 4:
            raise UserError(f"augment: {type(self).__name__} changes images, and these data are points: augment=none")
        return self.augment(images, condition)

    def augment(self, images: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Augment images and condition; see `forward`."""
        raise NotImplementedError

    def prepare(self, images: int) -> None:
        """Prepare an iteration, after `images` images were seen."""

    def replace(self, round: Round) -> Round:
        """Return the round of a critic's step with some of its images replaced; by default the same round."""
        return round

    def observe(self, round: Round) -> None:
        """Read the outputs of a critic's step, for a strength that adapts. It may write into buffers."""
