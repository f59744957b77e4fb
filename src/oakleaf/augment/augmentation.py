"""The base class of all augmentations."""

from abc import abstractmethod

from torch import Tensor

from oakleaf.errors import UserError
from oakleaf.losses.stateful import Stateful
from oakleaf.round import Round

Pair = tuple[Tensor, Tensor | None]


class Augmentation(Stateful):
    """A random change of the images that the critic sees, drawn anew for each of its forward passes.

    A subclass implements `augment`. The game calls the other methods, in this order, in each training step of each
    player: `prepare`, then `forward` once for each pass of the critic, and `update_state` after the step. In a step of
    the critic it calls `replace` before the critic runs, and `observe` after its losses were computed. All of them but
    `prepare` and `update_state` may be traced into a compiled graph, so no method may read a value from the device.

    Attributes:
        needs_images: whether it can change images [B, C, H, W] only, and not points [B, d].
    """

    needs_images = True

    def forward(self, images: Tensor, condition: Tensor | None = None) -> Pair:
        """Change the images, and a picture that they are conditioned on by the same geometry.

        Args:
            images: [B, C, H, W] in [-1, 1], or points [B, d].
            condition: a picture [B, C', H, W] for each image, which is moved as the image is and keeps its colours; a
                vector [B, width], which is not changed; or None.

        Returns:
            Images and condition, of the same shapes and types.

        Raises:
            UserError: points, for an augmentation of images; or a condition of another size than the images.
        """
        if self.needs_images and images.dim() != 4:
            raise UserError(
                f"augment={type(self).__name__} changes images, and these data are points; for points, use "
                "augment=none or augment=noise"
            )
        if condition is None or condition.dim() != 4 or not self.needs_images:
            return self.augment(images, None)[0], condition
        if condition.shape[2:] != images.shape[2:]:
            sizes = " and ".join(f"{x.shape[2]} x {x.shape[3]}" for x in (condition, images))
            raise UserError(
                f"augment={type(self).__name__} moves images and the pictures that they are conditioned on together, "
                f"and their sizes differ: {sizes}; use augment=none"
            )
        return self.augment(images, condition)

    @abstractmethod
    def augment(self, images: Tensor, condition: Tensor | None) -> Pair:
        """Change the images. `forward` has checked the shapes.

        Args:
            images: [B, C, H, W] in [-1, 1]; or points [B, d], if `needs_images` is False.
            condition: pictures [B, C', H, W] that must move with the images, or None.

        Returns:
            Images and condition.
        """

    def replace(self, round: Round) -> Round:
        """Return the round that the critic is trained on; called in a step of the critic, before the critic runs.

        By default it is the round itself. APA exchanges some real images for fakes.

        Args:
            round: the round of the batch.
        """
        return round

    def prepare(self, images: int) -> None:
        """Set what follows a schedule. Called before each training step, outside of compiled graphs.

        It fills buffers on the device (`fill_`), which does not wait for the device, while a copy from the host would.

        Args:
            images: images seen before this step, by all processes.
        """

    def observe(self, round: Round, threshold: Tensor | float = 0.0) -> None:
        """Record what the state follows. Called in a step of the critic, after its losses were computed.

        Args:
            round: the round, with the critic's outputs; there may be several calls in one step.
            threshold: the score above which the critic decides for "real"; 0 for logits.
        """
