"""An object store on a port of this machine: files by HTTP with ranges and tags, and S3's list of a bucket."""

import contextlib
import hashlib
import http.server
import threading
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self._answer()

    def do_GET(self):
        self._answer()

    def _answer(self):
        store, parts = self.server.store, urlsplit(self.path)
        path, asked = unquote(parts.path).lstrip("/"), parse_qs(parts.query)
        store.requests.append((self.command, path, self.headers.get("Range")))
        if "list-type" in asked:
            self._send(200, store.listing(f"{path.strip('/')}/{asked.get('prefix', [''])[0]}", path.strip("/")))
        elif path not in store.files:
            self._send(404, b"")
        elif self.command == "GET" and store.gives == 0:
            self._send(403, b"")
        elif self.headers.get("If-Match") not in (None, _tag(store.files[path])):
            self._send(412, b"")
        else:
            self._send_file(store.files[path], self.headers.get("Range"), store.cut)

    def _send_file(self, data, wanted, cut):
        if self.command == "GET" and self.server.store.gives is not None:
            self.server.store.gives -= 1
        more = {"ETag": _tag(data), "Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}
        start = int(wanted.removeprefix("bytes=").partition("-")[0]) if wanted else 0
        if wanted:
            more["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        self._send(206 if wanted else 200, data[start:], more, cut)

    def _send(self, status, body, more=None, cut=None):
        self.send_response(status)
        for name, value in {**(more or {}), "Content-Length": len(body)}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[:cut])
            if cut is not None and cut < len(body):
                self.close_connection = True


class Store:
    """`files`: path to bytes. `cut`: bytes of a body, then the connection is closed. `gives`: how many bodies."""

    def __init__(self, files):
        self.files, self.requests, self.cut, self.gives = files, [], None, None

    def listing(self, prefix, bucket):
        entries = "".join(
            f"<Contents><Key>{escape(path.removeprefix(bucket + '/'))}</Key><Size>{len(data)}</Size>"
            f"<LastModified>2024-01-01T00:00:00.000Z</LastModified><ETag>{escape(_tag(data))}</ETag></Contents>"
            for path, data in sorted(self.files.items())
            if path.startswith(prefix)
        )
        return f"<ListBucketResult><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>".encode()


def _tag(data):
    return f'"{hashlib.md5(data).hexdigest()}"'


@contextlib.contextmanager
def objects(files):
    """A Store that answers; its `url`."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.store = Store(files)
    server.store.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.store
    finally:
        server.shutdown()
        server.server_close()
