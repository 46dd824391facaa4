"""Words that are found and read, by hand."""

import numpy as np
import pytest

from tcm_jax.metrics.detection import ImagePolygons, Score
from tcm_jax.metrics.spotting import RULES, ImageWords, spotting

EQUAL, END_TO_END, WORD_SPOTTING = (RULES[name] for name in ("equal", "end_to_end", "word_spotting"))


def box(x: float, width: float = 10) -> np.ndarray:
    return np.array([[x, 0], [x + width, 0], [x + width, 10], [x, 10]], float)


def image(truth: dict[float, str], read: dict[float, str], ignored=()) -> ImageWords:
    """Boxes by where they start."""
    polygons = ImagePolygons([box(x) for x in truth], [box(x) for x in ignored], [box(x) for x in read])
    return ImageWords(polygons, list(truth.values()), list(read.values()))


def right(rule, wanted: str, read: str) -> bool:
    """Whether the reading of the one word is right; a word that doesn't count leaves no word."""
    return spotting([image({0: wanted}, {0: read})], rule).total.matched_truth == 1


def test_a_word_has_to_be_found_and_read():
    words = {0: "Open", 20: "all", 40: "day"}
    # The second is misread, the third is found in the wrong place, where nothing is.
    score = spotting([image(words, {1: "OPEN", 20: "ail", 60: "day"})], EQUAL).total
    assert score == Score(3, 3, 1, 1, 1 / 3, 1 / 3, pytest.approx(1 / 3))
    assert spotting([image(words, {1: "OPEN"})], EQUAL, cased=True).total.matched_truth == 0


def test_polygons_are_matched_before_texts_are_compared():
    # The first reading takes the word, although the second one lies as well and is right.
    score = spotting([image({0: "exit"}, {1: "exlt", 0: "exit"})], EQUAL).total
    assert score == Score(1, 2, 0, 0, 0, 0, 0)


def test_readings_in_ignored_regions_do_not_count():
    score = spotting([image({0: "exit"}, {0: "exit", 50: "blur"}, ignored=[50])], EQUAL).total
    assert score == Score(1, 1, 1, 1, 1, 1, 1)


def test_end_to_end_forgives_one_mark_at_either_end():
    for read in ("(open)", "open)", "(open", "OPEN"):
        assert right(END_TO_END, "(open)", read)
    assert not right(END_TO_END, "open", "open!")  # only what is wanted is shortened
    assert not right(END_TO_END, "open!!", "open")
    assert right(END_TO_END, "open!!", "open!")
    assert not right(END_TO_END, "$5", "5")  # no mark of the list
    assert not right(EQUAL, "(open)", "open")
    assert right(END_TO_END, "!", "!")
    assert not right(END_TO_END, "", "x")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Open", "Open"),
        ("Joe's", "Joe"),
        ("-open-", "open"),
        ("(open)!", "open"),
        ("e-mail", "e-mail"),
        ("Äste", "Äste"),
        ("it", None),  # shorter than three letters
        ("it's", None),
        ("a.b.c", None),  # several words
        ("route66", None),
        ("2×4m", None),
        ("###", None),
    ],
)
def test_words_of_word_spotting(text, wanted):
    assert WORD_SPOTTING.expected(text) == wanted


def test_other_words_are_ignored_in_word_spotting():
    score = spotting([image({0: "Joe's", 20: "66"}, {0: "joe", 20: "99"})], WORD_SPOTTING).total
    assert score == Score(1, 1, 1, 1, 1, 1, 1)
    assert spotting([image({0: "Joe's", 20: "66"}, {0: "joe", 20: "99"})], EQUAL).total.matched_truth == 0


def test_images_are_summed():
    images = [image({0: "one", 20: "two"}, {0: "one"}), image({}, {}), image({}, {0: "three"})]
    evaluation = spotting(images, EQUAL)
    assert evaluation.total == Score(2, 2, 1, 1, 0.5, 0.5, 0.5)
    assert [score.hmean for score in evaluation.images] == [pytest.approx(2 / 3), 1, 0]
    assert spotting([image({}, {})], EQUAL).total.recall == 0  # of a whole set, as in the competition's script


def test_texts_belong_to_polygons():
    polygons = ImagePolygons([box(0)], [], [], name="img_7")
    with pytest.raises(ValueError, match="img_7: 0 texts of 1 polygons in truth"):
        ImageWords(polygons, [], [])
