"""A real HTTP server on this machine that speaks OpenAI's transcription API, and says what a test tells it to."""

import email
import io
import json
import threading
import wave
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class TranscriptionServer:
    """Calls `reply(number, seconds)` for each POST, with the length of the sound; it returns a dict (200), or (status,
    dict or bytes). `requests` keeps the fields that came."""

    def __init__(self, reply):
        self.reply, self.requests = reply, []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
                fields, seconds = {"path": self.path}, 0.0
                for part in email.message_from_bytes(head + body).get_payload():
                    name = part.get_param("name", header="content-disposition")
                    data = part.get_payload(decode=True)
                    if name == "file":
                        with wave.open(io.BytesIO(data)) as file:
                            assert (file.getframerate(), file.getnchannels()) == (16_000, 1)
                            seconds = file.getnframes() / 16_000
                    else:
                        fields.setdefault(name, []).append(data.decode())
                outer.requests.append(fields)
                answer = outer.reply(len(outer.requests) - 1, seconds)
                status, said = answer if isinstance(answer, tuple) else (200, answer)
                data = said if isinstance(said, bytes) else json.dumps(said).encode()
                self.send_response(status)
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
