"""The server of the page: a photo's bytes in, JSON out.

GET /            the page, with /page.css and /page.js
GET /settings    what the page has to know
GET /example.png a rendered photo to try
POST /spot       the bytes of an image file; the answer is that of `tcm_jax.demo.answer`

Errors are {"error": message}: 400 the photo can't be decoded, 408 it took too long to arrive, 413 it is too large, 503
too many are waiting.
"""

import asyncio
import functools
import socket
from collections.abc import Iterable
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tcm_jax.demo.answer import answer
from tcm_jax.demo.guard import Guard
from tcm_jax.images.decoding import ImageError, encoded
from tcm_jax.render.scenes import SyntheticScenes
from tcm_jax.spotting.spotter import Spotter

_PAGE = {
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}
_AT_ONCE = 2  # photos: while one is on the device, another one is decoded


class Server(uvicorn.Server):
    """Serves the page on sockets that listen already: `run(sockets=[...])`. No photo is written to disk.

    Args:
        spotter: reads the photos; its `min_score` is where the page's slider starts.
        names: names of this machine, see `Guard`.
        max_upload: of a photo's file, in MB.
        places: photos that arrive, wait or are read at a time; others are refused.
        upload_seconds: that a photo may take to arrive.
    """

    def __init__(
        self,
        spotter: Spotter,
        *,
        names: Iterable[str] = (),
        max_upload: float = 20,
        places: int = 8,
        upload_seconds: float = 60,
    ):
        self.desk = _Desk(spotter, round(max_upload * 1e6), places, upload_seconds)
        app = Guard(_application(self.desk), names)
        config = uvicorn.Config(
            app,
            loop="asyncio",
            http="h11",
            ws="none",
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=5,
        )
        super().__init__(config)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.desk.close()
        await super().shutdown(sockets)


class _Desk:
    """Takes photos in, a limited number at a time."""

    def __init__(self, spotter: Spotter, max_bytes: int, places: int, seconds: float):
        self.min_score = spotter.min_score
        self.spotter = Spotter(spotter.detector, spotter.recognizer, min_score=0)  # the page leaves words out
        self.max_bytes, self.places, self.seconds = max_bytes, places, seconds
        self.requests: set[asyncio.Task] = set()
        self.reading = asyncio.Semaphore(_AT_ONCE)

    def close(self) -> None:
        """Answers all who wait."""
        for task in self.requests:
            task.cancel()

    async def spot(self, request: Request) -> Response:
        if len(self.requests) >= self.places:
            await _upload(request, 0, self.seconds)
            raise HTTPException(503, "too many photos are waiting; try again in a moment")
        task = asyncio.current_task()
        assert task is not None
        self.requests.add(task)
        try:
            file = await _upload(request, self.max_bytes, self.seconds)
            if file is None:
                raise HTTPException(413, f"the file is larger than {self.max_bytes / 1e6:g} MB, which is the limit")
            async with self.reading:
                if await request.is_disconnected():  # nobody waits for the answer any more
                    raise ClientDisconnect
                return JSONResponse(await run_in_threadpool(answer, self.spotter, file))
        except ImageError as error:
            raise HTTPException(400, f"this photo can't be read: {error.problem}") from error
        except asyncio.CancelledError:
            raise HTTPException(503, "the server is ending") from None
        finally:
            self.requests.discard(task)


async def _upload(request: Request, most: int, seconds: float) -> bytes | None:
    """The body, or None for one of more than `most` bytes.

    That is received to its end, too, and thrown away: who is still sending doesn't listen to an answer.

    Raises:
        HTTPException: it takes longer than `seconds`.
    """
    chunks: list[bytes] = []
    size, declared = 0, int(request.headers.get("content-length", 0))
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                size += len(chunk)
                if max(size, declared) <= most:
                    chunks.append(chunk)
                else:
                    chunks.clear()
    except TimeoutError:
        raise HTTPException(408, f"the photo did not arrive within {seconds:g} seconds") from None
    return b"".join(chunks) if max(size, declared) <= most else None


def _application(desk: _Desk) -> Starlette:
    settings = {"max_bytes": desk.max_bytes, "min_score": desk.min_score}
    routes = [
        Route("/settings", lambda request: JSONResponse(settings)),
        Route("/example.png", _example),
        Route("/spot", desk.spot, methods=["POST"]),
    ]
    for path, (name, kind) in _PAGE.items():
        content = Path(__file__).with_name("page").joinpath(name).read_bytes()
        routes.append(Route(path, functools.partial(_file, content, kind)))
    handlers = {HTTPException: _refused, ClientDisconnect: _gone, Exception: _failed}
    return Starlette(routes=routes, exception_handlers=handlers)


def _file(content: bytes, kind: str, request: Request) -> Response:
    return Response(content, media_type=kind)


def _example(request: Request) -> Response:
    return Response(_example_png(), media_type="image/png")


@functools.cache
def _example_png() -> bytes:
    scenes = SyntheticScenes(seed=2, split="test", difficulty=0.25, image_size=(720, 960), words=(6, 10))
    return encoded(scenes[1].image)


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=400)  # nobody receives it


def _failed(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": "the server failed on this photo; its log says why"}, 500)
