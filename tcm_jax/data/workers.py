"""How the worker processes of data loading and of conversion end."""

import multiprocessing
import os
import signal
import threading


def end_with_parent() -> None:
    """Prepares a worker process: it ignores Ctrl-C, and ends when its parent does.

    Ctrl-C reaches the whole process group, and the parent ends its workers; a parent that is killed can't.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None, "only workers have a parent"

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
