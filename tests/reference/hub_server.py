"""A Hugging Face Hub on the loopback device: enough of its protocol for the real client.

Repositories of models with branches, commits, regular and LFS files (single and multi-part
uploads with verification), private repositories, downloads with redirects and ranges; no Xet, which
the client leaves alone where HF_HUB_DISABLE_XET is set. Connections can be broken on purpose.

    with HubServer(token="hf_secret") as hub:
        subprocess.run(..., env={**os.environ, **hub.environment(tmp_path)})

It imports nothing of ours, and keeps everything in memory.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.reference.hub_storage import Blob, Commit, Faults, Repository, card_problems


class HubServer:
    """The server; use it as a context manager.

    Attributes:
        repositories: by ``owner/name``.
        requests: ``(method, path, headers, body)`` of everything that came.
        uploads: SHA-256 of every file that came whole, in order.
        faults: see `Faults`.
        part_size: bytes of a part in multi-part uploads; None for single ones.
    """

    def __init__(self, token: str, user: str = "tester", part_size: int | None = None) -> None:
        self.token, self.user, self.part_size = token, user, part_size
        self.repositories: dict[str, Repository] = {}
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        self.uploads: list[str] = []
        self.faults = Faults()
        self.stored: dict[str, bytes] = {}
        self.parts: dict[str, dict[int, bytes]] = {}
        self.lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{port}"
        # The storage of large files is another host, which must never see the token.
        self.storage = f"http://localhost:{port}"

    def __enter__(self) -> HubServer:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def environment(self, home: Path) -> dict[str, str]:
        """Variables that make the client use this server, with its files below `home`."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_TOKEN": self.token,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_UPDATE_CHECK": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "no_proxy": "127.0.0.1,localhost",
        }

    def files(self, name: str, revision: str = "main") -> dict[str, bytes]:
        """Contents of a repository's files."""
        repository = self.repositories[name]
        oid = repository.find(revision)
        assert oid is not None, f"no revision {revision} in {name}"
        return {path: blob.content for path, blob in repository.commits[oid].files.items()}


_Answer = tuple[int, Any, dict[str, str]]
_MODEL = r"/api/models/(?P<name>[^/]+/[^/]+)"
_FILE = r"/(?P<name>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)"


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    hub: HubServer

    def log_message(self, *_: object) -> None:
        """Nothing on the terminal."""

    def do_GET(self) -> None:
        self._serve("GET")

    def do_HEAD(self) -> None:
        self._serve("HEAD")

    def do_POST(self) -> None:
        self._serve("POST")

    def do_PUT(self) -> None:
        self._serve("PUT")

    def _serve(self, method: str) -> None:
        path = urlsplit(self.path).path
        length = int(self.headers.get("Content-Length") or 0)
        if method == "PUT" and self.hub.faults.strikes("broken_uploads"):
            self.rfile.read(length // 2)
            self._hang_up()
            return
        body = self._body(length)
        with self.hub.lock:
            self.hub.requests.append((method, self.path, dict(self.headers), body))
            if self.hub.faults.strikes("unavailable"):
                self._send(503, {"error": "try again"}, {})
                return
            for verb, pattern, act in _ROUTES:
                found = re.fullmatch(pattern, path)
                if found and verb in (method, "GET" if method == "HEAD" else method):
                    match = {key: unquote(value) for key, value in found.groupdict().items()}
                    answer = act(self, body, **match)
                    break
            else:
                answer = (404, {"error": f"no route {method} {path}"}, {})
        if answer is not None:
            self._send(*answer)

    def _body(self, length: int) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(length)
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _hang_up(self) -> None:
        self.close_connection = True
        self.connection.close()

    def _send(self, status: int, content: Any, headers: dict[str, str]) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        half = len(data) // 2 if "X-Break" in headers else None
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        if "Content-Length" not in headers:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data[:half])
        if half is not None:
            self._hang_up()

    # -- who may do what

    def _known(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {self.hub.token}"

    def _repository(self, name: str, write: bool = False) -> Repository | _Answer:
        repository = self.hub.repositories.get(name)
        if write and not self._known():
            return 401, {"error": "Invalid username or password."}, {}
        if repository is None or (repository.private and not self._known()):
            status = 404 if self._known() else 401
            return status, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"}
        return repository

    # -- the API

    def whoami(self, _: bytes) -> _Answer:
        if not self._known():
            return 401, {"error": "Invalid user token."}, {}
        return 200, {"type": "user", "name": self.hub.user, "orgs": []}, {}

    def create(self, body: bytes) -> _Answer:
        if not self._known():
            return 401, {"error": "Invalid username or password."}, {}
        asked = json.loads(body)
        name = f"{asked.get('organization') or self.hub.user}/{asked['name']}"
        url = f"{self.hub.url}/{name}"
        if name in self.hub.repositories:
            return 409, {"error": "You already created this model repo", "url": url}, {}
        repository = Repository(asked.get("visibility") == "private")
        first = {".gitattributes": Blob(b"*.pth filter=lfs diff=lfs merge=lfs -text\n", False)}
        repository.add("main", Commit(first, "initial commit", None))
        self.hub.repositories[name] = repository
        return 200, {"url": url, "name": name}, {}

    def validate(self, body: bytes) -> _Answer:
        """As the Hub does: front matter must be YAML, and a model-index complete."""
        warnings, errors = card_problems(json.loads(body)["content"])
        said = {"errors": [{"message": e} for e in errors]}
        said["warnings"] = [{"message": w} for w in warnings]
        return (400 if errors else 200), said, {}

    def branch(self, body: bytes, name: str, branch: str) -> _Answer:
        repository = self._repository(name, write=True)
        if isinstance(repository, tuple):
            return repository
        if branch in repository.branches:
            return 409, {"error": "Reference already exists"}, {}
        start = repository.find(json.loads(body or b"{}").get("startingPoint", "main"))
        if start is None:
            return 404, {"error": "no such start"}, {"X-Error-Code": "RevisionNotFound"}
        repository.branches[branch] = start
        return 200, {}, {}

    def preupload(self, body: bytes, name: str, revision: str) -> _Answer:
        repository = self._repository(name, write=True)
        if isinstance(repository, tuple):
            return repository
        oid = repository.find(revision)
        if oid is None:
            return 404, {"error": "Invalid rev"}, {"X-Error-Code": "RevisionNotFound"}
        there = repository.commits[oid].files
        files = []
        for file in json.loads(body)["files"]:
            sample = base64.b64decode(file["sample"])
            lfs = b"\0" in sample or file["size"] > 10 << 20 or file["path"].endswith(".pth")
            known = there.get(file["path"])
            remote = None if known is None else (known.sha256 if known.lfs else known.oid)
            files.append(
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if lfs else "regular",
                    "shouldIgnore": False,
                    "oid": remote,
                }
            )
        return 200, {"files": files}, {}

    def lfs_batch(self, body: bytes, name: str) -> _Answer:
        repository = self._repository(name, write=True)
        if isinstance(repository, tuple):
            return repository
        objects = []
        for asked in json.loads(body)["objects"]:
            oid, size = asked["oid"], asked["size"]
            entry: dict[str, Any] = {"oid": oid, "size": size}
            if oid not in self.hub.stored:
                verify = {"href": f"{self.hub.url}/lfs/verify/{oid}", "header": {}}
                entry["actions"] = {"upload": self._upload_action(oid, size), "verify": verify}
                if self.hub.part_size:
                    del entry["actions"]["verify"]
            objects.append(entry)
        transfer = "multipart" if self.hub.part_size else "basic"
        return 200, {"transfer": transfer, "objects": objects}, {}

    def _upload_action(self, oid: str, size: int) -> dict[str, Any]:
        base = f"{self.hub.storage}/lfs"
        part = self.hub.part_size
        if part is None:
            return {"href": f"{base}/store/{oid}?signature=1", "header": {}}
        header = {"chunk_size": str(part)}
        for n in range(-(-size // part)):
            header[f"{n + 1:05d}"] = f"{base}/part/{oid}/{n + 1}?signature=1"
        return {"href": f"{self.hub.url}/lfs/complete/{oid}", "header": header}

    def store(self, body: bytes, oid: str) -> _Answer:
        if hashlib.sha256(body).hexdigest() != oid:
            return 400, {"error": "checksum differs"}, {}
        self.hub.stored[oid] = body
        self.hub.uploads.append(oid)
        return 200, b"", {}

    def part(self, body: bytes, oid: str, number: str) -> _Answer:
        self.hub.parts.setdefault(oid, {})[int(number)] = body
        return 200, b"", {"ETag": f'"{hashlib.md5(body).hexdigest()}"'}

    def complete(self, body: bytes, oid: str) -> _Answer:
        parts = self.hub.parts.get(oid, {})
        named = [part["partNumber"] for part in json.loads(body)["parts"]]
        return self.store(b"".join(parts[n] for n in named), oid)

    def verify(self, body: bytes, oid: str) -> _Answer:
        asked = json.loads(body)
        if not self._known():
            return 401, {"error": "who?"}, {}
        stored = self.hub.stored.get(oid)
        good = stored is not None and asked == {"oid": oid, "size": len(stored)}
        return (200 if good else 404), {}, {}

    def commit(self, body: bytes, name: str, revision: str) -> _Answer | None:
        repository = self._repository(name, write=True)
        if isinstance(repository, tuple):
            return repository
        parent = repository.branches.get(revision)
        if parent is None:
            return 404, {"error": "Invalid rev"}, {"X-Error-Code": "RevisionNotFound"}
        files, message = dict(repository.commits[parent].files), ""
        for line in body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "header":
                message = value["summary"]
            elif item["key"] == "file":
                assert value["encoding"] == "base64"
                files[value["path"]] = Blob(base64.b64decode(value["content"]), False)
            elif item["key"] == "lfsFile":
                stored = self.hub.stored.get(value["oid"])
                if stored is None:
                    return 400, {"error": "LFS object was never uploaded"}, {}
                files[value["path"]] = Blob(stored, True)
            elif item["key"] == "deletedFile":
                del files[value["path"]]
        oid = repository.add(revision, Commit(files, message, parent))
        if self.hub.faults.strikes("lost_commits"):
            self._hang_up()
            return None
        url = f"{self.hub.url}/{name}/commit/{oid}"
        return 200, {"success": True, "commitOid": oid, "commitUrl": url}, {}

    def info(self, _: bytes, name: str, revision: str = "main") -> _Answer:
        repository = self._repository(name)
        if isinstance(repository, tuple):
            return repository
        oid = repository.find(revision)
        if oid is None:
            return 404, {"error": "Invalid rev"}, {"X-Error-Code": "RevisionNotFound"}
        siblings = [{"rfilename": path} for path in sorted(repository.commits[oid].files)]
        said = {"id": name, "sha": oid, "private": repository.private, "siblings": siblings}
        return 200, {**said, "tags": [], "downloads": 0}, {}

    def tree(self, _: bytes, name: str, revision: str) -> _Answer:
        repository = self._repository(name)
        if isinstance(repository, tuple):
            return repository
        oid = repository.find(revision)
        if oid is None:
            return 404, {"error": "Invalid rev"}, {"X-Error-Code": "RevisionNotFound"}
        entries: list[dict[str, Any]] = []
        for path, blob in sorted(repository.commits[oid].files.items()):
            entry = {"type": "file", "path": path, "oid": blob.oid, "size": len(blob.content)}
            if blob.lfs:
                lfs = {"oid": blob.sha256, "size": len(blob.content)}
                entry["lfs"] = {**lfs, "pointerSize": len(blob.pointer)}
            entries.append(entry)
        return 200, entries, {}

    def resolve(self, _: bytes, name: str, revision: str, path: str) -> _Answer:
        repository = self._repository(name)
        if isinstance(repository, tuple):
            return repository
        oid = repository.find(revision)
        if oid is None:
            return 404, {"error": "Invalid rev"}, {"X-Error-Code": "RevisionNotFound"}
        blob = repository.commits[oid].files.get(path)
        headers = {"X-Repo-Commit": oid}
        if blob is None:
            return 404, b"Entry not found", {**headers, "X-Error-Code": "EntryNotFound"}
        if blob.lfs:
            headers["X-Linked-Etag"] = f'"{blob.sha256}"'
            headers["X-Linked-Size"] = str(len(blob.content))
            headers["Location"] = f"{self.hub.storage}/cdn/{blob.sha256}"
            return 302, b"", headers
        return self._download(blob.content, {**headers, "ETag": f'"{blob.oid}"'})

    def cdn(self, _: bytes, oid: str) -> _Answer:
        return self._download(self.hub.stored[oid], {"ETag": f'"{oid}"'})

    def _download(self, content: bytes, headers: dict[str, str]) -> _Answer:
        status, total = 200, len(content)
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked:
            start, end = int(asked[1]), min(int(asked[2] or total), total - 1)
            headers["Content-Range"] = f"bytes {start}-{end}/{total}"
            status, content = 206, content[start : end + 1]
        if self.command == "GET" and self.hub.faults.strikes("broken_downloads"):
            headers["X-Break"] = "1"
        return status, content, {**headers, "Content-Length": str(len(content))}


_Act = Callable[..., _Answer | None]
_ROUTES: tuple[tuple[str, str, _Act], ...] = (
    ("GET", "/api/whoami-v2", _Handler.whoami),
    ("POST", "/api/repos/create", _Handler.create),
    ("POST", "/api/validate-yaml", _Handler.validate),
    ("POST", _MODEL + "/branch/(?P<branch>.+)", _Handler.branch),
    ("POST", _MODEL + "/preupload/(?P<revision>.+)", _Handler.preupload),
    ("POST", _MODEL + "/commit/(?P<revision>.+)", _Handler.commit),
    ("POST", r"/(?P<name>[^/]+/[^/]+)\.git/info/lfs/objects/batch", _Handler.lfs_batch),
    ("PUT", "/lfs/store/(?P<oid>[0-9a-f]{64})", _Handler.store),
    ("PUT", "/lfs/part/(?P<oid>[0-9a-f]{64})/(?P<number>[0-9]+)", _Handler.part),
    ("POST", "/lfs/complete/(?P<oid>[0-9a-f]{64})", _Handler.complete),
    ("POST", "/lfs/verify/(?P<oid>[0-9a-f]{64})", _Handler.verify),
    ("GET", _MODEL, _Handler.info),
    ("GET", _MODEL + "/revision/(?P<revision>.+)", _Handler.info),
    ("GET", _MODEL + "/tree/(?P<revision>[^/]+)", _Handler.tree),
    ("GET", _FILE, _Handler.resolve),
    ("GET", "/cdn/(?P<oid>[0-9a-f]{64})", _Handler.cdn),
)
