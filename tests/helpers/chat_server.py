"""A real HTTP server on this machine that answers chat completions as a test tells it to, or misbehaves."""

import base64
import io
import json
import threading

from PIL import Image
from post_server import PostServer


def completion(text, finish="stop"):
    """A body as OpenAI's API gives it."""
    message = {"role": "assistant", "content": text}
    return {
        "id": "x",
        "object": "chat.completion",
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
    }


class ChatServer(PostServer):
    """Calls `reply(number, request)` for each POST; it returns a dict (200), (status, dict or bytes), or raises OSError
    to hang up. `requests` keeps what was asked, `headers` what came with it."""

    def __init__(self, reply):
        self.reply, self.requests, self.headers, self.paths = reply, [], [], []
        self._lock = threading.Lock()
        super().__init__()

    def answer(self, handler, body):
        request = json.loads(body)
        with self._lock:
            number = len(self.requests)
            self.requests.append(request)
            self.headers.append(dict(handler.headers))
            self.paths.append(handler.path)
        return self.reply(number, request)


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
