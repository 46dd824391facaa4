"""The ablation: what is trained, resumed and skipped, and the table of means and spreads."""

import json
import os
import signal
import sys

import pytest

from tcm_jax.commands import ablate
from tcm_jax.commands.ablate import Run, RunError, Trainer, format_table, load_config, plan, summary

CONFIG = """
from ml_collections import ConfigDict


def get_config(variant):
    name, *rows = variant.split(",")
    config = ConfigDict({"task": "detection", "seed": 5, "steps": 10, "model": {"tcm": {}, "auxiliary_weight": 1.0}})
    for row in rows:
        match row:
            case "bsl":
                config.model.tcm.text_matching = False
            case "pp" | "full":
                pass
            case "no_auxiliary":
                config.model.auxiliary_weight = 0.0
            case _:
                raise ValueError(f"unknown row {row!r}")
    return config
"""
# A training that reports its arguments, and saves and ends when it is asked to.
TRAIN = """
import os, pathlib, signal, sys, time

workdir = pathlib.Path(sys.argv[-1].removeprefix("--workdir="))
workdir.mkdir(parents=True)


def stop(number, _):
    (workdir / "saved").touch()
    sys.exit(128 + number)


signal.signal(signal.SIGTERM, stop)
print(sys.argv[1], flush=True)
if "bsl" in sys.argv[1]:
    print("error: no luck", file=sys.stderr)
    sys.exit(1)
time.sleep(60)
"""


@pytest.fixture
def config(tmp_path) -> str:
    (tmp_path / "detector.py").write_text(CONFIG)
    return f"{tmp_path / 'detector.py'}:small"


def train(hmeans: dict[str, list[float]], trained: list[str]):
    """Writes what a training with this h-mean by row and seed (from 5 on) would leave."""

    def run(run: Run) -> None:
        trained.append(str(run))
        hmean = hmeans[run.row][run.seed - 5]
        numbers = {"precision": 0.5, "recall": 0.25, "hmean": hmean, "best_hmean": 2 * hmean}
        lines = [
            {"step": 5, "of": "validation/scenes", **numbers, "hmean": 0.0},
            {"step": 10, "of": "train", "loss": 1.0},
            {"step": 10, "of": "validation/scenes", **numbers},
            {"step": 10, "of": "validation/photos", **numbers, "recall": 0.75},
        ]
        run.workdir.mkdir(parents=True)
        (run.workdir / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    return run


def test_a_run_for_each_row_and_seed(config, tmp_path):
    runs = plan(config, ["bsl", "pp"], 2, tmp_path, ["--config.steps=3"], without_auxiliary=True)
    # The baseline has no auxiliary loss to be without.
    rows = ["bsl", "pp", "pp,no_auxiliary"]
    assert [str(run) for run in runs] == [f"{row}, seed {seed}" for seed in (5, 6) for row in rows]
    last = runs[-1]
    assert last.workdir == tmp_path / "pp-no_auxiliary/seed6"
    assert last.arguments == (
        f"--config={config},pp,no_auxiliary",
        "--config.steps=3",
        "--config.seed=6",
        f"--workdir={last.workdir}",
    )
    assert last.config == load_config(f"{config},pp,no_auxiliary", last.arguments[1:3])
    assert last.config["steps"] == 3
    assert last.config["model"]["auxiliary_weight"] == 0


def test_the_table_by_hand(config, tmp_path):
    runs = plan(config, ["bsl", "pp"], 3, tmp_path, [], without_auxiliary=False)
    hmeans = {"bsl": [0.25, 0.3, 0.35], "pp": [0.4, 0.4, 0.4]}
    assert ablate.ablate(runs, train(hmeans, []), tmp_path, processes=2) == {}
    rows = summary(runs)
    assert [(row["row"], row["set"], row["seeds"]) for row in rows] == [
        (row, name, [5, 6, 7]) for row in hmeans for name in ("scenes", "photos")
    ]
    assert rows[0]["hmean"]["mean"] == pytest.approx(0.3)
    assert rows[0]["hmean"]["deviation"] == pytest.approx(0.05)  # ((0.05² + 0² + 0.05²) / 2)^½
    assert (tmp_path / "ablation.md").read_text() == format_table(rows)
    assert format_table(rows).splitlines() == [
        "| Row | Dataset | Seeds | Precision | Recall | H-mean | best H-mean |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
        "| bsl | scenes | 3 | 50.0 ± 0.0 | 25.0 ± 0.0 | 30.0 ± 5.0 | 60.0 ± 10.0 |",
        "| bsl | photos | 3 | 50.0 ± 0.0 | 75.0 ± 0.0 | 30.0 ± 5.0 | 60.0 ± 10.0 |",
        "| pp | scenes | 3 | 50.0 ± 0.0 | 25.0 ± 0.0 | 40.0 ± 0.0 | 80.0 ± 0.0 |",
        "| pp | photos | 3 | 50.0 ± 0.0 | 75.0 ± 0.0 | 40.0 ± 0.0 | 80.0 ± 0.0 |",
    ]
    stored = json.loads((tmp_path / "ablation.json").read_text())
    assert stored["rows"] == rows
    assert stored["runs"][0]["scores"]["photos"]["recall"] == 0.75


def test_one_seed_has_no_spread(config, tmp_path):
    runs = plan(config, ["pp"], 1, tmp_path, [], without_auxiliary=False)
    ablate.ablate(runs, train({"pp": [0.5]}, []), tmp_path)
    assert "| pp | scenes | 1 | 50.0 | 25.0 | 50.0 | 100.0 |" in (tmp_path / "ablation.md").read_text()


def test_finished_runs_are_skipped_and_others_resumed(config, tmp_path, capsys):
    runs = plan(config, ["bsl", "pp"], 2, tmp_path, [], without_auxiliary=False)
    trained: list[str] = []
    good = train({"bsl": [0.1, 0.1], "pp": [0.1, 0.1]}, trained)

    def broken(run: Run) -> None:
        if str(run) == "pp, seed 5":
            raise RunError("exit status 1")
        good(run)

    assert ablate.ablate(runs, broken, tmp_path) == {"pp, seed 5": "exit status 1"}
    assert trained == ["bsl, seed 5", "bsl, seed 6", "pp, seed 6"]  # the others are trained
    assert "| pp | scenes | 1 |" in (tmp_path / "ablation.md").read_text()
    capsys.readouterr()

    trained.clear()
    assert ablate.ablate(runs, good, tmp_path) == {}
    assert trained == ["pp, seed 5"]
    output = capsys.readouterr().out
    assert "3 of 4 runs are finished" in output
    assert "[pp, seed 5] scenes h-mean 10.0, photos h-mean 10.0 (4 of 4 runs)" in output


def test_a_run_with_other_values_is_not_finished(config, tmp_path):
    (run,) = plan(config, ["pp"], 1, tmp_path, [], without_auxiliary=False)
    ablate.ablate([run], train({"pp": [0.5]}, []), tmp_path)
    (longer,) = plan(config, ["pp"], 1, tmp_path, ["--config.steps=20"], without_auxiliary=False)
    assert run.result() is not None
    assert longer.workdir == run.workdir
    assert longer.result() is None


def test_a_training_without_validation_is_named(config, tmp_path):
    (run,) = plan(config, ["pp"], 1, tmp_path, [], without_auxiliary=False)

    def train(run: Run) -> None:
        run.workdir.mkdir(parents=True)
        (run.workdir / "metrics.jsonl").write_text('{"step": 10, "of": "train"}\n')

    failed = ablate.ablate([run], train, tmp_path)
    assert "has no validation; does config.eval.sources name a data set?" in failed["pp, seed 5"]


def test_a_signal_stops_all_runs_and_starts_no_more(config, tmp_path, capsys, monkeypatch):
    (tmp_path / "train.py").write_text(TRAIN)
    runs = plan(config, ["bsl", "pp", "full"], 2, tmp_path, [], without_auxiliary=False)
    write, waiting = sys.stdout.write, {"[pp, seed 5]", "[full, seed 5]"}

    def stop_when_both_run(text: str) -> int:
        name = text.split(" --config=")[0]
        if name in waiting:
            waiting.remove(name)
            if not waiting:
                os.kill(os.getpid(), signal.SIGTERM)
        return write(text)

    monkeypatch.setattr(sys.stdout, "write", stop_when_both_run)
    with Trainer([sys.executable, str(tmp_path / "train.py")]) as trainer:
        failed = ablate.ablate(runs, trainer, tmp_path, processes=2)
    assert trainer.received == signal.SIGTERM
    assert failed == {
        "bsl, seed 5": "exit status 1",
        "pp, seed 5": "exit status 143",
        "full, seed 5": "exit status 143",
        "bsl, seed 6": "not started",
        "pp, seed 6": "not started",
        "full, seed 6": "not started",
    }
    assert (tmp_path / "pp/seed5/saved").exists()
    assert (tmp_path / "full/seed5/saved").exists()
    assert "[bsl, seed 5] error: no luck\n" in capsys.readouterr().out


def error_of(*arguments: str, capsys) -> str:
    with pytest.raises(SystemExit) as error:
        ablate.main(arguments)
    return f"{error.value.code} {capsys.readouterr().err}"


def test_wrong_arguments_are_named(config, tmp_path, capsys):
    def error(config: str, row: str, *more: str) -> str:
        return error_of("--config", config, "--workdir", str(tmp_path / "w"), *more, "--rows", row, capsys=capsys)

    path = config.removesuffix(":small")
    assert "unknown row 'pq'" in error(config, "pq")
    assert "expected FILE.py:VARIANT" in error(path, "pp")
    assert "detector.py:small,pp" in error(config, "pp", "--config.stepz=1")
    assert "config.task is 'recognition'; expected \"detection\"" in error(config, "pp", "--config.task=recognition")
    assert "unexpected argument --colour=red" in error(config, "pp", "--colour=red")
    assert "at least 1" in error(config, "pp", "--seeds=0")
    assert not (tmp_path / "w").exists()


def test_the_command_says_which_runs_failed(config, tmp_path, capsys):
    """Through a real training, which ends at once: the config lacks its other sections."""
    arguments = ["--config", config, "--rows", "pp", "--seeds", "1", "--workdir", str(tmp_path / "runs")]
    assert "pp, seed 5: exit status 1" in error_of(*arguments, capsys=capsys)
    assert (tmp_path / "runs/ablation.md").exists()
