"""What a run leaves beside its checkpoints: its config, and the versions of what it used."""

import json
import platform
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

from tcm_jax.files import local_copy, wrap_remote_errors
from tcm_jax.renames import renamed
from tcm_jax.training.config import config_differences

_PACKAGES = (
    *("tcm_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "pillow"),
    *("opencv-python-headless", "safetensors", "ml_collections"),
)
# What the stored state depends on: with another value it no longer fits, or means something else.
_FIXED = (
    "config.task:",
    "config.model.",
    "config.optim.text_freeze_layers:",
    "config.optim.image_freeze_layers:",
    "config.optim.method:",
    "config.optim.lr_multipliers",
    "config.optim.no_decay:",
)


class ResumeError(RuntimeError):
    """A run can't resume from the checkpoints in its directory."""


def check_config(workdir: Path, config: Mapping[str, Any]) -> list[str]:
    """Compares `config` with that of the checkpoints in `workdir`; keys that were renamed since then are equal.

    Returns:
        the differences that don't matter to them, one line each.

    Raises:
        ResumeError: the model (or what else the stored state depends on) differs; the message lists the keys.
    """
    path = workdir / "config.json"
    with wrap_remote_errors(path):
        if not path.exists():
            return []
    old, new = (renamed(json.loads(text)) for text in (local_copy(path).read_text("utf-8"), json.dumps(config)))
    lines = config_differences(old, new)
    fatal = [line for line in lines if line.startswith(_FIXED)]
    if bool(old["optim"].get("ema")) != bool(new["optim"].get("ema")):
        fatal += [line for line in lines if line.startswith("config.optim.ema:")]
    if fatal:
        raise ResumeError(
            f"{workdir} holds checkpoints of another model; give another --workdir, or start from them with "
            f"--config.init={workdir / 'last'}. What differs:\n  " + "\n  ".join(fatal)
        )
    return lines


def versions() -> dict[str, Any]:
    """What results depend on: packages, device, commit; JSON values."""
    device = jax.devices()[0]
    return {
        "python": platform.python_version(),
        **{name: _package_version(name) for name in _PACKAGES},
        "platform": platform.platform(),
        "backend": device.platform,
        "device_kind": device.device_kind,
        "devices": jax.device_count(),
        "processes": jax.process_count(),
        "git_commit": _git_commit(),
        "command": sys.argv,
    }


def _package_version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:  # tcm_jax run from its folder
        return None


def _git_commit() -> str | None:
    """The commit of this code, with "-dirty" if files differ from it; None outside a repository."""

    def git(*args: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *args]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("-dirty" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None
