"""The server of the page: photos in, JSON out, and everything that isn't a photo."""

import base64
import io
import re
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tcm_jax.demo
from tcm_jax import Spotter
from tcm_jax.images.decoding import encode_png
from tests.demo.conftest import ask, serving
from tests.demo.uploads import is_clear, mutated_upload, post
from tests.spotting.test_spotter import photo

PAGE = Path(tcm_jax.demo.__file__).with_name("page")


def picture(url: str) -> Image.Image:
    """Of a data URL."""
    return Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))


def test_a_photo(port, spotter):
    """All words come, however unlikely: the page leaves them out."""
    status, answer = post(port, encode_png(photo(0)))
    everything = Spotter(spotter.detector, spotter.recognizer, min_score=0)
    assert (status, answer["photo"]) == (200, everything(photo(0)).to_dict())
    assert len(answer["photo"]["words"]) > len(spotter(photo(0)).words) > 0
    assert picture(answer["picture"]).size == (120, 90)
    assert answer["seconds"] > 0


def test_the_score_map_covers_the_photo(port, spotter):
    """It has a pixel for each value and exceeds the photo by the padding to multiples of 32."""
    _, answer = post(port, encode_png(photo(0)))
    found = spotter.detector.detect(photo(0))
    shown = picture(answer["score_map"]["picture"])
    assert (shown.mode, shown.size) == ("RGBA", found.score_map.shape[::-1])
    sides = np.array([answer["score_map"][side] for side in ("width", "height")])
    np.testing.assert_allclose(sides * found.scale, np.multiply(shown.size, 32), atol=0.1)
    assert (sides >= (120, 90)).all()
    values, alpha = found.score_map, np.asarray(shown)[..., 3]
    assert alpha.flat[values.argmax()] == alpha.max() > alpha.flat[values.argmin()] == alpha.min()
    assert answer["score_map"]["high"] == pytest.approx(values.max(), abs=1e-3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_are_turned_as_their_exif_data_say(port, orientation):
    """Polygons belong to the picture that is sent along, and that is the one that viewers show."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    Image.fromarray(photo(0)).save(file, "PNG", exif=exif)
    _, answer = post(port, file.getvalue())
    turned = {
        1: photo(0),
        2: np.fliplr(photo(0)),
        3: np.rot90(photo(0), 2),
        4: np.flipud(photo(0)),
        5: np.transpose(photo(0), (1, 0, 2)),
        6: np.rot90(photo(0), -1),
        7: np.rot90(np.transpose(photo(0), (1, 0, 2)), 2),
        8: np.rot90(photo(0)),
    }[orientation]
    height, width = turned.shape[:2]
    assert (answer["photo"]["width"], answer["photo"]["height"]) == (width, height)
    difference = np.abs(np.asarray(picture(answer["picture"]), float) - turned)
    assert difference.mean() < 3  # JPEG's
    _, plain = post(port, encode_png(np.ascontiguousarray(turned)))
    assert plain["photo"] == answer["photo"]


def test_large_photos_are_shown_smaller(port):
    _, answer = post(port, encode_png(np.zeros((30, 3000, 3), np.uint8)))
    assert answer["photo"]["width"] == 3000
    assert picture(answer["picture"]).size == (1600, 16)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (b"", "this image can't be read: empty file"),
        (b"no image", "not a readable image file"),
        (encode_png(photo(1))[:2000], "damaged or truncated PNG file"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a readable image file"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "not a readable image file"),
    ],
)
def test_broken_photos(port, file, message):
    status, answer = post(port, file)
    assert status == 400
    assert message in answer["error"]


@pytest.mark.filterwarnings("ignore:Image size")  # Pillow's
def test_a_picture_that_is_a_bomb(port):
    """Few bytes, more pixels than are decoded."""
    file = io.BytesIO()
    Image.new("1", (10_000, 10_000)).save(file, "PNG")
    assert len(file.getvalue()) < 100_000
    assert post(port, file.getvalue()) == (
        400,
        {"error": "this image can't be read: 10000 x 10000 is more than 80,000,000 pixels"},
    )


def test_too_large_files(port):
    """The client has sent all of it when it gets the answer; with and without its length."""
    told = (413, {"error": "the file is larger than 0.5 MB, which is the limit"})
    assert post(port, bytes(5_000_000)) == told
    assert post(port, (bytes(100_000) for _ in range(50))) == told
    assert post(port, bytes(500_001)) == told
    assert post(port, bytes(500_000))[0] == 400
    assert post(port, (bytes(100_000) for _ in range(5)))[0] == 400
    padded = encode_png(photo(0)) + bytes(1000)
    assert post(port, iter([padded[:1000], padded[1000:]]))[0] == 200


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of damaged TIFF tags
def test_odd_uploads(port):
    outcomes = [post(port, mutated_upload(number)) for number in range(100)]
    assert all(is_clear(*outcome) for outcome in outcomes)
    assert {status for status, _ in outcomes} == {200, 400}


def test_paths_and_methods(port, spotter):
    for path, kind in (("/", "text/html"), ("/page.css", "text/css"), ("/page.js", "text/javascript")):
        status, headers, content = ask(port, path)
        assert (status, headers["Content-Type"]) == (200, f"{kind}; charset=utf-8")
        assert content == (PAGE / ("page.html" if path == "/" else path[1:])).read_bytes()
    assert ask(port, "/settings")[2] == {"max_bytes": 500_000, "min_score": spotter.min_score}
    assert ask(port, "/spot")[::2] == (405, {"error": "Method Not Allowed"})
    assert ask(port, "/", "POST", b"x")[0] == 405
    assert ask(port, "/../pyproject.toml")[::2] == (404, {"error": "Not Found"})


def test_the_example_is_a_photo(port):
    status, headers, content = ask(port, "/example.png")
    assert (status, headers["Content-Type"]) == (200, "image/png")
    assert Image.open(io.BytesIO(content)).size == (960, 720)


def test_headers_keep_the_page_to_itself(port):
    for path, method in (("/", "GET"), ("/spot", "POST"), ("/nothing", "GET")):
        _, headers, _ = ask(port, path, method)
        assert headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self'; ")
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == "no-store"
        assert "Server" not in headers
        assert "Access-Control-Allow-Origin" not in headers


def test_the_page_asks_no_other_host():
    for path in PAGE.iterdir():
        content = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")  # a name, not an address
        assert not re.search(r"https?:|//[a-z]+\.|@import", content), path
        assert not re.search(r" on[a-z]+=|style=|<script>|innerHTML", content), path  # the policy forbids them


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8000", 200),
        ("localhost", 200),
        ("LOCALHOST:80", 200),
        ("[::1]:8000", 200),
        ("192.168.1.7:8000", 200),
        ("my-machine:8000", 200),
        ("example.org", 403),
        ("127.0.0.1.example.org:8000", 403),
        ("localhost.example.org", 403),
        ("[::1", 403),
        ("", 403),
    ],
)
def test_hosts(port, host, status):
    """A name that is not this machine's is somebody's who wants to read the answers."""
    got, _, content = ask(port, "/settings", headers={"Host": host})
    assert got == status
    assert status == 200 or content["error"].startswith(f"this server is not {host!r}")


@pytest.mark.parametrize("origin", ["http://example.org", "https://localhost:8000", "null", "file://"])
def test_pages_of_other_sites_are_refused(port, origin):
    status, _, content = ask(port, "/spot", "POST", b"x", {"Host": "localhost:80", "Origin": origin})
    assert (status, content) == (403, {"error": f"pages of {origin!r} may not use this server"})
    assert ask(port, "/spot", "POST", b"x", {"Host": "localhost:80", "Origin": "http://localhost:80"})[0] == 400


def test_few_at_a_time(spotter, monkeypatch):
    """Others wait, and who comes when the room is full is told so, also with a file that is too large."""
    may, lock, reading, most = threading.Event(), threading.Lock(), 0, 0
    plain = Spotter.__call__

    def slow(self, images, errors="raise"):
        nonlocal reading, most
        with lock:
            reading += 1
            most = max(most, reading)
        assert may.wait(30)
        with lock:
            reading -= 1
        return plain(self, images, errors)

    monkeypatch.setattr(Spotter, "__call__", slow)
    file = encode_png(photo(0))
    with serving(spotter, max_requests=5) as port, ThreadPoolExecutor(5) as pool:
        inside = [pool.submit(post, port, file) for _ in range(5)]
        while most < 2:
            time.sleep(0.01)
        time.sleep(0.3)
        told = (503, {"error": "too many images are waiting; try again in a moment"})
        assert post(port, file) == post(port, bytes(1_000_000)) == told
        may.set()
        assert [future.result()[0] for future in inside] == [200] * 5
        assert post(port, file)[0] == 200
    assert most == 2


def test_who_leaves_is_not_read(spotter, monkeypatch):
    may, started = threading.Event(), []
    plain = Spotter.__call__

    def slow(self, images, errors="raise"):
        started.append(images.shape)
        assert may.wait(30)
        return plain(self, images, errors)

    monkeypatch.setattr(Spotter, "__call__", slow)
    with serving(spotter) as port, ThreadPoolExecutor(2) as pool:
        inside = [pool.submit(post, port, encode_png(photo(0))) for _ in range(2)]
        while len(started) < 2:
            time.sleep(0.01)
        body = encode_png(photo(1, 64, 64))
        with socket.create_connection(("127.0.0.1", port)) as gone:
            gone.sendall(b"POST /spot HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            time.sleep(0.3)
        time.sleep(0.3)
        may.set()
        assert [future.result()[0] for future in inside] == [200, 200]
        assert post(port, encode_png(photo(0)))[0] == 200
    assert (64, 64, 3) not in started


def test_a_photo_that_does_not_arrive(spotter):
    with serving(spotter, upload_seconds=0.2) as port, socket.create_connection(("127.0.0.1", port), 20) as slow:
        slow.sendall(b"POST /spot HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nabc")
        answer = slow.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"did not arrive within 0.2 seconds" in answer


def test_who_waits_is_told_of_the_end(spotter, monkeypatch):
    may, started = threading.Event(), threading.Event()

    def slow(self, images, errors="raise"):
        started.set()
        may.wait(30)
        raise RuntimeError("nobody waits for this")

    monkeypatch.setattr(Spotter, "__call__", slow)
    with ThreadPoolExecutor(1) as pool:
        with serving(spotter) as port:
            waiting = pool.submit(post, port, encode_png(photo(0)))
            assert started.wait(20)
            start = time.perf_counter()
        assert time.perf_counter() - start < 10
        assert waiting.result() == (503, {"error": "the server is ending"})
        may.set()


def test_a_failure_of_ours_is_no_secret_of_theirs(spotter, monkeypatch, caplog):
    """The log has the trace, the client a message."""

    def broken(self, images, errors="raise"):
        raise RuntimeError("a secret")

    monkeypatch.setattr(Spotter, "__call__", broken)
    with serving(spotter) as port:
        outcome = post(port, encode_png(photo(0)))
    assert outcome == (500, {"error": "the server failed on this image; its log says why"})
