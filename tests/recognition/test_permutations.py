"""Permutations of a label's positions: the original's structure, drawn on the device."""

import itertools

import jax
import numpy as np
import pytest

from tcm_jax.recognition.permutations import attention_masks, sample_permutations
from tests.conftest import read_json

MAX = 25


def draw(length: int, seed: int, **options) -> list[tuple[int, ...]]:
    """The valid permutations of one draw, cut to the positions that a label of `length` has."""
    perms, valid = sample_permutations(jax.random.key(seed), length, MAX, **options)
    perms = np.asarray(perms)[np.asarray(valid)]
    unused = np.broadcast_to(np.arange(length + 2, MAX + 2), (len(perms), MAX - length))
    np.testing.assert_array_equal(perms[:, length + 2 :], unused)
    return [tuple(p) for p in perms[:, : length + 2].tolist()]


def structure(perms: list[tuple[int, ...]], mirrored: bool) -> dict:
    """What is the same in every draw."""
    last = len(perms[0]) - 1
    inner = [p[1:-1] for p in perms]
    return {
        "count": len(perms),
        "first": perms[0],
        "second": perms[1] if len(perms) > 1 else None,
        "bos first": all(p[0] == 0 for p in perms),
        "eos last from the third on": all(p[-1] == last for p in perms[2:]),
        "pairs mirror": all(a == b[::-1] for a, b in zip(inner[2::2], inner[3::2], strict=False)) or not mirrored,
        "all are permutations": all(sorted(p) == list(range(last + 1)) for p in perms),
        "distinct": len(set(perms)) == len(perms) if last - 1 < 5 else None,
    }


def test_structure_of_the_original(golden):
    fixture = read_json(golden / "clip4str_loss" / "perm_examples.json")
    options = {
        "num": fixture["perm_num"],
        "forward": fixture["perm_forward"],
        "mirrored": fixture["perm_mirrored"],
    }
    for length, examples in fixture["examples"].items():
        expected = {str(structure([tuple(p) for p in example], fixture["perm_mirrored"])) for example in examples}
        ours = {str(structure(draw(int(length), seed, **options), fixture["perm_mirrored"])) for seed in range(10)}
        assert ours == expected, f"labels of {length} characters"


def test_three_characters_have_six_permutations():
    for seed in range(5):
        perms = draw(3, seed)
        middle = {p[1:-1] for p in perms if p[-1] == 4}
        # The second, the reverse with EOS first, stands for (3, 2, 1).
        assert middle | {(3, 2, 1)} == set(itertools.permutations((1, 2, 3)))


def test_four_characters_are_drawn_without_replacement_from_all():
    seen = set()
    for seed in range(200):
        perms = draw(4, seed)
        assert len(set(perms)) == 6
        seen |= {p[1:-1] for p in perms[2:]}
    assert len(seen) == 22, "all but the forward and the reverse order"


def test_long_labels_get_random_orders():
    draws = {tuple(draw(7, seed)) for seed in range(20)}
    assert len(draws) == 20
    assert all(perms[0] == tuple(range(9)) for perms in draws)


@pytest.mark.parametrize("length", [1, 2, 4, 8])
def test_without_mirrors_and_without_the_forward_order(length):
    perms = draw(length, 0, num=5, forward=False, mirrored=False)
    assert all(sorted(p) == list(range(length + 2)) for p in perms)
    if length > 1:
        assert perms[1] == (0, *range(length + 1, 0, -1))


def test_masks_by_hand():
    # Read position 2 first, then 1, then EOS (3).
    content, query = attention_masks(np.array([[0, 2, 1, 3]]))
    #        sees: BOS  1      2
    assert content[0].tolist() == [
        [True, False, False],  # BOS sees itself
        [True, True, True],  # 1 comes last of these
        [True, False, True],  # 2 comes before 1
    ]
    assert query[0].tolist() == [
        [True, False, True],  # predicting 1 from BOS and 2
        [True, False, False],  # predicting 2 from BOS
        [True, True, True],  # predicting EOS from all
    ]


def test_masks_of_the_fixture(golden):
    with (
        np.load(golden / "clip4str_loss" / "inputs.npz") as inputs,
        np.load(golden / "clip4str_loss" / "outputs.npz") as outputs,
    ):
        content, query = attention_masks(inputs["perms"])
        np.testing.assert_array_equal(content, outputs["content_mask"] == 0)
        np.testing.assert_array_equal(query, outputs["query_mask"] == 0)
