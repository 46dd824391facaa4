"""The recognizer of the package learns another language from rendered words (docs/languages.md).

    python -m tcm_jax.train --config configs/clip4str_language.py:greek --workdir runs/greek

It starts from the model in the package: characters that the model has keep what it learned of them, the others start
anew. Half of the texts are words of a list, one in ten of which is held out: the validation never shows a word that
training did. Small enough for two CPU cores; a model for use needs a longer list, a `font_dir` and real pictures.

Variants:
    german  letters, digits and umlauts
    greek   digits and Greek letters
    NAME    any language with words/NAME.txt, a word on each line, and words/NAME.chars, the characters to read
    tiny    seconds, for tests
"""

import json
import runpy
from pathlib import Path

from ml_collections import ConfigDict

HERE = Path(__file__).parent
quickstart = runpy.run_path(str(HERE / "clip4str_quickstart.py"))

INIT = HERE.parent / "tcm_jax" / "weights" / "recognizer"
LANGUAGES = sorted(path.stem for path in (HERE / "words").glob("*.chars"))


def get_config(variant: str = "greek") -> ConfigDict:
    if variant not in (*LANGUAGES, "tiny"):
        known = ", ".join(LANGUAGES)
        raise ValueError(f"clip4str_language: unknown variant {variant!r}; known are {known} and tiny")
    config = quickstart["get_config"]("tiny" if variant == "tiny" else "")
    language = "greek" if variant == "tiny" else variant
    characters = f"file:{HERE / 'words' / language}.chars"
    if variant != "tiny":
        config.model = json.loads((INIT / "config.json").read_text(encoding="utf-8"))["model"]
        config.init = str(INIT)
        config.batch, config.steps = 32, 700
        config.optim.update({"lr": 1.5e-3, "lr_batch": 32, "ema": 0.99})
        config.eval.every, config.checkpoint.every = 350, 350
    config.model.charset = characters
    config.model.caption_charset = characters  # else no letter of the language would reach the text encoder
    config.inference.dictionary_prior = 1.0  # CLIP's words are English
    config.eval.charset = characters  # case and accents count
    config.data.filter.normalize_unicode = "nfc"  # of real labels: "ascii" would take the accents away
    samples = (1000, 16) if variant == "tiny" else (10_000_000, 500)
    config.data.train = [{"synthetic": words(language, "train", samples[0])}]
    config.eval.sources = [{"name": "unseen words", "synthetic": words(language, "test", samples[1])}]
    return config


def words(language: str, split: str, size: int) -> dict:
    """Arguments of the word renderer; the words of the split "test" never occur in "train"."""
    listed = {"word_file": str(HERE / "words" / f"{language}.txt"), "listed": 0.5 if split == "train" else 1.0}
    return {**quickstart["words"](split, 0.1, size), **listed}
