"""Runs that are killed, terminated and started again, also with other numbers of processes."""

import re
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

from benchmarks.kills import EVALUATION, SAVE, STEP, WORDS, kill
from tests.training.conftest import CONFIG
from tests.training.runs import (
    ENVIRONMENT,
    LOST_SECONDS,
    NOTICE_SECONDS,
    Run,
    assert_same,
    checkpoints,
    fingerprints,
    metrics,
    records,
)

pytestmark = pytest.mark.slow

ALONE = CONFIG | {
    "steps": 16,
    "lost_seconds": LOST_SECONDS,
    "checkpoint": {"every": 2, "keep": 8},
    "eval": {"every": 5, "batch": 8, "sources": WORDS},
}
SEVERAL = ALONE | {"eval": CONFIG["eval"]}  # two or four processes share a machine: without evaluations


@pytest.fixture(scope="module", autouse=True)
def environment():
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory) -> Path:
    """The working directory of a run of one process without a break."""
    with Run(ALONE, tmp_path_factory.mktemp("unbroken") / "run") as run:
        run.finish()
    return run.workdir


@pytest.fixture(scope="module")
def killed(tmp_path_factory) -> Path:
    """The same after two kills, one in the first save, one in an evaluation after step 5."""
    workdir, newest = tmp_path_factory.mktemp("killed") / "run", 0
    for phase, goal in ((SAVE, 2), (EVALUATION, 5)):
        with Run(ALONE, workdir) as run:
            complete = kill(run, [0], phase, goal, wait=0).complete
        assert run.resumed == newest
        newest = complete
    return workdir


def test_one_process_killed_three_times(tmp_path, killed, unbroken):
    workdir = Path(shutil.copytree(killed, tmp_path / "run"))
    newest = checkpoints(workdir)[-1]
    with Run(ALONE, workdir) as run:
        complete = kill(run, [0], STEP, newest + 3, wait=0).complete
    assert run.resumed == newest
    with Run(ALONE, workdir) as run:
        run.finish()
    assert run.resumed == complete > newest
    assert_same(workdir, unbroken)


def test_a_run_resumes_with_two_processes_and_with_four(tmp_path, killed, unbroken):
    workdir = Path(shutil.copytree(killed, tmp_path / "run"))
    newest = checkpoints(workdir)[-1]

    # One of two is killed: the other ends in time with status 75 and names it, which `kill` checks.
    with Run(SEVERAL, workdir, 2) as run:
        run.until(lambda: newest + 4 in checkpoints(workdir))
        kill(run, [1], STEP, newest + 5, wait=0)
    assert run.resumed == newest
    expected = fingerprints(workdir, newest + 4)

    # As if that had been before the next checkpoint: two do the same steps again, bit for bit. One gets SIGTERM.
    for step in checkpoints(workdir):
        if step > newest + 2:
            shutil.rmtree(workdir / "checkpoints" / str(step))
    with Run(SEVERAL, workdir, 2) as run:
        run.until(lambda: newest + 4 in checkpoints(workdir))
        run.processes[1].send_signal(signal.SIGTERM)
        assert run.wait(NOTICE_SECONDS) == [143, 143]
    assert run.resumed == newest + 2
    assert fingerprints(workdir, newest + 4) == expected
    stopped = [re.search(r"stopped after step (\d+) of 16, which is saved", run.text(i)) for i in (0, 1)]
    assert [int(found[1]) for found in stopped] == [checkpoints(workdir)[-1]] * 2

    # The batches are those of the unbroken run, the losses but for the order of additions.
    with Run(SEVERAL, workdir, 4) as run:
        run.finish()
    assert run.resumed == int(stopped[0][1]) < 16
    assert records(workdir) == records(unbroken)
    losses = [[line["loss"] for line in metrics(path) if line["of"] == "train"] for path in (workdir, unbroken)]
    np.testing.assert_allclose(*losses, rtol=1e-4)
