"""The command that builds data sets of TensorFlow Datasets."""

import argparse


def build(options: argparse.Namespace) -> int:
    """Builds a data set from its manual download, and tells what was read and what was left out."""
    try:
        from tcm_jax.data.tfds import build_tfds  # an extra, and slow to import
    except ImportError as error:
        raise ValueError(str(error)) from error
    path, accounts = build_tfds(options.name, options.manual, options.destination)
    for split, account in accounts.items():
        print(f"{split}: {account}")
    print(path)
    return 0
