"""README.md and docs/ prove themselves: links lead somewhere, Python snippets run, and every command is tried.

Each command is parsed by its own program as it is printed. Where it needs no weights, cluster or hours it also runs, in
its tiny form and among the slow tests: small models and images take the place of what the page names. A program that
`check` does not know is a failure, so that none is printed that is not covered.
"""

import argparse
import ast
import functools
import importlib
import importlib.util
import itertools
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import absl.app
import jax
import numpy as np
import pytest
from absl import flags
from jax.sharding import PartitionSpec
from ml_collections import ConfigDict
from PIL import Image

from tcm_jax.commands import ablate
from tcm_jax.commands import main as cli
from tcm_jax.commands.convert import main as convert
from tcm_jax.commands.data import main as data
from tcm_jax.tasks import parse
from tests.documented import OURS, PAGES, ROOT, SHELL, Part, commands, fences, prose, shell_blocks, snippets
from tests.tiny_detector import TINY_TCM, write_tiny_detector

DETECTOR = re.compile(r"detector|tcm-|ic1\d|td500|ctw|totaltext|pan-|fce-|mixed|synth$|tenth", re.I)  # names of models
CLIP = re.compile(r"RN\d|ViT-|open_?clip|appleDFN", re.I)  # files of a CLIP alone, which no fixture has
STANDS_FOR = {"FILE.py:VARIANT": "configs/clip4str_base.py:real", "--config.KEY=VALUE": "--config.batch=8"}


def each(parts: Callable[[Path], Iterator[Part]]):
    found = [part for page in PAGES for part in parts(page)]
    return pytest.mark.parametrize("part", found, ids=[f"{p.page.relative_to(ROOT)}:{p.line}" for p in found])


@pytest.fixture(scope="session")
def world(tmp_path_factory, tiny_model, tiny_detector) -> Path:
    """The folder where commands run: small models, words, scenes and images, and the files of the repository."""
    folder = tmp_path_factory.mktemp("documentation")
    shutil.copytree(tiny_model, folder / "recognizer")
    for number in range(4):
        shutil.copytree(tiny_detector, folder / f"detector{number}")
    clip: Any = TINY_TCM["clip"]
    write_tiny_detector(folder / "detector", clip=clip | {"text_width": 64})  # converters expect heads of 64
    for name in ("recognizer", "detector"):
        assert convert([str(folder / name), str(folder / f"{name}.safetensors"), "--to-torch"]) == 0
    assert data(["synth", "-n", "20", "-o", str(folder / "words")]) == 0
    scenes = ["synth", "--scenes", "-n", "20", "--image-size", "160", "160", "--difficulty", "0"]
    for number in range(3):
        assert data([*scenes, "--seed", str(number), "-o", str(folder / f"scenes{number}")]) == 0
    (folder / "photos").mkdir()
    for number, photo in enumerate(sorted((folder / "scenes0/images").iterdir())[:2]):
        Image.open(photo).save(folder / f"photos/{number}.jpg")
    for name in ("photo.jpg", "word.png", "word.jpg", "a.jpg"):
        Image.open(photo).save(folder / name)
    for name in ("configs", "docs", "tcm_jax/weights"):  # copies, so that nothing is written to the repository
        shutil.copytree(ROOT / name, folder / name)
    return folder


class Parsed(BaseException):
    """What a program's argparse gave; raised, so that nothing is done with it."""


def options_of(main: Callable, arguments: Sequence[str], patch: pytest.MonkeyPatch) -> Any:
    """What the program's own parser makes of the arguments."""
    depth = 0

    def stop(method: Callable) -> Callable:
        def parse(*values, **keywords):
            nonlocal depth
            depth += 1
            try:
                result = method(*values, **keywords)
            finally:
                depth -= 1
            if depth == 0:
                raise Parsed(result)
            return result

        return parse

    with patch.context() as inner:
        inner.setattr(sys, "argv", ["program", *arguments])
        for name in ("parse_args", "parse_known_args", "parse_intermixed_args"):
            inner.setattr(argparse.ArgumentParser, name, stop(getattr(argparse.ArgumentParser, name)))
        with pytest.raises(Parsed) as caught:
            main()
    return caught.value.args[0]


def config_of(main: Callable, arguments: Sequence[str], patch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The config that the program's own flags give."""
    before = set(flags.FLAGS)
    found: dict[str, Any] = {}

    def read(_, flags_parser: Callable) -> None:
        flags_parser(["program", *arguments])
        value: Any = flags.FLAGS["config"].value
        found.update(value.to_dict())

    with patch.context() as inner:
        inner.setattr(absl.app, "run", read)
        inner.setattr(sys, "argv", ["program", *arguments])
        try:
            main()
        finally:
            for name in set(flags.FLAGS) - before:
                delattr(flags.FLAGS, name)
    return found


@functools.cache
def trace(config: str, overrides: tuple[str, ...]) -> None:
    """Model and optimizer of a recipe's tiny form, with the switches that were printed.

    That form itself trains in test_configs.py and test_detector_configs.py.
    """
    task = parse(ablate.load_config(config, overrides) | {"init": ""})
    task.optimizer(jax.eval_shape(task.init, jax.random.key(0))["params"], records=1000)


def check_config(name: str, arguments: Sequence[str], patch: pytest.MonkeyPatch, execute: bool) -> None:
    """Of the programs that take a recipe: flags, values, and, if `execute`, the tiny form."""
    main = importlib.import_module(f"tcm_jax.commands.{name}").main
    if name == "ablate":
        options, overrides = options_of(main, arguments, patch)
        assert ablate.plan(options.config, options.rows, options.seeds, options.workdir, overrides, True)
        return
    parse(config_of(main, arguments, patch) | {"init": ""})
    given = dict(itertools.pairwise(arguments))
    file, _, variant = given["--config"].partition(":")
    rows = variant.split(",")[1:]
    if "--topology" in given:
        assert re.fullmatch(r"(v4|v5e|v5p|v6e|cpu|gpu):\d+(x\d+)*", given["--topology"])
    if execute:
        switches = [a for a in arguments if re.match(r"--config\.(model\.(?!clip)|optim\.(?!lr=))", a)]
        trace(",".join([f"{file}:tiny", *rows]), tuple(switches))


def tiny_form(name: str, arguments: list[str], options: Any, is_detector: Callable) -> list[str] | None:
    """The arguments with small things in the place of those named; None if it can't run here."""

    def models(*names: Any) -> dict:
        return {name: f"detector{i}" if is_detector(name) else "recognizer" for i, name in enumerate(names) if name}

    table: dict[Any, str] = {}
    more: list[str] = []
    match name:
        case "spot":
            table = {name: "photo.jpg" for name in options.images if not Path(name).exists()}
            more = ["--detector", "detector0", "--recognizer", "recognizer", "--min-score", "0"]
        case "detect":
            table = {name: "photo.jpg" for name in options.images if not Path(name).exists()}
            more = ["--checkpoint", "detector0"]
        case "read":
            table = {name: "words/images" for name in options.images if not Path(name).is_file()}
            more = ["--checkpoint", "recognizer"]
        case "info":
            table = models(options.checkpoint)
        case "evaluate":
            detect = bool(options.recognizer) or any(map(is_detector, options.checkpoint))
            table = {name: f"scenes{i}" if detect else "words" for i, name in enumerate(options.paths)}
            table |= {name: f"detector{i}" if detect else "recognizer" for i, name in enumerate(options.checkpoint)}
            table |= {options.recognizer: "recognizer"}
            more = [] if detect else ["--batch", "8"]
        case "data" if arguments[0] == "synth":
            table = {options.n: "3", options.output: "NEW"}
        case "data" if hasattr(options, "path") and getattr(options, "beam", None) is None:
            words = getattr(options, "to", None) in ("lmdb", "array_record", "folder")
            sources = dict.fromkeys([options.path, *getattr(options, "more", [])], "words" if words else "scenes0")
            table = sources | {getattr(options, "destination", None): "NEW", getattr(options, "shards", None): "2"}
            more = ["--workers", "1"] if arguments[0] == "shard" else []
        case "convert" if options.to_torch:
            table = models(str(options.source)) | {options.dest: f"NEW{options.dest.suffix}"}
        case "convert" if not CLIP.match(options.source.name):
            model = "detector" if options.recipe else "recognizer"
            table = {options.source: f"{model}.safetensors", options.dest: "NEW"}
        case "export" if not is_detector(options.checkpoint):
            table = models(options.checkpoint) | {options.output: "NEW"}
        case "data" | "convert" | "export" | "crops" | "demo" | "doctor":
            return None
        case _:
            raise ValueError(f"{name} has no tiny form")
    names = {str(name).rstrip("/"): value for name, value in table.items()}
    return [*(names.get(word.rstrip("/"), word) for word in arguments), *more]


@functools.cache
def run(main: Callable, arguments: tuple[str, ...]) -> None:
    new = f"new{run.cache_info().misses}"
    try:
        code = main([re.sub(r"^NEW", new, word) for word in arguments])
    except SystemExit as exit:
        code = exit.code
    assert not code, code


def check(words: list[str], before: str, patch: pytest.MonkeyPatch, execute: bool) -> None:
    """Parses a command and, if `execute`, runs it; `before` is the page up to it."""

    def is_detector(name: str) -> bool:
        trained = re.findall(rf"configs/(\w+)\S* --workdir {re.escape(name)}\s", before)
        return trained[-1].startswith("tcm") if trained else bool(DETECTOR.search(name))

    match words:
        case ["make", *targets]:
            assert all(f"\n{target}:" in (ROOT / "Makefile").read_text() for target in targets)
        case ["pip", "install", *what]:
            extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
            asked = [name for word in what for names in re.findall(r"\[(.*)\]", word) for name in names.split(",")]
            assert set(asked) <= {*extras, "gcp"}  # the latter is apache-beam's
        case ["pytest", *what]:
            assert all((ROOT / word).exists() for word in what if word.startswith("tests"))
        case ["sbatch" | "bash", script, *command] | [script, *command] if script.startswith("launch/"):
            assert (ROOT / script).is_file()
            if "python" in command:
                check(command[command.index("python") :], before, patch, execute)
        case ["python", "launch/local.py", *arguments]:
            options_of(importlib.import_module("launch.local").main, arguments, patch)
            check(arguments[arguments.index("--") + 1 :], before, patch, execute)
        case ["python", script, *_] if script.endswith("/run.py"):  # of an export, see the tests of export
            assert (ROOT / "tcm_jax/export/run.py").is_file()
        case ["python", script, *arguments] if script.endswith(".py"):
            options_of(importlib.import_module(script[:-3].replace("/", ".")).main, arguments, patch)
        case ["python", "-m", module, *arguments] if not arguments or module.startswith("tests."):
            assert importlib.util.find_spec(module)
        case ["python", "-m", module, *arguments] if module.startswith("benchmarks."):
            options_of(importlib.import_module(module).main, arguments, patch)
        case ["python", "-m", "tcm_jax.predict", *arguments]:
            check(["tcm-jax", *arguments], before, patch, execute)
        case ["python", "-m", module, *arguments]:
            assert importlib.util.find_spec(module)
            check(["tcm-jax", module.removeprefix("tcm_jax."), *arguments], before, patch, execute)
        case ["tcm-jax", "train" | "plan" | "ablate" as name, *arguments]:
            check_config(name, [STANDS_FOR.get(word, word) for word in arguments], patch, execute)
        case ["tcm-jax", name, *arguments]:
            assert name in cli._COMMANDS
            main = importlib.import_module(f"tcm_jax.commands.{name}").main
            form = tiny_form(name, arguments, options_of(main, arguments, patch), is_detector)
            if execute and form is not None:
                run(main, tuple(form))
        case [program, *_]:
            assert program in SHELL, f"unknown program {program}"


def try_command(part: Part, patch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, execute: bool) -> None:
    before = "".join(part.page.read_text("utf-8").splitlines(True)[: part.line]).replace("\\\n", " ")
    text = re.sub(r"(?<=[\0\w])\[(?=[-:A-Z])([^\]]*)\]", r"\1", part.text)  # a synopsis
    words = [word for word in text.split("\0") if word != "..."]
    while re.match(r"\w+=", words[0]):
        del words[0]
    try:
        check(words, before, patch, execute)
    except SystemExit:  # in a sentence a command may lack what it works on
        assert part.in_sentence and "arguments are required" in capsys.readouterr().err


@each(commands)
def test_commands(part, monkeypatch, capsys):
    """Each is what its program expects."""
    monkeypatch.chdir(ROOT)
    try_command(part, monkeypatch, capsys, execute=False)


@pytest.mark.slow
@each(commands)
def test_tiny_forms(part, world, monkeypatch, capsys):
    """Those run that can."""
    monkeypatch.chdir(world)
    try_command(part, monkeypatch, capsys, execute=True)


@each(shell_blocks)
def test_shell_syntax(part):
    script = re.sub(r"^\$ ", "", part.text, flags=re.M)
    result = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True)
    assert result.returncode == 0, result.stderr


@each(snippets)
def test_snippets(part):
    """They are Python, and what they import is there."""
    for node in ast.walk(ast.parse(part.text)):
        if isinstance(node, ast.ImportFrom) and node.module.startswith("tcm_jax"):
            module = importlib.import_module(node.module)
            assert all(hasattr(module, alias.name) for alias in node.names), ast.unparse(node)


@pytest.mark.slow
@each(snippets)
def test_snippets_run(part, world, monkeypatch):
    """Those run that need only what the fixtures have."""
    monkeypatch.chdir(world)
    text = re.sub(r'Recognizer\("[^"]*"', 'Recognizer("recognizer"', part.text)
    text = re.sub(r'Detector\("[^"]*"', 'Detector("detector0"', text)
    program = compile(text, f"{part.page.name}:{part.line}", "exec")
    imported = re.findall(r"^(?:from|import) (\w+)", text, re.M)
    files = re.findall(r'"([\w/-]+(?:/|\.(?:jpg|png|npz)))"', text)
    if all(importlib.util.find_spec(name) for name in imported) and all(Path(name).exists() for name in files):
        gray = np.zeros((32, 64), np.uint8)
        config = ConfigDict({"data": {}})
        exec(program, {"image": Image.fromarray(gray), "array": gray, "config": config, "P": PartitionSpec})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_blocks_are_covered(page):
    """No block hides a command from these tests."""
    shell = list(shell_blocks(page))
    for block, language in fences(page):
        assert language in ("", "sh", "bash", "python", "text", "json", "mermaid"), f"line {block.line}: {language}"
        assert block in shell or not re.search(rf"^ *(?:{'|'.join(OURS)}) ", block.text, re.M), f"line {block.line}"
    assert not re.search(rf"^    (?:{'|'.join(OURS)}) ", prose(page), re.M), "a command without a fence"


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)", prose(page), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_files(page):
    """Links to files and headings, and files of the repository that are named in code."""
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if "://" not in target:
            path, _, anchor = target.partition("#")
            file = (page.parent / path).resolve() if path else page
            assert file.exists(), target
            assert not anchor or anchor in anchors(file), target
    for name in re.findall(r"`((?:tcm_jax|configs|convert|tests|benchmarks|launch|docs)/[\w/.-]+)", prose(page)):
        assert (ROOT / name).exists(), name


def test_every_recipe_is_documented():
    text = "".join(page.read_text("utf-8") for page in PAGES)
    missing = [file.name for file in (ROOT / "configs").iterdir() if file.is_file() and file.name not in text]
    assert not missing
