"""Servers of a test's own, in threads of this process."""

import threading
from contextlib import contextmanager


@contextmanager
def serving(server):
    """Let a server answer inside the block; yield its address."""
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
