"""WARC records for tests, written byte by byte."""

import base64
import gzip
import hashlib


def record(uri, payload, declared="text/html; charset=utf-8", kind="response", status=200, http=b"", **headers):
    """One record; `http`: more lines of the response's header; `headers`: WARC's own, None leaves one out."""
    block = payload
    if kind == "response":
        block = f"HTTP/1.1 {status} X\r\nContent-Type: {declared}\r\n".encode() + http + b"\r\n" + payload
        declared = "application/http; msgtype=response"
    said = {
        "WARC-Type": kind,
        "WARC-Target-URI": uri,
        "WARC-Date": "2024-01-02T03:04:05Z",
        "WARC-Record-ID": f"<urn:uuid:{hashlib.md5(uri.encode()).hexdigest()}>",
        "Content-Type": declared,
        "Content-Length": str(len(block)),
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in said.items() if value is not None)
    return b"WARC/1.0\r\n" + lines.encode() + b"\r\n" + block + b"\r\n\r\n"


def digest(payload, name="sha1"):
    return f"{name}:{base64.b32encode(hashlib.new(name, payload).digest()).decode()}"


def write_warc(path, records, compressed=True):
    path.write_bytes(b"".join(map(gzip.compress, records) if compressed else records))
    return path


def page(words, head=""):
    text = " ".join([words] * 20)
    menu = "<nav><ul><li><a href=/>Home</a></li><li><a href=/b>About</a></li></ul></nav>"
    return f"<!DOCTYPE html><html><head>{head}</head><body>{menu}<main><p>{text}</p></main></body></html>".encode()
