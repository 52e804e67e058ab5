"""A bucket on this machine: the part of the S3 protocol that pyarrow speaks, over real HTTP, held in memory."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree import ElementTree
from xml.sax.saxutils import escape

HEADER = '<?xml version="1.0" encoding="UTF-8"?>'


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # 40 ms a reply
    objects: dict[str, bytes]
    uploads: dict[str, dict[int, bytes]]

    def log_message(self, *args: object) -> None:
        pass

    def _target(self) -> tuple[str, dict[str, str]]:
        url = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query, keep_blank_values=True).items()}
        return unquote(url.path).strip("/") if not url.path.endswith("/") else unquote(url.path)[1:], query

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            data = b"".join(parts)
        else:
            data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if "aws-chunked" not in self.headers.get("Content-Encoding", "") and not self.headers.get(
            "x-amz-content-sha256", ""
        ).startswith("STREAMING"):
            return data
        plain = []  # size[;signature] CRLF data CRLF ... 0 CRLF trailers
        while data:
            line, data = data.split(b"\r\n", 1)
            size = int(line.split(b";")[0], 16)
            if not size:
                break
            plain.append(data[:size])
            data = data[size + 2 :]
        return b"".join(plain)

    def _reply(self, code: int, body: bytes | str = b"", **headers: str) -> None:
        data = body.encode() if isinstance(body, str) else body
        self.send_response(code)
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _missing(self) -> None:
        self._reply(404, f"{HEADER}<Error><Code>NoSuchKey</Code><Message>none</Message></Error>")

    def do_HEAD(self) -> None:
        key, _ = self._target()
        if "/" not in key.rstrip("/"):
            self._reply(200)
        elif key in self.objects:
            self._reply(200, Content_Length=str(len(self.objects[key])), ETag='"x"', Last_Modified=DATE)
        else:
            self._reply(404)

    def do_GET(self) -> None:
        key, query = self._target()
        if "list-type" in query:
            return self._list(key.strip("/"), query)
        if key not in self.objects:
            return self._missing()
        data, wanted = self.objects[key], self.headers.get("Range")
        if not wanted:
            return self._reply(200, data, ETag='"x"', Last_Modified=DATE)
        first, last = wanted.removeprefix("bytes=").split("-")
        end = min(int(last or len(data) - 1), len(data) - 1)
        return self._reply(
            206, data[int(first) : end + 1], ETag='"x"', Content_Range=f"bytes {first}-{end}/{len(data)}"
        )

    def _list(self, bucket: str, query: dict[str, str]) -> None:
        prefix, delimiter = f"{bucket}/{query.get('prefix', '')}", query.get("delimiter")
        limit = int(query.get("max-keys", 100_000))
        names, folders = [], {}
        for key in sorted(self.objects):
            if key.startswith(prefix):
                rest = key[len(prefix) :]
                if delimiter and delimiter in rest:
                    folders[key[: len(prefix) + rest.index(delimiter) + 1]] = None
                else:
                    names.append(key)
        cut = len(bucket) + 1
        items = "".join(
            f"<Contents><Key>{escape(key[cut:])}</Key><Size>{len(self.objects[key])}</Size>"
            f"<LastModified>2024-01-01T00:00:00.000Z</LastModified><ETag>x</ETag></Contents>"
            for key in names[:limit]
        )
        items += "".join(f"<CommonPrefixes><Prefix>{escape(f[cut:])}</Prefix></CommonPrefixes>" for f in folders)
        count = len(names[:limit]) + len(folders)
        self._reply(
            200,
            f"{HEADER}<ListBucketResult><Name>{bucket}</Name><KeyCount>{count}</KeyCount>"
            f"<IsTruncated>false</IsTruncated>{items}</ListBucketResult>",
        )

    def do_PUT(self) -> None:
        key, query = self._target()
        body = self._body()
        if "uploadId" in query:
            self.uploads[query["uploadId"]][int(query["partNumber"])] = body
        else:
            self.objects[key] = body
        self._reply(200, ETag='"x"')

    def do_POST(self) -> None:
        key, query = self._target()
        body = self._body()
        if "uploads" in query:
            upload = uuid.uuid4().hex
            self.uploads[upload] = {}
            bucket, name = key.split("/", 1)
            text = f"<Bucket>{bucket}</Bucket><Key>{escape(name)}</Key><UploadId>{upload}</UploadId>"
            self._reply(200, f"{HEADER}<InitiateMultipartUploadResult>{text}</InitiateMultipartUploadResult>")
        elif "uploadId" in query:
            parts = self.uploads.pop(query["uploadId"])
            self.objects[key] = b"".join(parts[number] for number in sorted(parts))
            self._reply(200, f"{HEADER}<CompleteMultipartUploadResult><ETag>x</ETag></CompleteMultipartUploadResult>")
        elif "delete" in query:
            names = [node.text for node in ElementTree.fromstring(body).iter() if node.tag.endswith("Key")]
            for name in names:
                self.objects.pop(f"{key.strip('/')}/{name}", None)
            self._reply(200, f"{HEADER}<DeleteResult></DeleteResult>")
        else:
            self._reply(400)

    def do_DELETE(self) -> None:
        self.objects.pop(self._target()[0], None)
        self._reply(204)


DATE = "Mon, 01 Jan 2024 00:00:00 GMT"


@contextmanager
def serve_bucket() -> Iterator[tuple[str, dict[str, bytes]]]:
    """(its URL, its objects by ``bucket/key``) while the body runs."""
    handler = type("Handler", (_Handler,), {"objects": {}, "uploads": {}})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", handler.objects
    finally:
        server.shutdown()
        server.server_close()
