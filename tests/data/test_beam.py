"""The conversion to shards as a pipeline of Apache Beam, run locally."""

from pathlib import Path

import pytest
from word_files import records, run_data

from tcm_jax.data.scenes.write import write_annotated_folder
from tcm_jax.data.words.label_files import write_label_folder
from tcm_jax.records import AnnotatedImage


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.mark.parametrize("kind", ["words", "scenes"])
def test_the_pipeline_makes_the_shards_that_the_processes_make(tmp_path, capsys, kind):
    source = tmp_path / kind
    if kind == "words":
        write_label_folder(records(10), source)
    else:
        images = [AnnotatedImage(record.image, (), f"{record.label}.jpg") for record in records(10)]
        write_annotated_folder(images, source)
    command = ("shard", source, "--shards", 3)
    assert run_data(*command, tmp_path / "here" / "packed") == 0
    assert run_data(*command, tmp_path / "beam" / "packed", "--beam", "--runner=DirectRunner") == 0
    assert contents(tmp_path / "beam" / "packed") == contents(tmp_path / "here" / "packed")
    assert "10 records, " in capsys.readouterr().out.splitlines()[-3]
