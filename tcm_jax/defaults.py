"""The models that come with the package, and are used where no other is named."""

from pathlib import Path

WEIGHTS = Path(__file__).with_name("weights")
DETECTOR, RECOGNIZER = WEIGHTS / "detector", WEIGHTS / "recognizer"
