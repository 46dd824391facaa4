"""Scores of a recognizer on test sets, as the table of PARSeq and CLIP4STR."""

import argparse
import contextlib
import dataclasses
import functools
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from tcm_jax.commands.command_line import progress_bar
from tcm_jax.commands.evaluate.outputs import origin, results_path
from tcm_jax.data.words.benchmarks import benchmark_sets, count_problem, overlaps
from tcm_jax.data.words.labels import LabelFilter
from tcm_jax.data.words.sources import FilteredSource
from tcm_jax.files import as_path, atomic_file, check_writable, write_json
from tcm_jax.loading import LoadedModel
from tcm_jax.metrics.recognition import Result, combine, format_table
from tcm_jax.options import add_flags, from_flags, stored
from tcm_jax.recognition.evaluate import Predict, ScoredWord, evaluate
from tcm_jax.recognition.loading import load_recognizer
from tcm_jax.recognition.options import ReadingOptions
from tcm_jax.records import WordSource
from tcm_jax.text.charset import CHARSET_36, CHARSET_62, CHARSET_94
from tcm_jax.text.charset_spec import load_charset
from tcm_jax.training.workdir import versions

SCHEMA_VERSION = 1


def add_options(add: Callable[..., argparse.Action]) -> list[argparse.Action]:
    """Declares the options of recognizers by the parser's `add`, and returns them."""
    return [
        add("--sets", nargs="+", metavar="NAME", help="only these of the sets that are found, such as IIIT5k SVT"),
        add("--any-count", action="store_true", help="go on where a known set has an unexpected number of words"),
        add("--cased", action="store_true", help="case counts; without it everything is compared in lower case"),
        add("--punctuation", action="store_true", help="punctuation counts; without it it is deleted"),
        add("--charset", help="compare these characters: 36, 62, 94, file:PATH or the characters themselves"),
        add(
            "--captions",
            choices=("checkpoint", "test"),
            default="checkpoint",
            help="characters that a prediction passes to the text encoder: those of the checkpoint, or those "
            "that are compared, as the original does with --cased and --punctuation (default: checkpoint)",
        ),
        *add_flags(
            add, ReadingOptions, "views", "dictionary_prior", "branches", "normalization", "batch_size", batch_size=128
        ),
        add("--workers", type=int, default=0, help="processes that decode images; 0: a thread (default: 0)"),
        add("--predictions", type=as_path, metavar="FILE", help="JSON lines file, one for each word"),
    ]


def prepare(options: argparse.Namespace) -> Callable[[], None]:
    """Opens model and test sets, and returns the function that evaluates.

    Raises:
        OSError, ValueError: something in the options, the model or the sets is wrong.
    """
    if len(options.checkpoint) > 1:
        raise ValueError(f"--checkpoint is given {len(options.checkpoint)} times; recognizers are scored one by one")
    (checkpoint,) = options.checkpoint
    charset = comparison_charset(options)
    output = options.output or results_path(checkpoint)
    check_writable(options.output, "--output")
    check_writable(options.predictions, "--predictions")
    captions = charset if options.captions == "test" else None
    model = load_recognizer(checkpoint, from_flags(ReadingOptions, options, caption_charset=captions))
    sets = _open_sets(options, charset, model.network.config.max_label_length)
    predict = _predictor(model, options.batch_size)
    return functools.partial(_run, options, model, charset, sets, predict, output)


def _run(
    options: argparse.Namespace,
    model: LoadedModel,
    charset: str,
    sets: Sequence[FilteredSource],
    predict: Predict,
    output: Path,
) -> None:
    print(f"Evaluating {model}{model.network.options}; comparing {_describe(charset)}", flush=True)
    start = time.monotonic()
    results = []
    predictions = atomic_file(options.predictions) if options.predictions else contextlib.nullcontext()
    with predictions as file:
        for source in sets:
            with progress_bar(source.name, len(source)) as advance:

                def on_sample(
                    sample: ScoredWord, name: str = source.name, advance: Callable[[], None] = advance
                ) -> None:
                    if file is not None:
                        print(json.dumps({"set": name, **sample._asdict()}, ensure_ascii=False), file=file)
                    advance()

                results.append(
                    evaluate(
                        predict,
                        source,
                        network=model.network,
                        batch_size=options.batch_size,
                        workers=options.workers,
                        on_sample=on_sample,
                    )
                )
    seconds = time.monotonic() - start
    _report(results, seconds)
    write_json(output, _summary(options, model, charset, sets, results, seconds))


def _report(results: Sequence[Result], seconds: float) -> None:
    print(format_table(results))
    total = combine(results)
    for note in overlaps([result.name for result in results]):
        print(f"Note: {note}.")
    if total.undecodable:
        broken = ", ".join(f"{r.name} {r.undecodable:,}" for r in results if r.undecodable)
        print(f"Images that can't be decoded, counted as wrong: {broken}.")
    average = 1000 * seconds / total.num_samples
    print(f"Time: {seconds:.1f} s with compilation, {average:.2f} ms a word, {total.num_samples:,} words.")


def _summary(
    options: argparse.Namespace,
    model: LoadedModel,
    charset: str,
    sets: Sequence[FilteredSource],
    results: Sequence[Result],
    seconds: float,
) -> dict:
    """Everything that a later reader of the numbers may ask, as JSON values."""
    rows = [
        dataclasses.asdict(result) | {"raw": len(source.source), "dropped": dict(source.report.dropped)}
        for source, result in zip(sets, results, strict=True)
    ]
    return {
        "schema_version": SCHEMA_VERSION,
        "checkpoint": origin(model),
        "config": {
            "model": dataclasses.asdict(model.network.config),
            "charset": charset,
            "normalization": {
                "name": options.normalization,
                "mean": list(model.network.mean),
                "std": list(model.network.std),
            },
            "margins": list(model.network.views.views),
            "inference": stored(model.network.options),
            "dtype": model.dtype,
            "batch": options.batch_size,
            "paths": options.paths,
            "hold_out": options.hold_out,
        },
        "versions": versions(),
        "results": rows,
        "combined": dataclasses.asdict(combine(results)),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "seconds": seconds,
    }


def _open_sets(options: argparse.Namespace, charset: str, max_length: int) -> list[FilteredSource]:
    """The cleaned test sets of all paths, with a line on stderr for each that lost records."""
    found: list[WordSource] = [source for path in options.paths for source in benchmark_sets(path)]
    names = [source.name for source in found]
    if missing := [name for name in options.sets or () if name not in names]:
        raise ValueError(f"no set is called {', '.join(missing)}; found {', '.join(names)}")
    label_filter = LabelFilter(charset, max_length)
    chosen = (source for source in found if not options.sets or source.name in options.sets)
    sets = [FilteredSource(source, label_filter) for source in chosen]
    if options.hold_out:
        for source in sets:
            source.hold_out(options.hold_out, held_out=True)
    for source in sets:
        if source.report.dropped:
            print(f"{source.name}: {source.report}", file=sys.stderr)
        if len(source) == 0:
            raise ValueError(f"{source.name} has no word left to score")
    problems = [problem for problem in map(count_problem, sets) if problem]
    if problems and not options.any_count:
        raise ValueError("\n".join([*problems, "--any-count evaluates them as they are"]))
    for problem in problems:
        print(f"Warning: {problem}", file=sys.stderr)
    return sets


def _predictor(model: LoadedModel, batch: int) -> Predict:
    """The jitted prediction, its batch spread over all devices."""
    devices = jax.device_count()
    if batch < 1 or batch % devices:
        raise ValueError(f"--batch is {batch}; expected a multiple of the number of devices, {devices}")
    mesh = jax.make_mesh((devices,), ("data",), axis_types=(AxisType.Auto,))
    everywhere, by_image = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in ((), ("data",)))
    predict = jax.jit(model.predict, in_shardings=(everywhere, by_image), out_shardings=by_image)
    return functools.partial(predict, jax.device_put(model.contents.variables, everywhere))


def comparison_charset(options: argparse.Namespace) -> str:
    """The characters that are compared."""
    if options.charset is not None:
        if options.cased or options.punctuation:
            raise ValueError("--charset excludes --cased and --punctuation")
        return load_charset(options.charset)
    charset = CHARSET_62 if options.cased else CHARSET_36
    return charset + (CHARSET_94.removeprefix(CHARSET_62) if options.punctuation else "")


def _describe(charset: str) -> str:
    names = {CHARSET_36: "lower-case letters and digits", CHARSET_62: "letters and digits"}
    names[CHARSET_94] = "letters, digits and punctuation"
    return names.get(charset, f"the {len(charset)} characters {charset[:40]}{'...' * (len(charset) > 40)}")
