"""A bucket of Google Cloud Storage on this machine, for the client that TensorFlow has compiled in.

    with FakeBucket(folder) as bucket:
        subprocess.run([...], env={**os.environ, **bucket.environment})  # gs://any-name/…
        bucket.objects["any-name/runs/a/pipeline.config"]

The client speaks TLS with storage.googleapis.com and www.googleapis.com, and heeds the variables of a proxy and of
certificates: this is a proxy that answers for these hosts itself, with a certificate of its own, from a dictionary. As
in a bucket there are no folders, only names with slashes, and an object is there when its upload is complete.
"""

from __future__ import annotations

import datetime
import http.server
import json
import socketserver
import ssl
import threading
import urllib.parse
import uuid
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

HOSTS = ["storage.googleapis.com", "www.googleapis.com"]


class FakeBucket:
    """Buckets of every name; but `missing` does not exist, `forbidden` may not be used, and of `unseen` only objects.

    Args:
      folder: an empty folder for the certificate.
      page_size: the most names in one answer of a listing, so that clients have to ask for the next ones.
    """

    def __init__(self, folder: Path, page_size: int = 50) -> None:
        self.objects: dict[str, bytes] = {}  # "bucket/name of the object": its contents
        self.facts: dict[str, dict[str, str]] = {}  # the same keys: what a bucket tells of it
        self.written: list[str] = []  # these names, in the order in which the objects were complete
        self.requests: list[str] = []
        self.uploads: dict[str, tuple[str, bytearray]] = {}
        self.page_size = page_size
        self.lock = threading.RLock()
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        _write_certificate(folder)
        self.tls.load_cert_chain(folder / "server.pem")
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.bucket = self
        self.environment = {
            "https_proxy": f"http://127.0.0.1:{self._server.server_address[1]}",
            "no_proxy": "",
            "CURL_CA_BUNDLE": str(folder / "ca.pem"),
            "GOOGLE_AUTH_TOKEN_FOR_TESTING": "token",
            "NO_GCE_CHECK": "true",
        }

    def __enter__(self) -> FakeBucket:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def put(self, name: str, contents: bytes) -> None:
        """An object is complete from here on."""
        with self.lock:
            self.objects[name] = contents
            self.written.append(name)
            self.facts[name] = {
                "name": name.partition("/")[2],
                "size": str(len(contents)),
                "generation": str(len(self.written)),
                "updated": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            }


class _Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 64
    bucket: FakeBucket


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # which would wait 40 ms with each answer
    server: _Server

    def log_message(self, *_: object) -> None:
        pass

    def do_CONNECT(self) -> None:
        host = self.path.partition(":")[0]
        if host not in HOSTS:
            self.send_error(403, "this proxy leads nowhere")
            return
        self.send_response(200)
        self.end_headers()
        self.wfile.flush()
        try:
            self.connection = self.request = self.server.bucket.tls.wrap_socket(self.connection, server_side=True)
        except (ssl.SSLError, OSError):
            self.close_connection = True
            return
        self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb", buffering=0)
        self.close_connection = False

    def _answer(self, body: bytes | dict = b"", status: int = 200, **headers: str) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _error(self, status: int, message: str) -> None:
        self._answer(json.dumps({"error": {"code": status, "message": message}}, indent=2).encode(), status)

    def _missing(self) -> None:
        self._error(404, "Not Found")

    def _refuses(self, bucket: str) -> bool:
        """Answers a request for a bucket that nobody can use."""
        if bucket == "missing":
            self._error(404, "The specified bucket does not exist.")
        elif bucket == "forbidden":
            self._error(403, "me@example.com does not have storage.objects.get access to the object.")
        return bucket in ("missing", "forbidden")

    def _parts(self) -> tuple[list[str], dict[str, str]]:
        """The parts of the path, unquoted one by one, as a name may have slashes, and the arguments."""
        path, _, query = self.path.partition("?")
        self.server.bucket.requests.append(f"{self.command} {self.path}")
        return [urllib.parse.unquote(part) for part in path.split("/")[1:]], dict(urllib.parse.parse_qsl(query))

    def do_GET(self) -> None:
        bucket = self.server.bucket
        parts, arguments = self._parts()
        is_download = self.headers["Host"].startswith("storage.")
        if self._refuses(parts[0 if is_download else 3]):
            return None
        if is_download:
            contents = bucket.objects.get("/".join(parts))
            return self._missing() if contents is None else self._range(contents)
        _, _, _, name, *of_objects = parts  # storage/v1/b/BUCKET/o/OBJECT
        if not of_objects and name == "unseen":
            return self._error(403, "me@example.com does not have storage.buckets.get access to the bucket.")
        if not of_objects:
            return self._answer({"kind": "storage#bucket", "name": name, "location": "US"})
        if len(of_objects) == 1:
            return self._answer(self._listing(name, arguments))
        path = f"{name}/{of_objects[1]}"
        return self._answer(bucket.facts[path]) if path in bucket.objects else self._missing()

    def _range(self, contents: bytes) -> None:
        begin, _, end = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
        if int(begin) >= len(contents):
            return self._answer(b"", 416)
        return self._answer(contents[int(begin) : int(end) + 1 if end else None], 206)

    def _listing(self, name: str, arguments: dict[str, str]) -> dict:
        bucket, prefix = self.server.bucket, arguments.get("prefix", "")
        found: dict[str, str] = {}
        with bucket.lock:
            for path in sorted(bucket.objects):
                of, _, inside = path.partition("/")
                if of != name or not inside.startswith(prefix):
                    continue
                head, slash, _ = inside[len(prefix) :].partition(arguments.get("delimiter") or "\0")
                found[prefix + head + slash] = "prefixes" if slash else "items"
        start = int(arguments.get("pageToken", 0))
        end = start + min(int(arguments.get("maxResults", bucket.page_size)), bucket.page_size)
        answer: dict = {}
        for path in list(found)[start:end]:
            is_item = found[path] == "items"
            answer.setdefault(found[path], []).append(bucket.facts[f"{name}/{path}"] if is_item else path)
        if end < len(found):
            answer["nextPageToken"] = str(end)
        return answer

    def do_POST(self) -> None:
        bucket = self.server.bucket
        parts, arguments = self._parts()
        body = self._body()
        if self._refuses(parts[4 if parts[0] == "upload" else 3]):
            return None
        if parts[0] == "upload":  # upload/storage/v1/b/BUCKET/o?uploadType=resumable&name=OBJECT
            path = f"{parts[4]}/{arguments['name']}"
            if arguments["uploadType"] == "media":  # a marker of a folder: an empty object with a slash at its end
                if path in bucket.objects:
                    return self._error(412, "Precondition Failed")
                bucket.put(path, body)
                return self._answer(bucket.facts[path])
            session = uuid.uuid4().hex
            bucket.uploads[session] = (path, bytearray())
            return self._answer(b"", Location=f"https://www.googleapis.com/upload/session/{session}")
        # storage/v1/b/BUCKET/o/OBJECT/rewriteTo/b/BUCKET/o/OBJECT
        source, target = f"{parts[3]}/{parts[5]}", f"{parts[8]}/{parts[10]}"
        if source not in bucket.objects:
            return self._missing()
        bucket.put(target, bucket.objects[source])
        return self._answer({"kind": "storage#rewriteResponse", "done": True, "resource": bucket.facts[target]})

    def do_PUT(self) -> None:
        bucket = self.server.bucket
        parts, _ = self._parts()
        data = self._body()
        path, received = bucket.uploads[parts[2]]
        received += data
        total = self.headers.get("Content-Range", "bytes */*").rpartition("/")[2]  # bytes 0-9/10, bytes */0
        if total not in ("*", str(len(received))):
            return self._answer(b"", 308, Range=f"bytes=0-{len(received) - 1}")
        bucket.put(path, bytes(received))
        return self._answer(bucket.facts[path])

    def do_DELETE(self) -> None:
        parts, _ = self._parts()
        with self.server.bucket.lock:
            gone = self.server.bucket.objects.pop(f"{parts[3]}/{parts[5]}", None)
        return self._missing() if gone is None else self._answer(b"", 204)


def _write_certificate(folder: Path) -> None:
    """Writes ca.pem, and server.pem with the key: a certificate for `HOSTS` by an authority of its own."""
    today = datetime.datetime.now(datetime.timezone.utc)

    def certificate(subject: str, key: ec.EllipticCurvePrivateKey, extension: x509.ExtensionType) -> x509.Certificate:
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fake bucket")]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(today - datetime.timedelta(days=1))
            .not_valid_after(today + datetime.timedelta(days=30))
            .add_extension(extension, critical=False)
            .sign(ca_key, hashes.SHA256())
        )

    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    pem = serialization.Encoding.PEM
    authority = certificate("fake bucket", ca_key, x509.BasicConstraints(ca=True, path_length=None))
    served = certificate(HOSTS[0], key, x509.SubjectAlternativeName([x509.DNSName(host) for host in HOSTS]))
    key_bytes = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "ca.pem").write_bytes(authority.public_bytes(pem))
    (folder / "server.pem").write_bytes(key_bytes + served.public_bytes(pem))
