"""The server of the page: an image file in, JSON out.

GET /            the page, with /page.css and /page.js
GET /settings    what the page has to know
GET /example.png a rendered image to try
POST /spot       the bytes of an image file; the response is that of `tcm_jax.demo.answer`

Errors are {"error": message}: 400 the file is not decodable, 408 it took too long to arrive, 413 it is too large, 503
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
from tcm_jax.demo.same_site import SameSiteMiddleware
from tcm_jax.images.decoding import ImageError, encoded
from tcm_jax.render.scenes import SyntheticScenes
from tcm_jax.spotting.spotter import Spotter

_PAGE = Path(__file__).with_name("page")
_FILES = {
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}
_CONCURRENT = 2  # images: while one is on the device, another one is decoded


class Server(uvicorn.Server):
    """Serves the page on sockets that listen already: `run(sockets=[...])`. Images are never written to disk.

    Args:
        spotter: reads the images; its `min_score` is the initial value of the page's slider.
        names: host names of this machine, see `SameSiteMiddleware`.
        max_upload: maximum size of a file in MB.
        max_requests: maximum number of images that arrive, wait or are read; others are refused.
        upload_seconds: maximum time in which a file must arrive.
    """

    def __init__(
        self,
        spotter: Spotter,
        *,
        names: Iterable[str] = (),
        max_upload: float = 20,
        max_requests: int = 8,
        upload_seconds: float = 60,
    ) -> None:
        self.spotter = Spotter(spotter.detector, spotter.recognizer, min_score=0)  # the page hides words
        self.max_bytes, self.max_requests, self.upload_seconds = round(max_upload * 1e6), max_requests, upload_seconds
        self.requests: set[asyncio.Task] = set()
        self.reading = asyncio.Semaphore(_CONCURRENT)
        settings = {"max_bytes": self.max_bytes, "min_score": spotter.min_score}
        routes = [
            Route("/settings", JSONResponse(settings), methods=["GET"]),
            Route("/example.png", _example),
            Route("/spot", self.spot, methods=["POST"]),
        ]
        for path, (name, kind) in _FILES.items():
            routes.append(Route(path, Response((_PAGE / name).read_bytes(), media_type=kind), methods=["GET"]))
        app = Starlette(routes=routes, exception_handlers=_ERRORS)
        config = uvicorn.Config(
            SameSiteMiddleware(app, names),
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
        """Answers all waiting requests with 503, and stops."""
        for task in self.requests:
            task.cancel()
        await super().shutdown(sockets)

    async def spot(self, request: Request) -> Response:
        """POST /spot."""
        if len(self.requests) >= self.max_requests:
            await self._upload(request, 0)
            raise HTTPException(503, "too many images are waiting; try again in a moment")
        task = asyncio.current_task()
        assert task is not None
        self.requests.add(task)
        try:
            file = await self._upload(request, self.max_bytes)
            if file is None:
                raise HTTPException(413, f"the file is larger than {self.max_bytes / 1e6:g} MB, which is the limit")
            async with self.reading:
                if await request.is_disconnected():  # the client does not wait any more
                    raise ClientDisconnect
                return JSONResponse(await run_in_threadpool(answer, self.spotter, file))
        except ImageError as error:
            raise HTTPException(400, f"this image can't be read: {error.problem}") from error
        except asyncio.CancelledError:
            raise HTTPException(503, "the server is ending") from None
        finally:
            self.requests.discard(task)

    async def _upload(self, request: Request, max_bytes: int) -> bytes | None:
        """The body, or None if it is larger than `max_bytes`.

        A larger one is also received completely, and thrown away: a client that is still sending reads no response.

        Raises:
            HTTPException: it takes longer than `upload_seconds`.
        """
        chunks: list[bytes] = []
        size, declared = 0, int(request.headers.get("content-length", 0))
        try:
            async with asyncio.timeout(self.upload_seconds):
                async for chunk in request.stream():
                    size += len(chunk)
                    if max(size, declared) <= max_bytes:
                        chunks.append(chunk)
                    else:
                        chunks.clear()
        except TimeoutError:
            raise HTTPException(408, f"the image did not arrive within {self.upload_seconds:g} seconds") from None
        return b"".join(chunks) if max(size, declared) <= max_bytes else None


def _example(request: Request) -> Response:
    return Response(_example_png(), media_type="image/png")


@functools.cache
def _example_png() -> bytes:
    scenes = SyntheticScenes(seed=2, split="test", difficulty=0.25, image_size=(720, 960), words=(6, 10))
    return encoded(scenes[1].image)


_ERRORS = {
    HTTPException: lambda request, error: JSONResponse({"error": error.detail}, error.status_code, error.headers),
    ClientDisconnect: lambda request, error: Response(status_code=400),  # nobody receives it
    Exception: lambda request, error: JSONResponse({"error": "the server failed on this image; its log says why"}, 500),
}
