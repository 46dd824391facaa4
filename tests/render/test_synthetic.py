import pickle
import string
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tcm_jax.commands.data import main
from tcm_jax.data.words.sources import open_word_crops
from tcm_jax.images.decoding import decode
from tcm_jax.images.fonts import FontLibrary
from tcm_jax.render.degradation import degrade
from tcm_jax.render.random_stream import RandomStream
from tcm_jax.render.typesetting import SIZES, typeset
from tcm_jax.render.vocabulary import TextSampler, split_of
from tcm_jax.render.warping import warp_to_crop
from tcm_jax.render.words import SyntheticWords
from tcm_jax.text.bpe import vocabulary_words
from tcm_jax.text.charset import CHARSET_36, CHARSET_62, CHARSET_94

DIGITS = string.digits


@pytest.fixture(scope="module")
def library() -> FontLibrary:
    return FontLibrary()


def font_named(library: FontLibrary, name: str):
    return next(font for font in library.fonts if font.name == name)


def test_a_record_is_a_function_of_seed_and_index():
    first, second = SyntheticWords(CHARSET_94, seed=3), SyntheticWords(CHARSET_94, seed=3)
    other = SyntheticWords(CHARSET_94, seed=4)
    copy = pickle.loads(pickle.dumps(first))
    forwards = [first[i] for i in range(12)]
    for i in reversed(range(12)):
        for again in (second[i], copy[i]):
            assert (again.label, again.name) == (forwards[i].label, forwards[i].name)
            np.testing.assert_array_equal(again.image, forwards[i].image)
    assert [r.label for r in forwards] != [other[i].label for i in range(12)]
    assert forwards[5].name == "synthetic/train:3:5"


def test_it_is_a_sequence():
    words = SyntheticWords(CHARSET_36, size=6)
    assert len(words) == 6
    assert list(words.labels()) == [record.label for record in words]
    for index in (6, -1):
        with pytest.raises(IndexError, match=f"record {index} of 6"):
            words[index]


@pytest.mark.parametrize("charset", [CHARSET_36, CHARSET_62, CHARSET_94, DIGITS, "ABCDEF", "é漢ж"])
@pytest.mark.parametrize("max_length", [1, 5, 25])
def test_labels_are_within_charset_and_length(charset, max_length):
    words = SyntheticWords(charset, max_length)
    labels = []
    for i in range(20):
        record = words[i]
        assert record.image.dtype == np.uint8
        assert record.image.shape[2] == 3
        assert min(record.image.shape[:2]) >= 6
        assert max(record.image.shape[:2]) < 600
        labels.append(record.label)
    rng = RandomStream(0)
    labels += [words.words.draw(rng)[1] for _ in range(500)]
    assert set("".join(labels)) <= set(charset)
    assert min(map(len, labels)) >= 1
    assert max(map(len, labels)) <= max_length


def test_the_label_is_the_text_that_is_drawn():
    rng, words = RandomStream(1), TextSampler(CHARSET_94, 25)
    for _ in range(1000):
        text, label = words.draw(rng)
        assert label == text
    words = TextSampler(CHARSET_36, 25)
    for _ in range(1000):  # in one case, and without the punctuation that the set has not
        text, label = words.draw(rng)
        assert label == "".join(c for c in text.lower() if c not in string.punctuation)


def test_every_character_and_many_lengths_occur():
    rng, words = RandomStream(2), TextSampler(CHARSET_94, 25)
    labels = [words.draw(rng)[1] for _ in range(8000)]
    assert set("".join(labels)) == set(CHARSET_94)
    assert set(range(1, 20)) <= {len(label) for label in labels}
    kinds = (str.islower, str.isupper, str.istitle, str.isdigit)
    assert all(sum(map(kind, labels)) > 200 for kind in kinds)


@pytest.mark.parametrize("charset", [CHARSET_36, CHARSET_94])
def test_words_of_the_test_split_never_occur_in_train(charset):
    def keys(split: str) -> set[str]:
        words, rng = TextSampler(charset, 25, split), RandomStream(5)
        labels = {words.draw(rng)[1] for _ in range(4000)}
        return {"".join(c for c in label.lower() if c.isalnum()) for label in labels}

    train, test = keys("train"), keys("test")
    assert len(train) > 2000
    assert len(test) > 1000
    assert not train & test
    assert set(string.digits) & train
    assert not any(len(key) <= 2 for key in test)


def test_single_characters_are_many_enough_to_learn_from():
    train, test = (list(SyntheticWords(CHARSET_94, split=split, size=2000).labels()) for split in ("train", "test"))
    single = [label for label in train if len(label) == 1]
    assert 60 < len(single) < 200
    assert len(set(single)) > 35
    assert not any(label.isalnum() for label in test if len(label) == 1)


def test_the_split_is_by_the_word_itself():
    held_out = [word for word in vocabulary_words() if split_of(word) == "test"]
    assert len(held_out) / len(vocabulary_words()) == pytest.approx(0.1, abs=0.01)
    word = held_out[0]
    assert {split_of(text) for text in (word.upper(), word.title(), f"({word})", f"{word}!")} == {"test"}
    assert TextSampler(CHARSET_94, 25, "test").words == held_out
    with pytest.raises(ValueError, match="no text of split 'test' fits"):
        TextSampler(DIGITS, 2, "test").draw(RandomStream(0))  # all numbers below 100 are for training
    with pytest.raises(ValueError, match="split 'val'; expected one of"):
        TextSampler(DIGITS, 2, "val")


def test_a_word_file_replaces_the_list(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("Zürich\nplatform\n\nplatform\nexit\nextraordinarily\nGate 7\n A1 \n", encoding="utf-8")
    words = TextSampler(CHARSET_94, 8, "train", path, listed=1.0)
    assert set(words.words) <= {"platform", "exit", "A1"}
    assert words.words
    assert words.dropped["longer than 8 characters"] == 1
    assert words.dropped["a letter or digit outside the charset"] == 2  # the u umlaut and the space
    rng = RandomStream(0)
    assert {words.draw(rng)[1].lower() for _ in range(100)} == {word.lower() for word in words.words}
    with pytest.raises(ValueError, match="has no word for split 'train'"):
        TextSampler(DIGITS, 25, "train", path)


def test_fonts_of_the_packages(library):
    assert not library.broken
    assert len({(font.family, font.style) for font in library.fonts}) == len(library.fonts) > 50
    assert {"Roboto", "Source Serif Pro", "Caladea", "Fredoka One"} <= {font.family for font in library.fonts}
    for font in library.fonts:
        assert font.covers(CHARSET_94.upper()), font.name


def test_a_character_that_a_font_lacks_is_not_drawn(library):
    rng = RandomStream(0)
    assert not any(font.covers("\U0010fffd") or font.covers("a\ue000") for font in library.fonts)
    assert library.pick(rng, "漢") is None
    with_cyrillic = {font.name for font in library.fonts if font.covers("жук")}
    assert "Roboto Regular" in with_cyrillic
    assert "Fredoka One Regular" not in with_cyrillic
    for _ in range(30):
        font = library.pick(rng, "жук")
        face = font.at(32)
        missing = bytes(face.getmask("\U0010ffff"))
        assert all(bytes(face.getmask(c)) not in (missing, b"") for c in "жук")


def test_a_font_of_capitals_is_not_used_for_lower_case(library):
    assert {font.family for font in library.fonts if font.unicase} == {"Amatic SC"}
    amatic = font_named(library, "Amatic SC Bold")
    assert amatic.covers("SALE 50%")
    assert not amatic.covers("Sale")


def renamed_roboto(library: FontLibrary, path: Path) -> None:
    """A font file of another family: Roboto with one letter of its name changed in both encodings."""
    data = Path(font_named(library, "Roboto Regular").path).read_bytes()
    for encoding in ("latin-1", "utf-16-be"):
        data = data.replace("Roboto".encode(encoding), "Robota".encode(encoding))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def test_fonts_of_a_folder(library, tmp_path, caplog):
    renamed_roboto(library, tmp_path / "a" / "b" / "Mine.TTF")
    roboto = Path(font_named(library, "Roboto Regular").path)
    (tmp_path / "Copy.ttf").write_bytes(roboto.read_bytes())  # a face that is there already
    (tmp_path / "broken.otf").write_bytes(b"not a font")
    (tmp_path / "cut.ttf").write_bytes(roboto.read_bytes()[:2000])
    (tmp_path / "readme.txt").write_text("no font")
    own = FontLibrary(tmp_path)
    assert [font.name for font in own.fonts[len(library.fonts) :]] == ["Robota Regular"]
    assert {Path(path).name for path in own.broken} == {"broken.otf", "cut.ttf"}
    assert all(own.broken.values())

    words = SyntheticWords(CHARSET_36, font_dir=tmp_path)
    assert words.fonts.broken == own.broken
    assert "Robota" in {words._text(RandomStream(i))[2].family for i in range(200)}


def test_folders_without_fonts(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        FontLibrary(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"holds no .ttf"):
        FontLibrary(tmp_path)


def test_characters_that_no_font_draws():
    words = SyntheticWords("ab漢", max_length=3)
    assert words.undrawable == "漢"
    assert set("".join(words[i].label for i in range(20))) <= {"a", "b"}
    with pytest.raises(ValueError, match="no font draws any of the charset '漢字'"):
        SyntheticWords("漢字")


def test_the_difficulty_is_checked():
    with pytest.raises(ValueError, match=r"difficulty 1.5"):
        SyntheticWords(DIGITS, difficulty=1.5)


@pytest.mark.parametrize("text", ["j", "Qgjpy_|", "...", "WWWWWWWWWWWWWWWWWWWWWWWWW", "(f]", "Á"])
def test_no_letter_is_cut_off_up_to_medium_difficulty(library, text):
    for i in range(40):
        rng = RandomStream(9, i)
        word = typeset(rng, library.pick(rng, text), text, 40, 0.0, str)  # no underline, no neighbours
        assert word.em in SIZES
        assert word.decoration == "none"
        assert not word.neighbours
        layers, _ = warp_to_crop(rng, word, 40, 0.5)
        letters = layers[..., 0]
        border = np.concatenate([letters[0], letters[-1], letters[:, 0], letters[:, -1]])
        assert letters.max() > 128
        assert border.max() < 64


def test_the_easiest_words_are_upright_on_a_plain_ground():
    words = SyntheticWords(CHARSET_94, difficulty=0.0)
    for i in range(20):
        image = words[i].image.astype(int)
        assert np.ptp(image[0], axis=0).max() <= 2 * 30  # a letter may touch the border faintly
        ground = np.median(image[0], axis=0)
        assert np.abs(image - ground).sum(2).max() > 60


def test_degrade_without_difficulty_only_rounds():
    image = np.random.default_rng(0).uniform(0, 255, (20, 60, 3)).astype(np.float32)
    np.testing.assert_array_equal(degrade(RandomStream(0), image, 20, 0.0), np.floor(image + 0.5))
    for i in range(60):
        result = degrade(RandomStream(i), image, 20, 1.0)
        assert result.shape == image.shape
        assert result.dtype == np.uint8


def test_an_interrupted_command_says_so(tmp_path, monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(SyntheticWords, "__getitem__", interrupted)
    with pytest.raises(SystemExit) as end:
        main(["synth", "-n", "2", "-o", str(tmp_path / "sheet.png")])
    assert end.value.code == 130
    assert capsys.readouterr().err.strip() == "interrupted"
    assert not list(tmp_path.iterdir())


def test_the_preview_writes_a_sheet_or_a_folder(tmp_path, capsys):
    arguments = ["synth", "-n", "9", "--charset", "36", "--difficulty", "0.5", "-o"]
    assert main([*arguments, str(tmp_path / "sheet.png")]) == 0
    assert Image.open(tmp_path / "sheet.png").size == (1320, 184)  # two rows of six cells
    assert "9 words from 61 fonts" in capsys.readouterr().out
    assert main([*arguments, str(tmp_path / "words")]) == 0
    words, source = SyntheticWords(CHARSET_36, difficulty=0.5, size=9), open_word_crops(tmp_path / "words")
    assert list(source.labels()) == list(words.labels())
    np.testing.assert_array_equal(decode(source[3].image), words[3].image)
    with pytest.raises(SystemExit, match="words exists"):  # an existing folder is not overwritten
        main([*arguments, str(tmp_path / "words")])
