"""What an evaluation on images leaves beside its numbers: submissions and pictures, a set at a time."""

import contextlib
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tcm_jax.commands.command_line import progress_bar
from tcm_jax.files import atomic_file
from tcm_jax.images import overlay
from tcm_jax.images.decoding import decode
from tcm_jax.records import AnnotatedImageSource
from tcm_jax.spotting import rrc

Paint = Callable[[np.ndarray], np.ndarray]  # an image, uint8 RGB [h, w, 3], to a picture of what was found in it


@dataclass(frozen=True)
class Outcome:
    """What was found in one image.

    Args:
        index: in the source.
        hmean: of the image.
        polygons: what counts; texts: what was read in each, None if nothing was read.
        paint: draws it; None for an image that can't be decoded.
    """

    index: int
    hmean: float
    polygons: Sequence[np.ndarray]
    texts: Sequence[str] | None
    paint: Paint | None


OnOutcome = Callable[[Outcome], None]


@contextlib.contextmanager
def exporting(source: AnnotatedImageSource, submissions: Path | None, overlays: Path | None) -> Iterator[OnOutcome]:
    """Yields the function that takes the outcome of each image in order, shows progress, and writes what is asked for.

    Args:
        submissions: folder for a `submission` called by the source; overlays: for a folder of `pictures`.
    """
    with contextlib.ExitStack() as stack:
        takers: list[OnOutcome] = []
        if submissions:
            takers.append(stack.enter_context(submission(submissions / f"{source.name}.zip", source)))
        if overlays:
            takers.append(pictures(overlays / source.name, source))
        advance = stack.enter_context(progress_bar(source.name, len(source)))

        def take(outcome: Outcome) -> None:
            for taker in takers:
                taker(outcome)
            advance()

        yield take


@contextlib.contextmanager
def submission(path: Path, source: AnnotatedImageSource) -> Iterator[OnOutcome]:
    """Writes a zip file as the Robust Reading Competition takes it for ICDAR 2015, tasks 4.1 and 4.4.

    It has res_NAME.txt for each image NAME.jpg, with a line x1,y1,x2,y2,... for each detection, clockwise and in
    whole pixels, or with a `rrc.line` for each word; an image without them, or that can't be decoded, has an empty one.

    Raises:
        ValueError: images of two folders have the same name.
    """
    stems = image_stems(source)
    with atomic_file(path, "wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:

        def add(outcome: Outcome) -> None:
            if outcome.texts is None:
                lines = [",".join(map(str, _clockwise(polygon).ravel())) + "\n" for polygon in outcome.polygons]
            else:
                lines = list(map(rrc.line, outcome.polygons, outcome.texts))
            # An entry with a fixed date, so that equal results are equal files.
            entry = zipfile.ZipInfo(f"res_{stems[outcome.index]}.txt")
            archive.writestr(entry, "".join(lines), zipfile.ZIP_DEFLATED)

        yield add


def pictures(folder: Path, source: AnnotatedImageSource) -> OnOutcome:
    """Draws images with what was found in them, in `folder`.

    The files are called by the image's H-mean in percent and its name, 033-img_7.jpg, so that the worst come first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stems = image_stems(source)

    def draw(outcome: Outcome) -> None:
        if outcome.paint is None:
            return
        scene = source[outcome.index]
        picture = outcome.paint(decode(scene.image, scene.name))
        overlay.save(picture, folder / f"{100 * outcome.hmean:03.0f}-{stems[outcome.index]}.jpg")

    return draw


def image_stems(source: AnnotatedImageSource) -> list[str]:
    """The images' names without folder and ending.

    Raises:
        ValueError: two of them are the same.
    """
    names = [source.image_name(index) for index in range(len(source))]
    seen: dict[str, str] = {}
    for name in names:
        if other := seen.get(stem := Path(name).stem):
            raise ValueError(f"{other} and {name} can't be told apart by {stem}, which files of results are called by")
        seen[stem] = name
    return list(seen)


def _clockwise(polygon: np.ndarray) -> np.ndarray:
    """In whole pixels; the competition's script refuses the other direction."""
    points = np.round(polygon).astype(int)
    following = np.roll(points, -1, axis=0)
    turned = ((following[:, 0] - points[:, 0]) * (following[:, 1] + points[:, 1])).sum() > 0
    return points[::-1] if turned else points
