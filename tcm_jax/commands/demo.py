"""Serves a web page that reads the text in images.

python -m tcm_jax.demo
python -m tcm_jax.demo --port 8080 --open

The page works without a network. Images are sent to this command only, and are not stored. Only this machine can reach
the page unless --host says otherwise; there is no password.
"""

import argparse
import contextlib
import errno
import ipaddress
import os
import socket
import sys
import threading
import webbrowser
from collections.abc import Sequence

from tcm_jax.commands.command_line import command, new_parser
from tcm_jax.commands.spot import add_spotter_flags, load_spotter

_SIZES = ((720, 1280), (960, 1280), (1280, 960))  # common heights and widths of images, compiled for before the start


@command
def main(arguments: Sequence[str] | None = None, prog: str = "python -m tcm_jax.demo") -> None:
    """Runs the command until Ctrl-C."""
    options = _parser(prog).parse_args(arguments)
    try:
        from tcm_jax.demo.server import Server
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in ("starlette", "uvicorn"):
            raise
        sys.exit(f'error: the package {package} is missing; install it with: pip install "tcm_jax[demo]"')
    with contextlib.suppress(KeyboardInterrupt), _listen(options.host, options.port) as listener:
        spotter = load_spotter(options, quiet=False)
        print("Preparing, some seconds the first time ...", file=sys.stderr)
        spotter.warmup(_SIZES)
        server = Server(spotter, names=[options.host, socket.gethostname()], max_upload=options.max_upload)
        url = _announce(listener)
        if options.open:
            threading.Thread(target=webbrowser.open, args=[url], daemon=True).start()
        server.run(sockets=[listener])
    print("stopped", file=sys.stderr, flush=True)
    os._exit(0)  # without waiting for threads that still read or compile for a request


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket; made before the models are loaded, since the port may be taken."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        hint = "; --port 0 takes a free one" if error.errno in (errno.EADDRINUSE, errno.EACCES) else ""
        problem = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        raise OSError(f"can't listen on port {port} of {host}: {problem}{hint}") from error


def _announce(listener: socket.socket) -> str:
    """Prints the URL of the page, and returns it."""
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
    with contextlib.suppress(ValueError):
        if 0 < float(text) < 1e6:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text}; expected a number of megabytes, such as 20")


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = new_parser(prog, __doc__)
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen on, 0.0.0.0: all (default: 127.0.0.1, this machine)")
    add("--port", type=_port, default=8000, help="0: any free one (default: 8000)")
    add("--max-upload", type=_megabytes, default=20, metavar="MB", help="largest file that is accepted (default: 20)")
    add("--open", action="store_true", help="open the page in the browser")
    add_spotter_flags(parser)
    return parser
