"""The loop around a step that computes nothing."""

import itertools
import json
import math
import os
import signal
from types import SimpleNamespace

import jax.numpy as jnp
import pytest

from tcm_jax.distributed import Watchdog
from tcm_jax.distributed.interrupt import Interrupted, StopSignal
from tcm_jax.training.loop import DeviceBatch, Loop, NonFiniteError, prefetch_to_device
from tcm_jax.training.mesh import make_mesh
from tcm_jax.training.profile import Profile
from tcm_jax.training.report import RunLog
from tcm_jax.training.state import TrainState


class Recorder:
    """Takes the place of checkpoints and validation; records the calls."""

    def __init__(self, directory):
        self.directory, self.calls, self.steps = directory, [], []

    def save(self, step, state, score):
        self.calls.append(("save", step))
        self.steps.append(step)

    def check(self):
        pass

    def wait(self):
        self.calls.append(("wait",))

    def validate(self, step, state):
        self.calls.append(("validate", step))

    def export_last(self, step, state):
        self.calls.append(("export", step))


def run(tmp_path, total=5, start=0, losses=None, stops=None, on_step=None, checkpoint_every=2, validate_every=3):
    """Runs the loop; returns the recorder.

    Args:
        losses: of some steps, 1 for all others. stops: signals that some steps bring from other processes.
    """
    recorder = Recorder(tmp_path / "checkpoints")

    def step(state, batch):
        done = int(state.step) + 1
        if on_step:
            on_step(done)
        heard = (stops or {}).get(done, batch["stop"].max())
        metrics = {"loss": jnp.float32((losses or {}).get(done, 1.0)), "grad_norm": 2.0, "records": 7, "stop": heard}
        return state.replace(step=jnp.int32(done)), metrics

    batches = (
        DeviceBatch({}, [f"word-{number}-{row}" for row in range(12)], ["broken.png"] if number == 2 else [])
        for number in itertools.count(start + 1)
    )
    state = TrainState(jnp.int32(start), {}, {}, (), None)
    config = SimpleNamespace(
        batch=12,
        log_every=2,
        checkpoint=SimpleNamespace(every=checkpoint_every),
        eval=SimpleNamespace(every=validate_every),
    )
    with RunLog(tmp_path, start, total) as log, StopSignal() as stop:
        loop = Loop(
            step=step,
            batches=batches,
            mesh=make_mesh(),
            config=config,
            total=total,
            validation=recorder,
            log=log,
            checkpoints=recorder,
            stop=stop,
            watchdog=Watchdog(),
            profile=Profile(tmp_path, start, total, 0),
            speed=lambda rate: {"step_time": 12 / rate},
            workdir=tmp_path,
        )
        try:
            loop.run(state)
        except (Interrupted, NonFiniteError) as error:
            error.recorder = recorder
            raise
    return recorder


def lines(tmp_path) -> list[dict]:
    return [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]


def test_order_of_events(tmp_path):
    expected = [("save", 2), ("validate", 3), ("save", 4), ("validate", 5), ("export", 5), ("save", 5)]
    assert run(tmp_path).calls == expected
    assert [line["step"] for line in lines(tmp_path)] == [2, 4, 5]
    assert all(line["images_per_second"] > 0 for line in lines(tmp_path))


def test_without_checkpoints_and_validation_in_between(tmp_path):
    calls = run(tmp_path, checkpoint_every=0, validate_every=0).calls
    assert calls == [("validate", 5), ("export", 5), ("save", 5)]


def test_a_resumed_run_keeps_the_lines_of_finished_steps_only(tmp_path):
    run(tmp_path)
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 5, "los')  # cut off by a crash
    assert run(tmp_path, start=2).calls[0] == ("validate", 3)
    assert [line["step"] for line in lines(tmp_path)] == [2, 4, 5]


def test_images_that_can_not_be_decoded_are_counted_and_named(tmp_path, capsys):
    run(tmp_path)
    assert [line["undecodable"] for line in lines(tmp_path)] == [1, 0, 0]
    assert "1 images could not be decoded and were replaced: broken.png" in capsys.readouterr().out


@pytest.mark.parametrize("loss", [math.nan, math.inf])
@pytest.mark.parametrize("bad", [3, 4])  # 4 is a step with a checkpoint, which must not be written then
def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, loss, bad):
    with pytest.raises(NonFiniteError) as error:
        run(tmp_path, losses={bad: loss}, validate_every=0)
    message = str(error.value)
    assert message.startswith(f"step {bad}: the loss is {loss}, the gradient norm 2.0. The update was not made")
    assert f"word-{bad}-0, word-{bad}-1" in message
    assert message.endswith("and 2 more")
    assert "the newest checkpoint is that of step 2" in message
    assert error.value.recorder.calls == [("save", 2), ("wait",)]
    written = json.loads((tmp_path / f"nan_step_{bad}.json").read_text())
    assert written["records"] == [f"word-{bad}-{row}" for row in range(12)]
    assert written["metrics"] == {"loss": str(loss), "grad_norm": "2.0", "records": "7"}


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_after_the_step_and_saves(tmp_path, number, status):
    def on_step(done):
        if done == 3:
            os.kill(os.getpid(), number)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted, match=r"stopped after step 3 of 5, which is saved in .*; the same") as error:
        run(tmp_path, on_step=on_step)
    assert error.value.status == status
    assert error.value.recorder.calls == [("save", 2), ("save", 3), ("wait",)]
    assert signal.getsignal(signal.SIGINT) is before


def test_a_signal_of_another_process_stops_after_the_step_at_which_all_know_it(tmp_path):
    with pytest.raises(Interrupted, match="stopped after step 3 of 5") as error:
        run(tmp_path, stops={2: signal.SIGTERM}, checkpoint_every=0, validate_every=0)
    assert error.value.status == 143
    assert error.value.recorder.calls == [("save", 3), ("wait",)]


def test_the_second_ctrl_c_is_the_system_s():
    with StopSignal() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.received == signal.SIGINT
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL


def test_batches_are_on_the_device_ahead_of_time():
    taken = []

    def host_batches():
        for number in range(5):
            taken.append(number)
            yield {"label": jnp.full(8, number).__array__(), "name": [str(number)] * 8, "undecodable": []}

    batches = prefetch_to_device(host_batches(), make_mesh())
    assert next(batches).names == ["0"] * 8
    assert taken == [0, 1, 2]
    assert [int(batch.arrays["label"][0]) for batch in batches] == [1, 2, 3, 4]
