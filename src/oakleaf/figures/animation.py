"""Frames as an animated GIF or as an MP4 video, both of which repeat without end where the player does."""

import math
from collections.abc import Callable, Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from PIL import Image

PALETTE_FRAMES = 8  # frames from which the shared palette is computed
MIN_DURATION = 20  # ms of a frame; browsers slow down shorter ones
NEARLY_WHITE = 235  # a palette's brightest colour above this becomes white
INSTALL_VIDEO = "PyAV is not installed here: pip install 'oakleaf[video]'"


def save_gif(frames: Sequence[Path], path: Path, seconds: float = 6.0) -> None:
    """Join image files to an animated GIF, whose last frame stays for a second.

    Args:
        frames: the files. Those of another size than the last one are left out: they were written with other options,
            before the run was resumed.
        path: where the GIF is written.
        seconds: duration of the animation; a frame lasts at least 20 ms.
    """
    with Image.open(frames[-1]) as last:
        size = last.size
    files = [file for file in frames if _size(file) == size]
    palette = shared_palette([_open(file) for file in files[:: -math.ceil(len(files) / PALETTE_FRAMES)]])
    duration = max(MIN_DURATION, int(1000 * seconds / len(files)))
    durations = [duration] * (len(files) - 1) + [1000]
    write_gif((quantize(_open(file), palette) for file in files), path, durations)


def _open(file: Path) -> Image.Image:
    with Image.open(file) as image:
        return image.convert("RGB")


def _size(file: Path) -> tuple[int, int]:
    with Image.open(file) as image:
        return image.size


def shared_palette(images: Sequence[Image.Image]) -> Image.Image:
    """Compute 256 colours for images, from all of them together; computing one for each frame takes half a second."""
    strip = Image.new("RGB", (max(image.width for image in images), sum(image.height for image in images)))
    top = 0
    for image in images:
        strip.paste(image, (0, top))
        top += image.height
    palette = strip.reduce(2).quantize()
    colours = palette.getpalette() or []
    brightest = max(range(0, len(colours), 3), key=lambda i: sum(colours[i : i + 3]))
    if min(colours[brightest : brightest + 3]) > NEARLY_WHITE:  # white paper stays white
        palette.putpalette([*colours[:brightest], 255, 255, 255, *colours[brightest + 3 :]])
    return palette


def quantize(image: Image.Image, palette: Image.Image) -> Image.Image:
    """Convert an image to the colours of a palette."""
    return image.quantize(palette=palette, dither=Image.Dither.NONE)


def write_gif(frames: Iterable[Image.Image], path: Path, durations: list[int] | int) -> None:
    """Write images with a palette as an animated GIF that repeats without end.

    Args:
        frames: the frames, of one size.
        path: where the GIF is written.
        durations: of the frames, in milliseconds; a number: of each one.
    """
    first, *others = frames
    first.save(path, "GIF", save_all=True, append_images=others, duration=durations, loop=0)


def has_video() -> bool:
    """Return whether MP4 files can be written here."""
    return find_spec("av") is not None


class Video:
    """A writer of H.264 video in an MP4 file, which every browser plays.

    Args:
        path: the file.
        frames_per_second: speed of the video.

    Example:
        with Video(path, 30) as video:
            for image in images:
                video.add(image)
    """

    def __init__(self, path: Path, frames_per_second: int) -> None:
        import av

        self.container: Any = av.open(str(path), "w", format="mp4", options={"movflags": "faststart"})
        self.stream: Any = self.container.add_stream("libx264", rate=frames_per_second)
        self.stream.pix_fmt, self.stream.options = "yuv420p", {"crf": "18"}
        self.started = False

    def add(self, image: Image.Image) -> None:
        """Append a frame; all have one size. The video's sides are even: an odd one gets a white line."""
        import av

        size = image.width + image.width % 2, image.height + image.height % 2
        if not self.started:
            self.stream.width, self.stream.height = size
            self.started = True
        even = Image.new("RGB", size, "white")
        even.paste(image, (0, 0))
        for packet in self.stream.encode(av.VideoFrame.from_image(even)):
            self.container.mux(packet)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Write what the encoder still holds, unless the block has failed, and close the file."""
        if kind is None and self.started:
            for packet in self.stream.encode():
                self.container.mux(packet)
        self.container.close()


def animate(
    draw: Callable[[int], Image.Image], count: int, frames_per_second: int, gif: Path, video: Path | None
) -> None:
    """Draw frames and write them as a GIF and as a video.

    Frames are drawn one after the other; the GIF's, with a byte for each pixel, are held in memory.

    Args:
        draw: returns the frame of a number, from 0 to count - 1.
        count: number of frames.
        frames_per_second: speed of both.
        gif: path of the GIF.
        video: path of the MP4 file; None: none is written.
    """
    palette = shared_palette([draw(i) for i in range(0, count, math.ceil(count / PALETTE_FRAMES))])
    frames: list[Image.Image] = []
    if video is None:
        frames = [quantize(draw(i), palette) for i in range(count)]
    else:
        with Video(video, frames_per_second) as writer:
            for i in range(count):
                frame = draw(i)
                writer.add(frame)
                frames.append(quantize(frame, palette))
    write_gif(frames, gif, max(MIN_DURATION, round(1000 / frames_per_second)))
