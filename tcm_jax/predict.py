"""`python -m tcm_jax.predict read` and `python -m tcm_jax.predict detect`, by other names of `tcm-jax`."""

import sys
from collections.abc import Sequence

from tcm_jax.commands import main as tcm_jax


def main(arguments: Sequence[str] | None = None) -> int | None:
    """Runs the sub-command that the first argument names."""
    return tcm_jax.main(arguments, "python -m tcm_jax.predict")


if __name__ == "__main__":
    sys.exit(main())
