"""Test-time views of a crop."""

import numpy as np
import pytest

from tcm_jax.images.decoding import resize
from tcm_jax.recognition.views import CropViews, check_views, with_margin


def test_a_frame_repeats_the_border_and_a_negative_one_is_cut_off():
    image = np.arange(20, dtype=np.uint8).reshape(4, 5, 1).repeat(3, axis=2)
    assert with_margin(image, 0.25)[..., 0].tolist() == [
        [0, 0, 1, 2, 3, 4, 4],
        [0, 0, 1, 2, 3, 4, 4],
        [5, 5, 6, 7, 8, 9, 9],
        [10, 10, 11, 12, 13, 14, 14],
        [15, 15, 16, 17, 18, 19, 19],
        [15, 15, 16, 17, 18, 19, 19],
    ]
    assert with_margin(image, -0.25)[..., 0].tolist() == [[6, 7, 8], [11, 12, 13]]
    np.testing.assert_array_equal(with_margin(image, 0.0), image)
    assert with_margin(image[:1], -0.49).shape == (1, 5, 3) and with_margin(image, -0.49).shape == (2, 1, 3)
    shown = CropViews((8, 16), (0.0, 0.25))(image)
    np.testing.assert_array_equal(shown, [resize(image, (8, 16)), resize(with_margin(image, 0.25), (8, 16))])


@pytest.mark.parametrize("views", [(), (-0.5,), (0.0, 1.5), (float("nan"),), ("0",), 0.1])
def test_views_that_can_not_be(views):
    with pytest.raises(ValueError, match="expected margins above -0.5 and up to 1, such as"):
        check_views(views)
