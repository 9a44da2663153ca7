"""A real HTTP server on this machine that answers chat completions as a test tells it to, or misbehaves."""

import base64
import contextlib
import io
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from PIL import Image


def completion(text, finish="stop"):
    """A body as OpenAI's API gives it."""
    message = {"role": "assistant", "content": text}
    return {
        "id": "x",
        "object": "chat.completion",
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
    }


class ChatServer:
    """Calls `reply(number, request)` for each POST; it returns a dict (200), (status, dict or bytes), or raises OSError
    to hang up. `requests` keeps what was asked, `headers` what came with it."""

    def __init__(self, reply):
        self.reply, self.requests, self.headers, self.paths = reply, [], [], []
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with outer._lock:
                    number = len(outer.requests)
                    outer.requests.append(request)
                    outer.headers.append(dict(self.headers))
                    outer.paths.append(self.path)
                with contextlib.suppress(OSError):
                    answer = outer.reply(number, request)
                    status, body = answer if isinstance(answer, tuple) else (200, answer)
                    data = body if isinstance(body, bytes) else json.dumps(body).encode()
                    self.send_response(status)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", str(len(data)))
                    self.end_headers()
                    self.wfile.write(data)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()


def pictures(request):
    """Images of a request, decoded."""
    parts = [part for message in request["messages"] for part in message["content"]]
    uris = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
    assert all(uri.startswith("data:image/jpeg;base64,") for uri in uris)
    return [Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) for uri in uris]


def words(request):
    """The words of a request."""
    (text,) = [part["text"] for message in request["messages"] for part in message["content"] if part["type"] == "text"]
    return text
