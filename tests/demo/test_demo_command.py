"""The command: starts, opens the page, ends; mistakes are told before the models are loaded."""

import os
import signal
import socket
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from tcm_jax.commands import demo as command
from tcm_jax.images.decoding import encode_png
from tests.demo.uploads import post
from tests.spotting.test_spotter import photo


@pytest.mark.slow
def test_from_start_to_end(tiny_detector, tiny_model, tmp_path):
    """It tells where the page is when that is ready, opens it in the user's browser, and ends with Ctrl-C."""
    browser, opened = tmp_path / "browser.py", tmp_path / "opened.txt"
    browser.write_text(f"import sys; open({str(opened)!r}, 'w').write(sys.argv[1])")
    models = ["--detector", str(tiny_detector), "--recognizer", str(tiny_model), "--scale", "96", "96"]
    server = subprocess.Popen(
        [sys.executable, "-m", "tcm_jax.demo", "--port", "0", "--open", *models],
        env=os.environ | {"BROWSER": f"{sys.executable} {browser} %s"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        line = server.stdout.readline()
        url = line.removeprefix("The page is at ").removesuffix(" (Ctrl-C ends it)\n")
        assert url.startswith("http://127.0.0.1:")
        assert url in line
        assert post(int(url.rstrip("/").rpartition(":")[2]), encode_png(photo(0)))[0] == 200
        while not opened.exists() or not opened.read_text():
            time.sleep(0.1)
        assert opened.read_text() == url
        server.send_signal(signal.SIGINT)
        _, errors = server.communicate(timeout=60)
    finally:
        server.kill()
    assert server.returncode == 0
    assert errors.endswith("\nstopped\n")
    assert "Traceback" not in errors


def test_a_port_that_is_taken():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(SystemExit) as stop:
            command.main(["--port", str(port)])
    assert str(stop.value) == (
        f"error: can't listen on port {port} of 127.0.0.1: Address already in use; --port 0 takes a free one"
    )


@pytest.mark.parametrize("package", ["starlette", "uvicorn"])
def test_a_missing_package(monkeypatch, package):
    for name in list(sys.modules):
        if name == "tcm_jax.demo.server" or name.startswith(f"{package}."):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(SystemExit) as stop:
        command.main(["--host", "nowhere.invalid"])
    assert str(stop.value) == f'error: the package {package} is missing; install it with: pip install "tcm_jax[demo]"'


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port", "65536"], "65536; expected 0 .. 65535"),
        (["--port", "-1"], "-1; expected 0 .. 65535"),
        (["--max-upload", "0"], "0; expected a number of megabytes, such as 20"),
        (["--max-upload", "much"], "much; expected a number of megabytes, such as 20"),
    ],
)
def test_mistakes(capsys, arguments, message):
    with pytest.raises(SystemExit):
        command.main(arguments, "tcm-jax demo")
    assert f"tcm-jax demo: error: argument {arguments[0]}: {message}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("host", "url", "warned"),
    [
        ("127.0.0.1", "http://127.0.0.1:80/", False),
        ("::1", "http://[::1]:80/", False),
        ("192.168.1.7", "http://192.168.1.7:80/", True),
        ("0.0.0.0", f"http://{socket.gethostname()}:80/", True),
    ],
)
def test_where_the_page_is(capsys, host, url, warned):
    """Who lets others in is told."""
    listener = SimpleNamespace(getsockname=lambda: (host, 80))
    assert command._announce(listener) == url
    output, errors = capsys.readouterr()
    assert url in output
    assert ("there is no password" in errors) == warned
