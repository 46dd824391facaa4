"""The cache of compiled programs on disk, so that the second start is quick."""

import os
from pathlib import Path

import jax

VARIABLE = "JAX_COMPILATION_CACHE_DIR"


def folder() -> Path:
    """The folder of the cache: $JAX_COMPILATION_CACHE_DIR, else `tcm_jax` in the user's cache folder."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(os.environ.get(VARIABLE) or Path(cache, "tcm_jax"))


def enable_compilation_cache() -> None:
    """Makes this process store and find compiled programs in `folder()`.

    It changes nothing if a folder is configured already (`jax_compilation_cache_dir`), and an empty
    $JAX_COMPILATION_CACHE_DIR switches the cache off. Other versions of JAX and other devices have other keys.
    """
    configured = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
    if configured or os.environ.get(VARIABLE) == "":
        return
    jax.config.update("jax_compilation_cache_dir", str(folder()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
