"""Words and scenes as sets of ArrayRecord shards."""

import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from word_files import ListSource, jpeg, records, run_data

from tcm_jax.data.array_record import set_name, write_packed
from tcm_jax.data.scenes.sources import open_annotated_images
from tcm_jax.data.scenes.write import write_annotated_folder
from tcm_jax.data.shards import finish, make_shard, plan_shards, start
from tcm_jax.data.words.array_record import ArrayRecordCrops, write_array_record
from tcm_jax.data.words.benchmarks import benchmark_sets
from tcm_jax.data.words.label_files import write_label_folder
from tcm_jax.data.words.sources import open_word_crops
from tcm_jax.records import AnnotatedImage, SourceError, TextRegion
from tests.fake_bucket import install_empty

BOX = np.array([[1, 2.25], [9, 2], [9, 5], [0.1, 5]], np.float32)


def shard(*arguments) -> int:
    return run_data("shard", *arguments)


def words(path, count: int = 10):
    write_label_folder(records(count), path)
    return path


def scenes(path, count: int = 5):
    made = [
        AnnotatedImage(jpeg(i), (TextRegion(BOX + i, f"w{i}"), TextRegion(BOX, "", True))[: i + 1], f"img_{i}.jpg")
        for i in range(count)
    ]
    write_annotated_folder(made, path)
    return path


def contents(folder) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_words_come_back_in_order_from_all_shards(tmp_path, capsys):
    source = words(tmp_path / "words")
    assert shard(source, tmp_path / "packed", "--shards", 3, "--workers", 2) == 0
    names = [f"packed-0000{i}-of-00003.arrayrecord" for i in range(3)]
    assert sorted(os.listdir(tmp_path / "packed")) == ["manifest.json", *names]
    read = open_word_crops(tmp_path / "packed")
    assert isinstance(read, ArrayRecordCrops)
    assert read.name == "packed"
    assert list(read.labels()) == [read[i].label for i in range(10)] == [f"w{i}" for i in range(10)]
    assert [read[i].image for i in range(10)] == [jpeg(i) for i in range(10)]
    assert read[9].name.startswith("packed:000000009 words/labels.tsv:10 ")
    output = capsys.readouterr().out
    assert "words/labels.tsv: 10 records\n" in output
    assert "MB in 3 shards" in output
    assert [len(open_word_crops(tmp_path / "packed" / name)) for name in names] == [3, 3, 4]
    assert [(made.name, len(made)) for made in benchmark_sets(tmp_path / "packed")] == [("packed", 10)]


def test_the_manifest_accounts_for_everything(tmp_path, capsys):
    source = words(tmp_path / "words")
    images = sorted((source / "images").iterdir())
    images[3].unlink()
    images[5].write_bytes(b"no image")
    assert shard(source, tmp_path / "packed", "--shards", 2) == 0
    manifest = json.loads((tmp_path / "packed" / "manifest.json").read_text())
    assert (manifest["records"], manifest["texts"], manifest["longest"]) == (8, 8, 2)
    assert manifest["dropped"] == {"without a readable image": 2}
    assert manifest["characters"]["w"] == 8
    assert manifest["bytes"] == sum(entry["bytes"] for entry in manifest["shards"])
    assert [(entry["first"], entry["end"]) for entry in manifest["shards"]] == [(0, 5), (5, 10)]
    output = capsys.readouterr().out
    assert "left out: 2 without a readable image" in output
    assert images[3].name in output
    assert images[5].name in output


def test_scenes_come_back_with_their_regions(tmp_path, capsys):
    source = scenes(tmp_path / "photos")
    assert shard(source, tmp_path / "packed", "--shards", 2) == 0
    read, original = open_annotated_images(tmp_path / "packed"), open_annotated_images(source)
    assert (read.kind, read.name) == ("ArrayRecord", "packed")
    assert str(read.report) == str(original.report) == "5 images, 9 text instances (4 of them ignored)"
    for i in range(5):
        assert (read.image_name(i), read[i].image) == (original.image_name(i), original[i].image)
        for region, expected in zip(read.regions(i), original.regions(i), strict=True):
            assert (region.text, region.ignore) == (expected.text, expected.ignore)
            assert region.polygon.dtype == np.float32
            assert (region.polygon == expected.polygon).all()
    assert run_data("check", tmp_path / "packed") == 0
    assert "recognised: ArrayRecord packed: 5 images" in capsys.readouterr().out
    with pytest.raises(SourceError, match=r"record 0 has another layout \(KeyError\('label'\)\)"):
        open_word_crops(tmp_path / "packed")


def test_several_sources_follow_each_other(tmp_path, capsys):
    sources = scenes(tmp_path / "one", 2), scenes(tmp_path / "two", 3)
    next((sources[1] / "images").iterdir()).rename(tmp_path / "gone.jpg")
    assert shard(*sources, tmp_path / "packed", "--shards", 2, "--scenes") == 0
    read = open_annotated_images(tmp_path / "packed")
    assert [read.image_name(i)[:3] for i in range(4)] == ["one", "one", "two", "two"]
    assert "two: 2 images" in (output := capsys.readouterr().out)
    assert "1 annotation without an image" in output


def test_a_missing_shard_is_named(tmp_path):
    shard(words(tmp_path / "words"), tmp_path / "packed", "--shards", 3)
    shard(scenes(tmp_path / "photos"), tmp_path / "scenes", "--shards", 3)
    for name, open_set in (("packed", open_word_crops), ("scenes", open_annotated_images)):
        (tmp_path / name / f"{name}-00001-of-00003.arrayrecord").unlink()
        with pytest.raises(SourceError, match=f"lacks 1 of 3 shards: {name}-00001-of-00003.arrayrecord"):
            open_set(tmp_path / name)


def test_scenes_without_their_manifest_are_not_complete(tmp_path):
    shard(scenes(tmp_path / "photos"), tmp_path / "packed", "--shards", 2)
    (tmp_path / "packed" / "manifest.json").unlink()
    with pytest.raises(SourceError, match=r"manifest.json is missing, which is written last"):
        open_annotated_images(tmp_path / "packed")


def test_finished_shards_are_kept_and_damaged_ones_made_again(tmp_path):
    source = words(tmp_path / "words")
    shard(source, tmp_path / "packed", "--shards", 4)
    before = contents(tmp_path / "packed")
    kept, damaged, missing = (tmp_path / "packed" / f"packed-0000{i}-of-00004.arrayrecord" for i in range(3))
    inode = kept.stat().st_ino
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    missing.unlink()
    assert shard(source, tmp_path / "packed", "--shards", 4) == 0
    assert contents(tmp_path / "packed") == before
    assert kept.stat().st_ino == inode


def test_shards_of_another_job_are_not_mixed_in(tmp_path, capsys):
    shard(words(tmp_path / "words"), tmp_path / "packed", "--shards", 2)
    assert shard(words(tmp_path / "other", 11), tmp_path / "packed", "--shards", 2) == 1
    assert "packed holds shards of other records" in capsys.readouterr().err
    assert shard(tmp_path / "words", tmp_path / "packed", "--shards", 3) == 1


def test_an_interrupted_shard_leaves_nothing_and_the_rest_follows(tmp_path):
    source = ListSource(records(6))
    plan = plan_shards(source, tmp_path / "packed", 2)
    start(plan)
    first = make_shard(source, plan, 0)

    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_shard(source, plan, 1, interrupt)
    assert sorted(os.listdir(tmp_path / "packed")) == [".parts", first.file]
    with pytest.raises(SourceError, match="lacks 1 of 2 shards"):
        open_word_crops(tmp_path / "packed")
    with pytest.raises(SourceError, match="1 of 2 shards were made"):
        finish(plan, [first])
    finish(plan, [make_shard(source, plan, i) for i in (1, 0)])
    assert len(open_word_crops(tmp_path / "packed")) == 6


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_command_goes_on_where_it_was(tmp_path, sent):
    source = words(tmp_path / "words", 400)
    shard(source, tmp_path / "whole" / "packed", "--shards", 40)
    slow = sorted((source / "images").iterdir())[203]  # of shard 20
    content = slow.read_bytes()
    slow.unlink()
    os.mkfifo(slow)  # who reads it waits for a writer
    command = [sys.executable, "-m", "tcm_jax.data", "shard", source, tmp_path / "packed"]
    command += ["--shards", "40", "--workers", "1"]
    # A shell ignores Ctrl-C for what it runs in the background, and so would this process.
    heed = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=heed)
    # Opens once it is read; a reader whose main process was killed has ended by the time of the write.
    with contextlib.suppress(BrokenPipeError), open(slow, "wb") as pipe:
        os.kill(process.pid, sent)
        time.sleep(2)
        pipe.write(content)
    output, _ = process.communicate(timeout=60)  # the end of its output is also that of its processes
    if sent == signal.SIGINT:
        assert process.returncode == 130
        assert "interrupted: 20 of 40 shards are made; the same command" in output
    assert sum(file.suffix == ".arrayrecord" and file.name[0] != "." for file in (tmp_path / "packed").iterdir()) == 20
    slow.unlink()
    slow.write_bytes(content)
    assert shard(source, tmp_path / "packed", "--shards", 40) == 0
    assert contents(tmp_path / "packed") == contents(tmp_path / "whole" / "packed")


def test_shards_in_an_object_store(tmp_path, monkeypatch):
    monkeypatch.setenv("TCM_JAX_CACHE", str(tmp_path / "cache"))
    store = install_empty()
    source = open_annotated_images(scenes(tmp_path / "photos"))
    plans = [plan_shards(source, destination, 2) for destination in (tmp_path / "packed", "gs://b/packed")]
    for plan in plans:
        start(plan)
        made = [make_shard(source, plan, i) for i in range(2)]
        assert [make_shard(source, plan, i) for i in range(2)] == made
        finish(plan, made)
    uploaded = {name.removeprefix("/b/packed/"): file.getvalue() for name, file in store.store.items()}
    assert uploaded == contents(tmp_path / "packed")
    read = open_annotated_images("gs://b/packed")
    assert read.name == "packed"
    assert read[4].image == source[4].image
    start(plans[1])
    finish(plans[1], [make_shard(source, plans[1], i) for i in range(2)])
    assert store.uploads.count(f"gs://b/packed/{made[0].file}") == 1  # kept


def test_a_full_disk_is_told(tmp_path):
    def full():
        raise RuntimeError("write() failed: No space left on device")
        yield

    with pytest.raises(OSError, match=r"x.arrayrecord can't be written: .*No space left"):
        write_packed(full(), tmp_path / "x.arrayrecord")
    assert os.listdir(tmp_path) == []


def test_the_size_of_shards_decides_their_number(tmp_path):
    source = ListSource(records(100))
    size = sum(len(record.image) for record in records(100))
    assert plan_shards(source, tmp_path, shard_bytes=size // 10).shards in (10, 11, 12)
    assert plan_shards(source, tmp_path, shard_bytes=10**9).shards == 1
    with pytest.raises(SourceError, match="100 records; they can't become 101 shards"):
        plan_shards(source, tmp_path, shards=101)


def test_nothing_readable_is_an_error(tmp_path, capsys):
    source = words(tmp_path / "words", 2)
    for image in (source / "images").iterdir():
        image.write_bytes(b"no image")
    assert shard(source, tmp_path / "packed") == 1
    assert "no record can be read; the first: " in capsys.readouterr().err


def test_sets_of_files_by_either_way_of_naming(tmp_path):
    for name in ("a.array_record-00000-of-00002", "a.array_record-00001-of-00002", "b.arrayrecord"):
        write_array_record(records(2), tmp_path / name)
    source = open_word_crops(tmp_path)
    assert [part.name for part in source.sources] == [f"{tmp_path.name}/a", f"{tmp_path.name}/b.arrayrecord"]
    assert len(source) == 6
    assert set_name("a.array_record-00000-of-00002") == set_name("a-00000-of-00002.arrayrecord") == "a"
