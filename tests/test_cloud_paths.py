"""Paths of object stores wherever a path is taken; gs:// is a store in memory here."""

import json
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tcm_jax import predict, pretrained
from tcm_jax.commands.evaluate import main as evaluate
from tcm_jax.commands.evaluate.outputs import results_path
from tcm_jax.commands.images import find_images, overlay_paths
from tcm_jax.data.entries import Entry
from tcm_jax.data.scenes.build import DetectionEntry, training_images
from tcm_jax.data.scenes.write import write_annotated_folder
from tcm_jax.data.words.array_record import write_array_record
from tcm_jax.data.words.build import evaluation_crops
from tcm_jax.data.words.label_files import write_label_folder
from tcm_jax.data.words.labels import LabelFilter
from tcm_jax.data.words.lmdb import LmdbSource, write_lmdb
from tcm_jax.data.words.sources import open_word_crops
from tcm_jax.files import (
    RemoteError,
    absolute,
    as_path,
    atomic_file,
    atomic_folder,
    check_writable,
    local_copy,
    upload,
    write_json,
)
from tcm_jax.images.inputs import load_image, named_images
from tcm_jax.pretrained import Pretrained, find_model
from tcm_jax.recognition.loading import load_recognizer
from tcm_jax.recognition.options import ReadingOptions
from tcm_jax.records import AnnotatedImage, SourceError, TextRegion
from tcm_jax.text.charset import CHARSET_36
from tcm_jax.text.charset_spec import load_charset
from tcm_jax.training.report import RunLog
from tcm_jax.training.workdir import ResumeError, check_config
from tests.data.word_files import jpeg, records
from tests.fake_bucket import install_empty
from tests.tiny_model import write_tiny_model


@pytest.fixture
def bucket(monkeypatch, tmp_path):
    """An empty store behind gs://, and an empty cache of copies; see `FakeStore`."""
    monkeypatch.setenv("TCM_JAX_CACHE", str(tmp_path / "cache"))
    return install_empty()


def put(path: str, content: bytes | str) -> None:
    with atomic_file(path, "wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)


def test_paths_are_joined_and_never_mangled(bucket):
    path = as_path("gs://b/runs", "a", "best")
    assert str(path) == os.fspath(path) == "gs://b/runs/a/best"
    assert str(path.parent / "x.json") == str(path.with_name("x.json")) == "gs://b/runs/a/x.json"
    assert str(as_path("data", "gs://b/words")) == "gs://b/words"
    assert str(as_path("", "gs://b/words")) == "gs://b/words"
    assert str(as_path("gs://b", "/local")) == "/local"
    assert str(absolute(path)) == str(as_path(path)) == str(pickle.loads(pickle.dumps(path))) == str(path)
    assert type(as_path("a", "b")) is type(Path())
    assert as_path("a", "b") == Path("a/b")
    assert as_path("") == Path()
    assert absolute("a") == Path.cwd() / "a"
    assert str(results_path("gs://b/runs/a/best")) == "gs://b/runs/a/best.results.json"


def test_unknown_schemes_and_missing_packages_are_named(monkeypatch):
    with pytest.raises(RemoteError, match="ftp://b/x: unknown scheme 'ftp'; expected one of gs, s3"):
        as_path("ftp://b/x")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(RemoteError, match=r'gs://b/x: the package gcsfs is missing; .*pip install "tcm_jax\[gcs\]"'):
        as_path("gs://b/x")


def test_files_are_complete_or_not_there(bucket):
    with atomic_file("gs://b/a.txt") as file:
        file.write("ä")
        assert not as_path("gs://b/a.txt").exists()
    assert as_path("gs://b/a.txt").read_text() == "ä"
    with pytest.raises(TypeError), atomic_file("gs://b/a.txt") as file:
        file.writelines(["half", None])
    assert as_path("gs://b/a.txt").read_text() == "ä"
    check_writable("gs://b/any", "--output")


def test_the_decisive_file_of_a_folder_is_uploaded_last_and_removed_first(bucket, monkeypatch):
    with atomic_folder("gs://b/m", last="config") as folder:
        for name in ("a", "config", "z/old"):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(name)
    assert bucket.uploads == ["gs://b/m/a", "gs://b/m/z/old", "gs://b/m/config"]
    with pytest.raises(FileExistsError, match="gs://b/m exists"), atomic_folder("gs://b/m"):
        pass

    def dies(self, local, remote, **_):
        raise ConnectionError("gone")

    with monkeypatch.context() as broken:
        broken.setattr(bucket, "put_file", dies)
        with (
            pytest.raises(RemoteError, match="ConnectionError: gone"),
            atomic_folder("gs://b/m", True, "config") as folder,
        ):
            (folder / "a").write_text("2")
    assert sorted(bucket.store) == ["/b/m/a", "/b/m/z/old"]  # no folder without its decisive file
    with atomic_folder("gs://b/m", replace=True, last="config") as folder:
        (folder / "config").write_text("new")
    assert sorted(bucket.store) == ["/b/m/config"]


def test_copies_are_made_once_and_again_after_a_change(bucket, capsys, monkeypatch):
    monkeypatch.setattr("tcm_jax.files._MIN_REPORTED", 2)
    put("gs://b/set/one/x", "1")
    put("gs://b/set/y", "22")
    put("gs://b/settings", "not in the folder set")
    copy = local_copy("gs://b/set")
    assert copy.parts[-2:] == ("b", "set")
    assert (copy / "one" / "x").read_text() == "1"
    assert "copying gs://b/set (2 files, 0.0 MB)" in capsys.readouterr().err
    assert local_copy("gs://b/set") == copy
    assert len(bucket.downloads) == 2
    (copy / "y").write_text("cut")
    assert local_copy("gs://b/set") == copy
    assert bucket.downloads[2:] == ["gs://b/set/y"]
    assert sorted(file.name for file in copy.iterdir()) == ["one", "y"]
    put("gs://b/set/y", "33")
    assert (local_copy("gs://b/set") / "y").read_text() == "33"
    assert (copy / "y").read_text() == "22"
    assert local_copy("gs://b/set/y").read_text() == "33"
    assert (local_copy("gs://b/set/y", with_folder=True).parent / "one" / "x").exists()
    with pytest.raises(FileNotFoundError, match="gs://b/nothing does not exist"):
        local_copy("gs://b/nothing")


def test_of_several_that_start_at_once_one_copies(bucket, capsys, monkeypatch):
    monkeypatch.setattr("tcm_jax.files._MIN_REPORTED", 0)
    for i in range(20):
        put(f"gs://b/set/{i}", bytes(100_000))
    with ThreadPoolExecutor(4) as pool:  # their locks exclude each other as those of processes do
        copies = list(pool.map(local_copy, ["gs://b/set"] * 4))
    assert len(set(copies)) == 1
    assert len(os.listdir(copies[0])) == 20
    assert len(bucket.downloads) == 20
    assert capsys.readouterr().err.count("copying gs://b/set") == 1


def test_full_disks_and_refusals_say_what_to_do(bucket, monkeypatch):
    put("gs://b/x", "1")
    with monkeypatch.context() as full:
        full.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=0))
        with pytest.raises(RemoteError, match=r"gs://b/x needs 0 MB in .*TCM_JAX_CACHE"):
            local_copy("gs://b/x")

    def refuse(*_, **__):
        raise RuntimeError("401, Anonymous caller")

    monkeypatch.setattr(bucket, "find", refuse)
    monkeypatch.setattr(bucket, "info", refuse)
    for access in (local_copy, find_model):
        with pytest.raises(RemoteError, match=r"gs://b/x can't be reached: RuntimeError: 401.*gcloud auth"):
            access("gs://b/x")


def test_model_directories(bucket):
    model = Pretrained("clip", {"embed_dim": 4}, {"params": {"a": np.ones(3, np.float32)}}, {"mean": [0.5] * 3})
    for source in ("first", "second"):
        Pretrained(**{**model.__dict__, "source": source}).save("gs://b/runs/a/best")
        assert pretrained.read_config("gs://b/runs/a/best")["source"] == source
        loaded = pretrained.load("gs://b/runs/a/best")
        assert loaded.source == source
        np.testing.assert_array_equal(loaded.variables["params"]["a"], np.ones(3))
    assert bucket.uploads[:2] == ["gs://b/runs/a/best/weights.safetensors", "gs://b/runs/a/best/config.json"]
    assert str(find_model("gs://b/runs/a")) == "gs://b/runs/a/best"
    with pytest.raises(FileNotFoundError, match="gs://b/other does not exist"):
        find_model("gs://b/other")


def test_words_of_every_form(bucket, tmp_path):
    write_label_folder(records(3), "gs://b/data/folder")
    assert bucket.uploads[-1] == "gs://b/data/folder/labels.tsv"
    write_lmdb(records(3), "gs://b/data/lmdb")
    write_array_record(records(3), tmp_path / "words.array_record")
    put("gs://b/data/shards/words.array_record", (tmp_path / "words.array_record").read_bytes())
    words = LabelFilter(CHARSET_36)
    paths = ("folder", "folder/labels.tsv", "lmdb", "lmdb/data.mdb", "shards", "shards/words.array_record")
    for path in paths:
        source = evaluation_crops(Entry(path=path, where="entry"), words, CHARSET_36, root="gs://b/data")
        assert list(source.labels()) == ["w0", "w1", "w2"], path
        assert source[2].image == jpeg(2)
    assert len(open_word_crops("gs://b/data")) == 9
    assert open_word_crops("gs://b/data/folder").name == "folder/labels.tsv"
    assert LmdbSource("gs://b/data/lmdb").name == "lmdb"
    with pytest.raises(SourceError, match="entry: gs://b/data/none does not exist"):
        evaluation_crops(Entry(path="none", where="entry"), words, CHARSET_36, root="gs://b/data")


def test_scenes_with_their_photos(bucket):
    region = TextRegion(np.array([[1, 1], [9, 1], [9, 5], [1, 5]], np.float32), "word", False)
    write_annotated_folder(
        [AnnotatedImage(jpeg(i), (region,), f"photo{i}.jpg") for i in range(3)], "gs://b/scenes/test"
    )
    assert bucket.uploads[-1] == "gs://b/scenes/test/labels.jsonl"
    for path in ("scenes/test", "scenes/test/labels.jsonl"):
        source = training_images(DetectionEntry(path=path, where="entry"), root="gs://b")
        assert source.name == "test"
        assert len(source) == 3
        assert source[1].image == jpeg(1)
        assert source.regions(2)[0].text == "word"


def test_what_a_run_leaves(bucket):
    workdir = as_path("gs://b/runs/a")
    config = {"task": "recognition", "optim": {"ema": 0}, "batch": 8}
    assert check_config(workdir, config) == []
    write_json(workdir / "config.json", config)
    assert check_config(workdir, config | {"batch": 4}) == ["config.batch: 8 -> 4"]
    with pytest.raises(ResumeError, match=r"gs://b/runs/a holds checkpoints of another model.*gs://b/runs/a/last"):
        check_config(workdir, config | {"task": "detection"})


def test_metrics_are_uploaded_now_and_then_and_at_the_end(bucket, capsys, monkeypatch):
    workdir = as_path("gs://b/runs/a")

    def steps() -> list[int]:
        return [json.loads(line)["step"] for line in (workdir / "metrics.jsonl").read_text().splitlines()]

    with RunLog(workdir, start=0, total=9) as report:
        report.write(1, {"loss": 2.0})
        assert not (workdir / "metrics.jsonl").exists()
        report.sync()
        assert steps() == [1]
        report.write(2, {"loss": 1.0})
        monkeypatch.setattr("tcm_jax.training.report._SYNC_INTERVAL", -1.0)
        report.write(3, {"loss": 0.5})
        assert steps() == [1, 2, 3]
    with RunLog(workdir, start=2, total=9) as report:  # the checkpoint was that of step 2
        folder = report._folder
        report.write(3, {"loss": 0.4})
    assert steps() == [1, 2, 3]
    assert not folder.exists()
    assert any(name.startswith("/b/runs/a/tensorboard/events") for name in bucket.store)

    def dies(*_, **__):
        raise ConnectionError("no network")

    monkeypatch.setattr(bucket, "put_file", dies)
    with RunLog(workdir, start=3, total=9) as report:
        report.write(4, {"loss": 0.3})
    assert (
        "could not be uploaded: gs://b/runs/a can't be reached: ConnectionError: no network" in capsys.readouterr().out
    )
    assert '"step": 4' in (report._folder / "metrics.jsonl").read_text()


def test_images_to_predict(bucket):
    for name in ("b.jpg", "a.jpg", "notes.txt"):
        put(f"gs://b/photos/{name}", jpeg(1))
    assert [name for _, name in named_images("gs://b/photos")] == ["gs://b/photos/a.jpg", "gs://b/photos/b.jpg"]
    assert load_image("gs://b/photos/a.jpg", "a").shape == (10, 20, 3)
    assert find_images(["gs://b/photos"]) == ["gs://b/photos/a.jpg", "gs://b/photos/b.jpg"]
    assert find_images(["gs://b/*/b*.jpg", "gs://b/x.jpg"]) == ["gs://b/photos/b.jpg", "gs://b/x.jpg"]
    assert [str(path) for path in overlay_paths(["gs://b/photos/a.jpg"], as_path("gs://b/out"))] == ["gs://b/out/a.jpg"]
    with pytest.raises(ValueError, match="--out gs://b/photos holds images that are read"):
        overlay_paths(["gs://b/photos/a.jpg"], as_path("gs://b/photos"))


def test_a_model_words_and_results_in_a_bucket(bucket, tmp_path, capsys):
    write_tiny_model(tmp_path / "model")
    upload(tmp_path / "model", as_path("gs://b/runs/a/best"), last=pretrained.CONFIG)
    assert str(load_recognizer("gs://b/runs/a", ReadingOptions())).startswith("gs://b/runs/a/best on cpu")
    write_label_folder(records(4), "gs://b/words")
    put("gs://b/letters.txt", "w0123")

    predict.main(["read", "gs://b/words/images", "--checkpoint", "gs://b/runs/a", "--output", "gs://b/out/read.jsonl"])
    rows = [json.loads(line) for line in as_path("gs://b/out/read.jsonl").read_text().splitlines()]
    assert [row["name"] for row in rows] == [f"gs://b/words/images/{i:06d}.jpeg" for i in range(1, 5)]

    evaluate(["gs://b/words", "--checkpoint", "gs://b/runs/a", "--charset", "file:gs://b/letters.txt"])
    results = json.loads(as_path("gs://b/runs/a.results.json").read_text())
    assert results["config"]["paths"] == ["gs://b/words"]
    assert load_charset("file:gs://b/letters.txt") == "w0123"
    assert not [name for name in os.listdir() if name.startswith("gs:")]
