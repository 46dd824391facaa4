"""Crops and annotated images converted to sets of ArrayRecord shards, by many processes or machines.

Shard i of N holds the records i * n / N to (i + 1) * n / N of the n in the source, in its order, without those that
can't be read. So it depends on nothing but the source and its number: shards can be made anywhere in any order, again
after a failure, and come out byte for byte the same. `tcm_jax.data.shard_workers` makes them with processes of one
machine, `tcm_jax.data.beam` on any runner of Apache Beam.
"""

import dataclasses
import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tcm_jax.data.array_record import sha256, shard_name, write_packed
from tcm_jax.data.scenes.array_record import MANIFEST, pack_annotated_image
from tcm_jax.data.sources import spread
from tcm_jax.data.words.array_record import pack_word_crop
from tcm_jax.files import absolute, as_path, atomic_file, is_remote
from tcm_jax.images.decoding import ImageError, image_size
from tcm_jax.records import AnnotatedImage, Source, SourceError, WordCrop

_SAMPLE = 64  # records that the size of shards is estimated from, and that tell one source from another
_MESSAGES = 10  # about records left out, of each shard and of all
_PARTS = ".parts"  # folder with what finished shards hold, until the manifest lists it


@dataclass
class Shard:
    """What a finished shard holds.

    Attributes:
        file: its name; bytes, sha256: of the file.
        first, end: it is made of the records `first` to `end` - 1 of the source; records: how many it holds.
        dropped: number of records left out by reason; left_out: messages about the first of them.
        texts: number of labels or text instances; ignored, empty: of these, those ignored and those without letters.
        longest: characters of the longest text; characters: how often each occurs in texts.
    """

    file: str
    first: int
    end: int
    records: int = 0
    bytes: int = 0
    sha256: str = ""
    dropped: Counter[str] = field(default_factory=Counter)
    left_out: list[str] = field(default_factory=list)
    texts: int = 0
    ignored: int = 0
    empty: int = 0
    longest: int = 0
    characters: Counter[str] = field(default_factory=Counter)

    def add(self, record: WordCrop | AnnotatedImage) -> None:
        """Counts a record and its texts."""
        self.records += 1
        texts = (
            [(record.label, False)] if isinstance(record, WordCrop) else [(r.text, r.ignore) for r in record.regions]
        )
        for text, ignore in texts:
            self.texts += 1
            self.ignored += ignore
            self.empty += not text
            self.longest = max(self.longest, len(text))
            self.characters.update(text)

    def drop(self, reason: str, message: str) -> None:
        """Counts a record that is left out."""
        self.dropped[reason] += 1
        if len(self.left_out) < _MESSAGES:
            self.left_out.append(message)


@dataclass(frozen=True)
class ShardPlan:
    """The shards to make. It is small, can be pickled, and is the same for the same source.

    Attributes:
        destination: folder of the shards.
        records, shards: numbers of them.
        digest: of some records, spread evenly, which tells one source from another.
        about: what the manifest says of the source.
    """

    destination: str
    records: int
    shards: int
    digest: str
    about: dict[str, Any] = field(default_factory=dict, compare=False)

    @property
    def folder(self) -> Path:
        """`destination` as a path."""
        return as_path(self.destination)

    @property
    def job(self) -> dict[str, Any]:
        """What has to be equal for finished shards to be kept."""
        return {"records": self.records, "shards": self.shards, "digest": self.digest}

    def shard(self, number: int) -> Shard:
        """A shard that has no records yet."""
        first, end = (self.records * i // self.shards for i in (number, number + 1))
        return Shard(shard_name(self.folder.name, number, self.shards), first, end)

    def part(self, number: int) -> Path:
        """The file that says what a finished shard holds, until the manifest does."""
        return self.folder / _PARTS / f"{number:05d}.json"


def plan_shards(
    source: Source[Any],
    destination: str | Path,
    shards: int = 0,
    shard_bytes: int = 0,
    about: dict[str, Any] | None = None,
) -> ShardPlan:
    """The plan for all records of `source`.

    Args:
        destination: a new folder, after which the shards are called, or one with shards of the same plan.
        shards: their number; or
        shard_bytes: about how large each is to be.
        about: for the manifest.

    Raises:
        SourceError: there are fewer records than shards.
    """
    digest, size, sample = hashlib.sha256(), 0, spread(len(source), _SAMPLE)
    for index in sample:
        try:
            data = packed(source[index])
        except (ImageError, SourceError) as error:
            data = type(error).__name__.encode()
        digest.update(data)
        size += len(data)
    if not shards:
        shards = max(1, min(len(source), round(size / max(1, len(sample)) * len(source) / shard_bytes)))
    if not 1 <= shards <= len(source):
        raise SourceError(f"{source.name} has {len(source):,} records; they can't become {shards:,} shards")
    return ShardPlan(str(absolute(destination)), len(source), shards, digest.hexdigest(), about or {})


def packed(record: WordCrop | AnnotatedImage) -> bytes:
    """A record of a source as the bytes of a record in a shard: labels, polygons and image files unchanged.

    Raises:
        ImageError: its image is no image file. Only the header of the file is read.
    """
    image_size(record.image, record.name)
    return pack_word_crop(record) if isinstance(record, WordCrop) else pack_annotated_image(record)


def make_shard(source: Source[Any], plan: ShardPlan, number: int, tick: Callable[[], None] = lambda: None) -> Shard:
    """Makes a shard, if it isn't there already, complete and undamaged; returns what it holds.

    Args:
        tick: called after each record; what it raises ends the work and leaves nothing behind.

    Raises:
        OSError: it can't be written.
    """
    shard = plan.shard(number)
    path = plan.folder / shard.file
    finished = _finished(plan, number)
    if finished and path.exists() and sha256(path) == finished.sha256:
        for _ in range(shard.first, shard.end):
            tick()
        return finished
    _, shard.bytes, shard.sha256 = write_packed(_read(source, shard, tick), path)
    with atomic_file(plan.part(number)) as file:
        json.dump(vars(shard), file)
    return shard


def start(plan: ShardPlan) -> None:
    """Prepares the folder of `plan`.

    Raises:
        SourceError: it holds shards of another plan, which the message names.
    """
    parts = plan.folder / _PARTS
    for path in (plan.folder / MANIFEST, parts / "job.json"):
        job = _json(path)
        if job and job.get("job") != plan.job:
            raise SourceError(
                f"{plan.folder} holds shards of other records or another number of them ({path.name}: "
                f"{job.get('job')}, now: {plan.job}); give a new folder, or delete it"
            )
    if not is_remote(parts):
        parts.mkdir(parents=True, exist_ok=True)
        for leftover in plan.folder.glob(f".{plan.folder.name}-*"):  # of processes that were killed
            shutil.rmtree(leftover)
    if not (plan.folder / MANIFEST).exists():
        with atomic_file(parts / "job.json") as file:
            json.dump({"job": plan.job}, file)


def finish(plan: ShardPlan, shards: Iterable[Shard]) -> None:
    """Writes the manifest of all `shards`.

    Raises:
        SourceError: shards are missing, or all records were left out.
    """
    shards = sorted(shards, key=lambda shard: shard.first)
    if [shard.file for shard in shards] != [plan.shard(number).file for number in range(plan.shards)]:
        raise SourceError(f"{len(shards):,} of {plan.shards:,} shards were made")
    messages = [message for shard in shards for message in shard.left_out][:_MESSAGES]
    sums = ("records", "bytes", "texts", "ignored", "empty")
    total: dict[str, Any] = {name: sum(getattr(shard, name) for shard in shards) for name in sums}
    if not total["records"]:
        raise SourceError(f"no record can be read; the first: {messages[0]}")
    total["longest"] = max(shard.longest for shard in shards)
    for name in ("dropped", "characters"):
        counts = sum((Counter(getattr(shard, name)) for shard in shards), Counter())
        total[name] = dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
    manifest = {"job": plan.job, **plan.about, **total, "left_out": messages, "shards": [vars(s) for s in shards]}
    with atomic_file(plan.folder / MANIFEST) as file:
        json.dump(manifest, file, indent=1)
    parts = plan.folder / _PARTS
    if parts.exists():  # not where a runner calls this again
        for part in parts.iterdir():
            part.unlink()
        if not is_remote(parts):  # object stores have no folders
            parts.rmdir()


def read_manifest(plan: ShardPlan) -> dict[str, Any]:
    """What `finish` has written."""
    return json.loads((plan.folder / MANIFEST).read_text("utf-8"))


def finished_shards(plan: ShardPlan) -> int:
    """How many shards of an unfinished plan are made."""
    return sum(plan.part(number).exists() for number in range(plan.shards))


def _read(source: Source[Any], shard: Shard, tick: Callable[[], None]) -> Iterator[bytes]:
    for index in range(shard.first, shard.end):
        try:
            record = source[index]
            data = packed(record)
        except ImageError as error:
            shard.drop("without a readable image", str(error))
        except SourceError as error:
            shard.drop("without a readable label", str(error))
        else:
            shard.add(record)
            yield data
        tick()


def _finished(plan: ShardPlan, number: int) -> Shard | None:
    """A shard that was made earlier, None if it was not."""
    manifest = _json(plan.folder / MANIFEST)
    values = manifest["shards"][number] if manifest else _json(plan.part(number))
    return Shard(**{f.name: values[f.name] for f in dataclasses.fields(Shard)}) if values else None


def _json(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text("utf-8")) if path.exists() else None
