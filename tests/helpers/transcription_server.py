"""A real HTTP server on this machine that speaks OpenAI's transcription API, and says what a test tells it to."""

import email
import io
import wave

from post_server import PostServer


class TranscriptionServer(PostServer):
    """Calls `reply(number, seconds)` for each POST, with the length of the sound; it returns a dict (200), or (status,
    dict or bytes). `requests` keeps the fields that came."""

    def __init__(self, reply):
        self.reply, self.requests = reply, []
        super().__init__()

    def answer(self, handler, body):
        head = f"Content-Type: {handler.headers['Content-Type']}\r\n\r\n".encode()
        fields, seconds = {"path": handler.path}, 0.0
        for part in email.message_from_bytes(head + body).get_payload():
            name = part.get_param("name", header="content-disposition")
            data = part.get_payload(decode=True)
            if name == "file":
                with wave.open(io.BytesIO(data)) as file:
                    assert (file.getframerate(), file.getnchannels()) == (16_000, 1)
                    seconds = file.getnframes() / 16_000
            else:
                fields.setdefault(name, []).append(data.decode())
        self.requests.append(fields)
        return self.reply(len(self.requests) - 1, seconds)
