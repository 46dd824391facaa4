"""The command with its sub-commands."""

import argparse
import importlib
import subprocess
import sys

import pytest

import tcm_jax
from tcm_jax.commands import main as cli
from tcm_jax.pretrained import RECOGNIZER


def run(capsys, *arguments):
    """Exit code, stdout and stderr."""
    try:
        code = cli.main(arguments)
    except SystemExit as exit:
        code = exit.code
        if isinstance(code, str):  # as Python does where nobody catches it
            print(code, file=sys.stderr)
            code = 1
    return code or 0, *capsys.readouterr()


def test_help_and_version(capsys):
    code, output, _ = run(capsys, "--help")
    assert code == 0
    assert output.startswith("usage: tcm-jax COMMAND ...\n")
    assert all(f"\n  {name} " in output for name in cli._COMMANDS)
    assert run(capsys, "--version")[:2] == (0, f"tcm_jax {tcm_jax.__version__}\n")


def test_help_is_quick():
    """It imports nothing but Python."""
    program = "import sys; from tcm_jax.commands import main; main._parser().format_help(); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert "tcm_jax" in loaded
    assert not {"jax", "numpy", "absl", "rich", "PIL", "tcm_jax.files"} & set(loaded)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((), "the following arguments are required: COMMAND"), (("spott",), "invalid choice: 'spott' (choose from")],
)
def test_mistakes(capsys, arguments, message):
    code, output, errors = run(capsys, *arguments)
    assert code == 2
    assert output == ""
    assert message in errors
    assert errors.startswith("usage: tcm-jax COMMAND")


@pytest.mark.parametrize("name", [name for name in cli._COMMANDS if name not in cli._ABSL])
def test_help_of_sub_commands(capsys, name):
    """They are called as the user has called them, also in errors."""
    code, output, _ = run(capsys, name, "--help")
    assert code == 0
    assert output.startswith(f"usage: tcm-jax {name} ")
    code, _, errors = run(capsys, name, "--nonsense")
    assert code == 2
    assert f"tcm-jax {name}: error: " in errors


def test_sub_commands_with_flags_of_absl():
    """Their flags and mistakes are the program's own."""
    command = [sys.executable, "-m", "tcm_jax", "plan"]
    result = subprocess.run([*command, "--help"], capture_output=True, text=True)
    assert "--topology: such as v5e:16x16" in result.stdout
    assert "Compiles the training step" in result.stdout
    result = subprocess.run([*command, "--topology=v5e:4x4"], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (1, "error: flag --config is missing; expected a file of configs/\n")


def test_exit_codes_of_sub_commands(capsys, tmp_path):
    code, _, errors = run(capsys, "data", "check", str(tmp_path / "nowhere"))
    assert code == 1
    assert errors.startswith("error: ")


@pytest.mark.parametrize("name", [name for name in cli._COMMANDS if name not in cli._ABSL])
def test_ctrl_c(capsys, monkeypatch, name):
    """Before there is anything to keep: a word, no traceback."""

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(argparse.ArgumentParser, "parse_known_args", interrupted)
    with pytest.raises(SystemExit) as end:
        importlib.import_module(f"tcm_jax.commands.{name}").main([], name)
    assert end.value.code == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_ctrl_c_while_a_command_is_imported(capsys, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(importlib, "import_module", interrupted)
    assert run(capsys, "info", "model") == (130, "", "interrupted\n")


def test_converters_come_with_the_package(capsys, tmp_path):
    code, _, errors = run(capsys, "convert", str(tmp_path / "nowhere.pth"), str(tmp_path / "model"))
    assert code == 1
    assert f"{tmp_path}/nowhere.pth" in errors


def test_output_that_nobody_reads_on():
    command = [sys.executable, "-m", "tcm_jax", "info", str(RECOGNIZER)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    assert (process.wait(60), process.stderr.read()) == (141, "")
    process.stderr.close()
