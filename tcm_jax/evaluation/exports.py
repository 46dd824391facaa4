"""What an evaluation of detectors leaves beside its numbers: submissions and pictures, a set at a time."""

import contextlib
import dataclasses
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from tcm_jax import overlay
from tcm_jax.data.images import decode
from tcm_jax.data.records import SceneSource
from tcm_jax.files import atomic_file
from tcm_jax.tasks.scene_evaluation import ScoredPhoto

OnPhoto = Callable[[ScoredPhoto], None]


@contextlib.contextmanager
def submission(path: Path, source: SceneSource) -> Iterator[OnPhoto]:
    """Writes a zip file as the Robust Reading Competition takes it for ICDAR 2015, task 4.1.

    It has res_NAME.txt for each photo NAME.jpg, with a line x1,y1,x2,y2,... for each detection, clockwise and in
    whole pixels; a photo without detections, or that can't be decoded, has an empty one.

    Raises:
        ValueError: photos of two folders have the same name.
    """
    stems = photo_stems(source)
    with atomic_file(path, "wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:

        def add(photo: ScoredPhoto) -> None:
            lines = [",".join(map(str, _clockwise(i.polygon).ravel())) + "\n" for i in photo.counted]
            # An entry with a fixed date, so that equal results are equal files.
            entry = zipfile.ZipInfo(f"res_{stems[photo.index]}.txt")
            archive.writestr(entry, "".join(lines), zipfile.ZIP_DEFLATED)

        yield add


def pictures(folder: Path, source: SceneSource) -> OnPhoto:
    """Draws detections over the annotated text of each photo, in `folder`.

    The files are called by the photo's H-mean in percent and its name, 033-img_7.jpg, so that the worst come first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stems = photo_stems(source)

    def draw(photo: ScoredPhoto) -> None:
        if photo.detections is None:
            return
        scene = source[photo.index]
        counted = dataclasses.replace(photo.detections, instances=photo.counted)
        picture = counted.draw(decode(scene.image, scene.name), photo.regions)
        overlay.save(picture, folder / f"{100 * photo.fixed.hmean:03.0f}-{stems[photo.index]}.jpg")

    return draw


def photo_stems(source: SceneSource) -> list[str]:
    """The photos' names without folder and ending.

    Raises:
        ValueError: two of them are the same.
    """
    names = [source.scene_name(index) for index in range(len(source))]
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
