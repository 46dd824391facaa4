"""Serves a web page that reads the text in photos.

python -m tcm_jax.demo
python -m tcm_jax.demo --port 8080 --open

The page works without a network. Photos are sent to this command only, and are not stored. Only this machine can reach
the page unless --host says otherwise; there is no password.
"""

import argparse
import errno
import ipaddress
import os
import socket
import sys
import threading
import webbrowser
from collections.abc import Sequence

from tcm_jax.commands.command_line import new_parser
from tcm_jax.commands.images import MODEL_HELP, add_scale_option
from tcm_jax.commands.reading_options import add_reading_options, reading_arguments
from tcm_jax.models.layers import DTYPES
from tcm_jax.spotting.spotter import Spotter

_SIZES = ((720, 1280), (960, 1280), (1280, 960))  # height, width of what cameras take


def main(arguments: Sequence[str] | None = None, prog: str = "python -m tcm_jax.demo") -> None:
    """Runs the command until Ctrl-C; exit code 1 if it can't start."""
    options = _parser(prog).parse_args(arguments)
    try:
        from tcm_jax.demo.server import Server
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in ("starlette", "uvicorn"):
            raise
        sys.exit(f'error: the package {package} is missing; install it with: pip install "tcm_jax[demo]"')
    try:
        with _listener(options.host, options.port) as listener:
            spotter = Spotter.load(
                options.detector,
                options.recognizer,
                scale=options.scale,
                dtype=options.dtype,
                quiet=False,
                **reading_arguments(options),
            )
            print("Preparing, some seconds the first time ...", file=sys.stderr)
            spotter.warmup(_SIZES)
            names = [options.host, socket.gethostname()]
            server = Server(spotter, names=names, max_upload=options.max_upload)
            url = _announce(listener)
            if options.open:
                threading.Thread(target=webbrowser.open, args=[url], daemon=True).start()
            server.run(sockets=[listener])
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:  # raised again by the server when it has ended
        pass
    print("stopped", file=sys.stderr, flush=True)
    os._exit(0)  # at once: a thread that still reads a photo, or compiles for it, works for nobody


def _listener(host: str, port: int) -> socket.socket:
    """Before the models are loaded, which takes longer than to find out that the port is taken."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        hint = "; --port 0 takes a free one" if error.errno in (errno.EADDRINUSE, errno.EACCES) else ""
        problem = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        raise OSError(f"can't listen on port {port} of {host}: {problem}{hint}") from error


def _announce(listener: socket.socket) -> str:
    """Tells where the page is; returns that."""
    host, port = listener.getsockname()[:2]
    address = ipaddress.ip_address(host)
    if address.is_unspecified:
        host = socket.gethostname()
    url = f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
    if not address.is_loopback:
        print("warning: whoever reaches this machine can use the page; there is no password", file=sys.stderr)
    print(f"The page is at {url} (Ctrl-C ends it)", flush=True)
    return url


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text}; expected 0 .. 65535")
    return int(text)


def _megabytes(text: str) -> float:
    try:
        size = float(text)
    except ValueError:
        size = 0.0
    if not 0 < size < 1e6:
        raise argparse.ArgumentTypeError(f"{text}; expected a number of megabytes, such as 20")
    return size


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = new_parser(prog, __doc__)
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen on, 0.0.0.0: all (default: 127.0.0.1, this machine)")
    add("--port", type=_port, default=8000, help="0: any free one (default: 8000)")
    add("--max-upload", type=_megabytes, default=20, metavar="MB", help="largest file that is accepted (default: 20)")
    add("--open", action="store_true", help="open the page in the browser")

    add = parser.add_argument_group("models").add_argument
    add("--detector", metavar="MODEL", help=MODEL_HELP)
    add("--recognizer", metavar="MODEL", help="the same, of a recognizer")
    add_scale_option(add)
    add("--dtype", choices=DTYPES, default="auto", help="auto: float32 on a CPU, else bfloat16 (default)")

    add_reading_options(parser.add_argument_group("reading").add_argument)
    return parser
