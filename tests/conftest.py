"""Fixtures and helpers that all tests share.

`pytest --golden DIR` runs the parity tests on another folder of fixtures; DIR has the layout of tests/golden
(or of one of its two folders), whatever its seeds, sizes and hyper-parameters.
"""

import fcntl
import functools
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

# The package that compiles for TPUs makes JAX look for one, which takes time and prints a lot.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Most of the time of these tests is compilation, of programs that run for moments: the first two flags halve it.
# There is a worker for each core; threads of a worker would only wait for each other.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false --xla_cpu_multi_thread_eigen=false",
)
os.environ.setdefault("OMP_NUM_THREADS", "1")

import jax
import numpy as np
import pytest
from PIL import Image

from launch import local
from tcm_jax import Detector, Recognizer
from tests.tiny_detector import write_tiny_detector
from tests.tiny_model import write_tiny_model

RELATIVE_TOLERANCE = 2e-4  # of the largest absolute value of the expected array
MAX_CACHE_BYTES = 10**9
MAX_MEMORY_KILOBYTES = 4 * 2**20  # of a worker


def pytest_addoption(parser):
    parser.addoption(
        "--golden",
        type=Path,
        default=Path(__file__).parent / "golden",
        help="folder with the fixtures of the original implementations",
    )


def pytest_sessionstart(session):
    """Before any worker starts: empties the cache of compiled programs if it is full of those of older code."""
    if hasattr(session.config, "cache") and not hasattr(session.config, "workerinput"):
        folder = session.config.cache.mkdir("xla")
        if sum(file.stat().st_size for file in folder.iterdir()) > MAX_CACHE_BYTES:
            shutil.rmtree(folder)


@pytest.fixture(scope="session")
def golden(request) -> Path:
    """The folder that holds clip_vit/, clip4str/, tokenizer/, metrics/ and so on."""
    root = request.config.getoption("--golden")
    return root / "recognition" if (root / "recognition").is_dir() else root


@pytest.fixture(scope="session")
def detection_golden(request) -> Path:
    """The folder that holds backbone/, tcm_db/, targets/, postprocess/ and so on."""
    root = request.config.getoption("--golden")
    return root / "detection" if (root / "detection").is_dir() else root


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    """A model directory with a random recognizer that reads words of many lengths in 32 x 32 pixels."""
    path = tmp_path_factory.mktemp("models") / "tiny"
    write_tiny_model(path)
    return path


@pytest.fixture(scope="session")
def tiny_detector(tmp_path_factory) -> Path:
    """A model directory with a random detector that finds something in most photos."""
    path = tmp_path_factory.mktemp("models") / "detector"
    write_tiny_detector(path)
    return path


@pytest.fixture
def photos(tmp_path) -> Path:
    """Three photos, two of the same name."""
    for number, name in enumerate(("a.png", "b.png", "more/a.jpg")):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (6, 8, 3), np.uint8)
        Image.fromarray(pixels).resize((120, 90)).save(path)
    return tmp_path / "photos"


@pytest.fixture(scope="session", autouse=True)
def compilation_cache(pytestconfig, tmp_path_factory):
    """Keeps compiled programs for all workers, their processes and later sessions (until `pytest --cache-clear`)."""
    lasting = hasattr(pytestconfig, "cache")  # pytest's folder; not with -p no:cacheprovider
    options = {
        "jax_compilation_cache_dir": str(
            pytestconfig.cache.mkdir("xla") if lasting else tmp_path_factory.mktemp("xla")
        ),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in options}
    for name, value in options.items():
        jax.config.update(name, value)
        os.environ[name.upper()] = str(value)
    yield
    for name, value in before.items():
        jax.config.update(name, value)
        del os.environ[name.upper()]


@pytest.fixture(scope="session", autouse=True)
def shared_programs():
    """Recognizers of one configuration share their compiled programs, whatever their weights; detectors as well."""
    programs, names = {}, ("dictionary_prior", "branches")

    def sharing(init: Callable) -> Callable:
        def shared(self, *args, **kwargs):
            init(self, *args, **kwargs)
            n = self.model.network
            options = [getattr(n.options, name, None) for name in names]
            key = repr((n.config, n.mean, n.std, n.model.dtype, options))
            self._predict = programs.setdefault(key, self._predict)

        return functools.wraps(init)(shared)

    with pytest.MonkeyPatch.context() as patch:
        for kind in (Recognizer, Detector):
            patch.setattr(kind, "__init__", sharing(kind.__init__))
        yield


@pytest.fixture(scope="module", autouse=True)
def bounded_memory():
    """Drops compiled programs when they fill gigabytes: a worker runs many files of tests."""
    yield
    if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > MAX_MEMORY_KILOBYTES:
        jax.clear_caches()


@pytest.fixture(scope="session")
def made_once(tmp_path_factory) -> Callable[[str, Callable[[Path], None]], Path]:
    """`made_once(name, make)` is a folder that `make` fills once per session, for all workers.

    Tests must not write to it.
    """
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent

    def folder(name: str, make: Callable[[Path], None]) -> Path:
        path = root / f"made-{name}"
        with open(f"{path}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists():
                unfinished = root / f"unfinished-{name}"
                shutil.rmtree(unfinished, ignore_errors=True)
                unfinished.mkdir()
                make(unfinished)
                unfinished.rename(path)
        return path

    return folder


def read_json(path: Path):
    return json.loads(path.read_text(encoding="utf-8"))


def read_jsonl(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]


def draw(manifest: Path, seed: int, key: str, shape: tuple[int, ...], rule: dict) -> np.ndarray:
    """A tensor of a fixture, float64. Each has its own random stream, seeded by crc32("<seed>:<key>")."""
    rng = np.random.default_rng(zlib.crc32(f"{seed}:{key}".encode()))
    match rule["kind"]:
        case "normal":
            value = rng.normal(rule["mean"], rule["std"], size=shape)
        case "uniform":
            value = rng.uniform(rule["low"], rule["high"], size=shape)
        case "constant" | "const":
            value = np.full(shape, rule["value"], np.float64)
        case "zeros":
            value = np.zeros(shape)
        case kind:
            raise ValueError(f"{manifest}: unknown rule {kind!r} for {key}")
    return np.array(value, np.float64).reshape(shape)


def golden_weights(manifest: Path) -> dict[str, np.ndarray]:
    """The PyTorch state dict of a fixture, drawn again from its recipe (format "weights-recipe/1").

    Each tensor is checked against its crc32.
    """
    recipe = read_json(manifest)
    weights = {}
    for entry in recipe["tensors"]:
        key, shape, rule = entry["key"], tuple(entry["shape"]), entry["init"]
        value = draw(manifest, recipe["seed"], key, shape, rule)
        for index, addend in rule.get("add_at", []):
            value.reshape(-1)[index] += addend
        value = np.ascontiguousarray(value.astype(entry["dtype"])).reshape(shape)
        assert zlib.crc32(value.tobytes()) == entry["crc32"], f"{manifest}: {key} was drawn differently"
        weights[key] = value
    return weights


def detection_weights(manifest: Path, variant: str = "") -> dict[str, np.ndarray]:
    """The PyTorch state dict of a detection fixture (format "tcm-det-golden-manifest/1"), by the same rule.

    A variant of the manifest leaves out, replaces or adds keys. The whole is checked against its sha256.
    """
    recipe = read_json(manifest)
    changes = recipe["variants"][variant] if variant else {}
    replaced = {e["key"]: e for e in changes.get("replace", [])}
    entries = [
        replaced.get(e["key"], e)
        for e in recipe["entries"]
        if not e["key"].startswith(tuple(changes.get("remove_prefixes", [])))
        and e["key"] not in changes.get("remove_keys", [])
    ]
    entries += [e for e in changes.get("add", []) if e["key"] not in {e["key"] for e in entries}]
    weights = {}
    for entry in entries:
        key, shape = entry["key"], tuple(entry["shape"])
        weights[key] = draw(manifest, recipe["seed"], key, shape, entry["init"]).astype(entry["dtype"])
    digest = hashlib.sha256()
    for key in sorted(weights):
        digest.update(key.encode())
        digest.update(repr(weights[key].shape).encode())
        digest.update(np.ascontiguousarray(weights[key]).tobytes())
    expected = changes.get("sha256", recipe["sha256"])
    assert expected is None or digest.hexdigest() == expected, f"{manifest} {variant}: drawn differently"
    return weights


def apply(module: Any, variables: Any, *inputs: Any, **options: Any) -> Any:
    """`module.apply` as one program; operation by operation it would be a hundred of them."""
    return jax.jit(functools.partial(module.apply, **options))(variables, *inputs)


def init(module: Any, *inputs: Any) -> Any:
    """`module.init` as one program."""
    return jax.jit(module.init)(jax.random.key(0), *inputs)


def channels_last(array: np.ndarray) -> np.ndarray:
    """[..., d, h, w] -> [..., h, w, d]."""
    return np.moveaxis(array, -3, -1)


def compare(name: str, actual, expected, relative: float = RELATIVE_TOLERANCE) -> None:
    """Assert max|actual - expected| <= relative * max|expected|; NaN in `expected` marks positions to ignore."""
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    assert actual.shape == expected.shape, f"{name}: shape {actual.shape}, expected {expected.shape}"
    valid = ~np.isnan(expected)
    if not valid.any():
        return
    difference = np.abs(actual[valid] - expected[valid])
    scale = np.abs(expected[valid]).max()
    print(f"{name}: max abs {difference.max():.3g}, max rel {difference.max() / max(scale, 1e-30):.3g}")
    assert difference.max() <= relative * scale, (
        f"{name}: max abs difference {difference.max():.3g}, allowed {relative * scale:.3g}"
    )


def in_two_processes(program: str) -> list:
    """Runs Python code, which calls `tcm_jax.distributed.initialize`, as the two processes of one run.

    Returns:
        the JSON value in the last line that each has printed.
    """
    command, root = [sys.executable, "-c", program], Path(__file__).parents[1]
    processes = local.start(command, 2, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        outputs = [process.communicate(timeout=120) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], outputs
    return [json.loads(out.decode().strip().splitlines()[-1]) for out, _ in outputs]
