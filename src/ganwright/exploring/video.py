"""Clips: frames made one by one and written as MP4, GIF, WebP or APNG, whole or not at all.

MP4 is written by an `ffmpeg` program: the one installed, or the one that the package `imageio-ffmpeg` (extra `video`)
carries. The other formats need Pillow only.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ganwright.console import progress
from ganwright.errors import MissingExtraError, SettingsError, nearest
from ganwright.exploring.sheet import enlargement
from ganwright.files import atomic_path
from ganwright.samples import Uint8Array

SMALLEST_SIDE = 256
"""Of a film that shows one image, in pixels."""
FORMATS = (".mp4", ".gif", ".webp", ".png", ".apng")
_ENCODERS = ("libx264", "libopenh264", "mpeg4")


@dataclass(frozen=True)
class Clip:
    """A moving picture that is rendered when it is saved.

    Attributes:
        render: Yields `count` frames, uint8 (H, W, C), C = 1 or 3.
        count: Frames.
        fps: Frames a second.
        smallest_side: Smaller frames are enlarged to at least so many pixels, by a whole factor, each pixel a square.
    """

    render: Callable[[], Iterator[Uint8Array]]
    count: int
    fps: float
    smallest_side: int = SMALLEST_SIDE

    def __post_init__(self) -> None:
        if self.count < 1 or not 0 < self.fps <= 240:
            raise SettingsError(
                f"{self.count} frames at {self.fps:g} frames a second make no film.",
                where="seconds, fps",
                fix="choose up to 240 frames a second and at least one frame",
            )

    def frames(self) -> Iterator[Uint8Array]:
        """RGB frames (H, W, 3), enlarged where they are small."""
        for image in self.render():
            factor = enlargement(image.shape[:2], self.smallest_side)
            large = image.repeat(factor, axis=0).repeat(factor, axis=1)
            yield large if large.shape[-1] == 3 else large.repeat(3, axis=-1)

    def save(self, path: str | Path, *, quiet: bool = False) -> Path:
        """Write the clip in the format that the name ends in: .mp4, .gif, .webp, .png or .apng.

        Args:
            path: The file.
            quiet: Show no progress.

        Raises:
            SettingsError: Another ending, or ffmpeg failed.
            MissingExtraError: An MP4 without any ffmpeg.
        """
        path = Path(path)
        ending = path.suffix.lower()
        if ending not in FORMATS:
            raise SettingsError(
                f"A film cannot be written as '{ending or path.name}'.{nearest(ending, FORMATS)}",
                where=path,
                fix="let the name end in " + ", ".join(FORMATS),
            )
        write = _write_mp4 if ending == ".mp4" else _write_animation
        with progress(f"rendering {path.name}", self.count, quiet=quiet) as advance:

            def counted() -> Iterator[Uint8Array]:
                for frame in self.frames():
                    yield frame
                    advance()

            write(path, counted(), self, ending)
        return path


def find_ffmpeg() -> str:
    """The ffmpeg program.

    Raises:
        MissingExtraError: There is none.
    """
    if found := shutil.which("ffmpeg"):
        return found
    with contextlib.suppress(ImportError, RuntimeError):
        import imageio_ffmpeg  # type: ignore[import-not-found, import-untyped, unused-ignore]

        return str(imageio_ffmpeg.get_ffmpeg_exe())
    raise MissingExtraError("imageio-ffmpeg", "video", "Writing MP4 without ffmpeg installed (GIF and WebP need none)")


def _write_mp4(path: Path, frames: Iterator[Uint8Array], clip: Clip, ending: str) -> None:
    """H.264 where ffmpeg has it, in the colours every player knows."""
    program = find_ffmpeg()
    first = next(frames)
    height, width = first.shape[:2]
    source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", f"{clip.fps:g}", "-i", "-"]
    encoder = _encoder(program)
    quality = ["-crf", "17", "-preset", "medium"] if encoder == "libx264" else ["-q:v", "3"]
    # Players want even sides and 4:2:0.
    form = ["-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2", "-pix_fmt", "yuv420p", "-movflags", "+faststart", "-f", "mp4"]
    with atomic_path(path) as temporary, tempfile.TemporaryFile() as said:
        command = [
            program,
            "-y",
            "-loglevel",
            "error",
            *source,
            "-an",
            "-c:v",
            encoder,
            *quality,
            *form,
            str(temporary),
        ]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=said)
        assert process.stdin is not None
        try:
            with contextlib.suppress(BrokenPipeError):  # it died: its message is told below
                process.stdin.write(first.tobytes())
                for frame in frames:
                    process.stdin.write(np.ascontiguousarray(frame).tobytes())
                process.stdin.close()
            status = process.wait()
        except BaseException:
            process.kill()
            process.wait()
            raise
        if status:
            said.seek(0)
            told = said.read().decode(errors="replace").strip().splitlines()[-1:] or ["it did not say why"]
            raise SettingsError(f"ffmpeg failed: {told[0]}", where=path, fix="write a .gif or .webp instead")


def _encoder(program: str) -> str:
    listed = subprocess.run([program, "-hide_banner", "-encoders"], capture_output=True, text=True, check=False).stdout
    return next((name for name in _ENCODERS if f" {name} " in listed), _ENCODERS[-1])


def _write_animation(path: Path, frames: Iterator[Uint8Array], clip: Clip, ending: str) -> None:
    """GIF, WebP or APNG, played for ever."""
    kinds: dict[str, tuple[str, dict[str, Any]]] = {
        ".gif": ("GIF", {"optimize": False}),
        ".webp": ("WEBP", {"quality": 85, "method": 4}),
        ".png": ("PNG", {"default_image": False}),
        ".apng": ("PNG", {"default_image": False}),
    }
    kind, options = kinds[ending]
    pictures = (_reduced(Image.fromarray(frame), kind) for frame in frames)
    first = next(pictures)
    times = durations(clip.count, clip.fps, unit=10 if kind == "GIF" else 1)
    rest = list(pictures) if kind == "PNG" else pictures  # Pillow's APNG writer walks over them twice
    with atomic_path(path) as temporary:
        first.save(temporary, kind, save_all=True, append_images=rest, duration=times, loop=0, **options)


def durations(count: int, fps: float, unit: int) -> list[int]:
    """Milliseconds that each frame is shown, in multiples of `unit` (GIF counts hundredths), without drifting."""
    ends = [round((i + 1) * 1000 / fps / unit) for i in range(count)]
    return [max(1, end - start) * unit for start, end in zip([0, *ends], ends, strict=False)]


def _reduced(picture: Image.Image, kind: str) -> Image.Image:
    """For GIF the best 256 colours of the frame; greys stay exact."""
    if kind != "GIF":
        return picture
    pixels = np.asarray(picture)
    if (pixels[..., :1] == pixels).all():
        return picture.convert("L")
    return picture.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.FLOYDSTEINBERG)
