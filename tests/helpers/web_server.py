"""A web application on a free port of this machine, in a thread, until the `with` ends."""

import contextlib
import threading
import time

from reelmill.pipelines.web import server


@contextlib.contextmanager
def running(app, listener):
    """Serve `app` on a listening socket; yields http://127.0.0.1:PORT."""
    serving = server(app)
    thread = threading.Thread(target=serving.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not serving.started:
        assert thread.is_alive()
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        serving.should_exit = True
        thread.join(120)
        assert not thread.is_alive()


def until(condition, seconds=120.0):
    """Wait until it holds, at most so long."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
