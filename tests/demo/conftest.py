"""A running server of the page, with tiny models."""

import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Iterator

import pytest

from tcm_jax import Detector, Recognizer, Spotter
from tcm_jax.demo.server import Server
from tests.spotting.test_spotter import photo


@contextlib.contextmanager
def serving(spotter: Spotter, **options) -> Iterator[int]:
    """Runs a server in a thread; yields its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = Server(spotter, **options)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(20)
            assert not thread.is_alive()


@pytest.fixture(scope="session")
def spotter(tiny_detector, tiny_model) -> Spotter:
    """Its minimum score leaves out half of the words of `photo(0)`; photos of all shapes need few programs."""
    detector = Detector(tiny_detector, scale=(96, 96), quiet=True)
    recognizer = Recognizer(tiny_model, batch_size=4, quiet=True)
    words = Spotter(detector, recognizer, min_score=0)(photo(0)).words
    return Spotter(detector, recognizer, min_score=sorted(word.score for word in words)[len(words) // 2])


@pytest.fixture(scope="session")
def port(spotter) -> Iterator[int]:
    with serving(spotter, max_upload=0.5, names=["my-machine"]) as port:
        yield port


def ask(port: int, path: str, method: str = "GET", body=None, headers: dict | None = None):
    """Status, headers and content of a response; JSON is decoded."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with contextlib.closing(connection):
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        content = response.read()
        is_json = response.getheader("Content-Type") == "application/json"
        return response.status, response.headers, json.loads(content) if is_json else content
