"""Uploads that nobody would make on purpose, sent to a server that runs.

    tcm-jax demo --port 8000
    python -m tests.demo.uploads --port 8000 --pid PID

sends 1,000 damaged, cut, odd and empty files, a file of 100 MB with and without its length, and a picture of 80 million
pixels in a small file. It prints how many got which answer, the slowest one, and the memory of the server.
"""

import argparse
import collections
import http.client
import io
import json
import time
from collections.abc import Iterable, Iterator

import numpy as np
from PIL import Image

from benchmarks.processes import memory
from tests.spotting.test_spotter import mutated


def post(port: int, body: bytes | Iterable[bytes], headers: dict | None = None) -> tuple[int, dict]:
    """Status and answer of an upload; an iterable is sent in chunks, without its length."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    try:
        connection.request("POST", "/spot", body, headers or {})
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def mutated_upload(number: int) -> bytes:
    """The image of `tests.spotting.test_spotter.mutated` as a file; arrays without pixels are empty files."""
    image = mutated(number)
    if isinstance(image, bytes):
        return image
    if isinstance(image, np.ndarray):
        if image.size == 0:
            return b""
        image = Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image)
    file = io.BytesIO()
    (image.convert("RGB") if image.mode == "HSV" else image).save(file, "TIFF")  # it has all the other modes
    return file.getvalue()


def is_clear(status: int, answer: dict) -> bool:
    """Whether it is what was read, or an error with a message for people."""
    if status == 200:
        return answer["photo"]["width"] > 0 and answer["picture"].startswith("data:image/jpeg;base64,")
    return status in (400, 413) and len(answer["error"]) > 10 and "Traceback" not in answer["error"]


def _chunks(size: int) -> Iterator[bytes]:
    for _ in range(size // 1_000_000):
        yield bytes(1_000_000)


def _huge_picture() -> bytes:
    file = io.BytesIO()
    Image.new("L", (8900, 8900), 200).save(file, "PNG")
    return file.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--pid", type=int, required=True, help="of the server")
    parser.add_argument("-n", type=int, default=1000)
    options = parser.parse_args()
    print(f"memory before: {memory(options.pid):.0f} MB")
    statuses: collections.Counter[int] = collections.Counter()
    times = []
    for number in range(options.n):
        start = time.perf_counter()
        status, answer = post(options.port, mutated_upload(number))
        times.append(time.perf_counter() - start)
        statuses[status] += 1
        if not is_clear(status, answer):
            print(f"upload {number}: {status}, {answer}")
    print(f"{options.n} uploads: {dict(statuses)}; slowest {max(times):.2f} s, median {np.median(times):.3f} s")
    print(f"memory after: {memory(options.pid):.0f} MB")
    hundred = 100_000_000
    for name, body in (
        ("100 MB", bytes(hundred)),
        ("100 MB in chunks", _chunks(hundred)),
        ("80 million pixels", _huge_picture()),
    ):
        start = time.perf_counter()
        status, answer = post(options.port, body)
        told = answer.get("error", f"{len(answer.get('photo', {}).get('words', []))} words")
        print(f"{name}: {status}, {told}; {time.perf_counter() - start:.2f} s, memory {memory(options.pid):.0f} MB")


if __name__ == "__main__":
    main()
