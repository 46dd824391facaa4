"""What a recognizer's training takes from a word."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tcm_jax.images.decoding import resize
from tcm_jax.records import WordCrop
from tcm_jax.text.charset import CharsetTokenizer

Augment = Callable[[np.ndarray, np.random.Generator], np.ndarray]


@dataclass(frozen=True)
class RecognitionSample:
    """Turns words into samples for `tcm_jax.data.pipeline.train_batches`.

    Args:
        tokenizer: of the labels, which must fit it (see `FilteredSource`).
        image_size: (H, W) of the images.
        max_label_length: longest label in characters.
        augment: function of an image (uint8 RGB [h, w, 3]) and a random generator to an image, called before the
            resize.
    """

    tokenizer: CharsetTokenizer
    image_size: tuple[int, int]
    max_label_length: int = 25
    augment: Augment | None = None

    def example(self) -> dict[str, np.ndarray]:
        """A sample of zeros."""
        label = np.zeros(self.max_label_length + 2, np.int32)
        return {"image": np.zeros((*self.image_size, 3), np.uint8), "label": label}

    def __call__(self, record: WordCrop, pixels: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """{"image": uint8 [H, W, 3], "label": int32 [max_label_length + 2]}.

        Raises:
            ValueError: the label does not fit the tokenizer; the message names the record.
        """
        try:
            label = self.tokenizer.encode([record.label], self.max_label_length)[0]  # [max_label_length + 2]
        except ValueError as error:
            raise ValueError(f"{record.name}: {error}") from error
        image = pixels if self.augment is None else self.augment(pixels, rng)
        return {"image": resize(image, self.image_size), "label": label}
