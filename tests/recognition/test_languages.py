"""Another language: what its recipe renders, and the model of the package learning letters that it has never seen."""

import runpy
import unicodedata
from pathlib import Path

import pytest

from tcm_jax.commands.train import run
from tcm_jax.images.fonts import FontLibrary
from tcm_jax.pretrained import RECOGNIZER, read_config
from tcm_jax.recognition.recognizer import Recognizer
from tcm_jax.render.vocabulary import TextSampler, read_words
from tcm_jax.render.words import SyntheticWords
from tcm_jax.text.charset_spec import load_charset

RECIPE = runpy.run_path(str(Path(__file__).parents[2] / "configs" / "clip4str_language.py"))
WORDS = ("ζωή", "ψωμί", "οδός", "λάδι", "χθες", "ξύλο", "γάλα", "φως")


def files(language: str) -> tuple[str, Path]:
    """Charset and word list of a recipe."""
    folder = RECIPE["HERE"] / "words"
    return load_charset(f"file:{folder / language}.chars"), folder / f"{language}.txt"


@pytest.mark.parametrize("language", RECIPE["LANGUAGES"])
def test_the_charset_of_a_recipe_has_all_that_its_words_need(language):
    charset, file = files(language)
    words = read_words(file)
    assert len(words) > 300 and len(set(charset)) == len(charset) == len(unicodedata.normalize("NFC", charset))
    assert set("".join(words)) <= set(charset)
    assert any(font.covers(charset) for font in FontLibrary().fonts)
    train, test = (TextSampler(charset, 25, split, file) for split in ("train", "test"))
    assert set(train.dropped) == set(test.dropped) == {"of the other split"}
    assert len(test.words) > 30 and not set(train.words) & set(test.words)


@pytest.mark.parametrize("language", RECIPE["LANGUAGES"])
def test_a_recipe_starts_from_the_model_of_the_package(language):
    config = RECIPE["get_config"](language).to_dict()
    assert Path(config["init"]).samefile(RECOGNIZER)
    shipped = read_config(RECOGNIZER)["model"]
    changed = {key for key in shipped if config["model"][key] != shipped[key]}
    assert changed == {"charset", "caption_charset"}
    assert config["inference"]["dictionary_prior"] == 1  # CLIP's words are English
    assert config["model"]["caption_charset"] == config["eval"]["charset"] == config["model"]["charset"]


def accuracy(model: Path, words: SyntheticWords) -> float:
    """Words that are read without an error, in per cent; case and accents count."""
    readings = Recognizer(model, quiet=True).read([record.image for record in words])
    return 100 * sum(r.text == label for r, label in zip(readings, words.labels(), strict=True)) / len(words)


@pytest.mark.slow
def test_the_model_of_the_package_learns_greek_words(tmp_path, capsys):
    """Eight words in clean pictures: in a minute what the recipe does with hundreds of words in ten."""
    (tmp_path / "words.txt").write_text("\n".join(WORDS), encoding="utf-8")
    charset = "0" + "".join(sorted(set("".join(WORDS))))
    config = RECIPE["get_config"]("greek").to_dict()
    config["model"] |= {"charset": charset, "caption_charset": charset, "max_label_length": 4}
    rendered = {"difficulty": 0.0, "word_file": str(tmp_path / "words.txt"), "listed": 1.0}
    config["data"] |= {"train": [{"synthetic": rendered | {"seed": 1}}], "workers": 0}
    config |= {"batch": 16, "steps": 48, "log_every": 16, "checkpoint": {"every": 0}}
    config["optim"] |= {"lr": 2e-3, "lr_batch": 16, "ema": 0.0}
    config["eval"]["sources"] = []
    run(config, tmp_path / "run")

    report = capsys.readouterr().out
    assert "resized 8: all 2 of cross_decoder/head, " in report
    assert f"characters that the directory's model lacks: {charset[1:]}\n" in report
    pictures = SyntheticWords(charset, 4, seed=2, size=64, **rendered)
    assert accuracy(RECOGNIZER, pictures) == 0
    assert accuracy(tmp_path / "run", pictures) > 60
