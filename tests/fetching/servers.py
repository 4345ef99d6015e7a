"""A Hugging Face Hub and a Google Drive on loopback: as much of both as their libraries ask for."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"
Reply = tuple[int, dict[str, str], bytes]
T = TypeVar("T", bound="Server")


class Server:
    """What a server answers, and the requests that it got."""

    address = ""

    def __init__(self) -> None:
        self.requested: list[str] = []

    def reply(self, path: str, headers: Any) -> Reply:
        raise NotImplementedError

    def break_after(self, path: str) -> int | None:
        return None


class Hub(Server):
    """Repositories by name, each of files by path; large ones are named by their SHA-256, as the hub does."""

    def __init__(self) -> None:
        super().__init__()
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.gated: set[str] = set()
        self.damaged = False

    def redirect(self, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
        from huggingface_hub import constants

        monkeypatch.setattr(constants, "ENDPOINT", self.address)
        template = f"{self.address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
        monkeypatch.setattr("huggingface_hub.hf_api.api.endpoint", self.address, raising=False)

    def reply(self, path: str, headers: Any) -> Reply:
        if found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            return self._file(found[1], found[2], found[3])
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(/.*)?", path.partition("?")[0]):
            return self._listing(found[1], found[2] or "")
        if path == "/api/validate-yaml":
            return 200, {"Content-Type": "application/json"}, b'{"errors": [], "warnings": []}'
        return 404, {}, b""

    def _refusal(self, repository: str, revision: str = "main") -> Reply | None:
        if repository not in self.repositories:
            return 401, {"X-Error-Code": "RepoNotFound"}, b""
        if repository in self.gated:
            return 401, {"X-Error-Code": "GatedRepo"}, b""
        return None if revision in ("main", COMMIT, "v1") else (404, {"X-Error-Code": "RevisionNotFound"}, b"")

    def _file(self, repository: str, revision: str, name: str) -> Reply:
        if refusal := self._refusal(repository, revision):
            return refusal
        content = self.repositories[repository].get(name)
        if content is None:
            return 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT}, b""
        digest = f'"{hashlib.sha256(content).hexdigest()}"'
        headers = {"X-Repo-Commit": COMMIT, "ETag": digest, "X-Linked-Etag": digest, "X-Linked-Size": str(len(content))}
        return 200, headers, bytes(len(content)) if self.damaged else content

    def _listing(self, repository: str, rest: str) -> Reply:
        parts = [part for part in rest.split("/") if part]
        if refusal := self._refusal(repository, parts[1] if len(parts) > 1 else "main"):
            return refusal
        files = self.repositories[repository]
        if parts[:1] == ["tree"]:
            entries: Any = [
                {
                    "type": "file",
                    "path": name,
                    "size": len(content),
                    "oid": hashlib.sha1(content).hexdigest(),
                    "lfs": {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130},
                }
                for name, content in files.items()
            ]
        else:
            entries = {"id": repository, "sha": COMMIT, "siblings": [{"rfilename": name} for name in files]}
        return 200, {"Content-Type": "application/json"}, json.dumps(entries).encode()


class Drive(Server):
    """Files by id, each with its name, and folders of such ids."""

    def __init__(self) -> None:
        super().__init__()
        self.files: dict[str, tuple[str, bytes]] = {}
        self.folders: dict[str, list[str]] = {}
        self.refusal = ""
        self.cut: int | None = None  # bytes after which the connection breaks, at any further attempt at once
        self.cut_listing: int | None = None
        self.ranges: list[int] = []

    def redirect(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import requests

        request, google = (
            requests.Session.request,
            r"https://(drive|docs|drive\.usercontent)\.google(usercontent)?\.com",
        )

        def redirected(session: Any, method: str, url: str, **options: Any) -> Any:
            return request(session, method, re.sub(google, self.address, url), **options)

        monkeypatch.setattr(requests.Session, "request", redirected)

    def reply(self, path: str, headers: Any) -> Reply:
        requested = urlsplit(path)
        (name,) = parse_qs(requested.query).get("id", [""])
        if requested.path == "/embeddedfolderview" and name in self.folders:
            links = [
                f'<a href="https://drive.google.com/file/d/{i}/view">{self.files[i][0]}</a>' for i in self.folders[name]
            ]
            return 200, {"Content-Type": "text/html"}, f"<title>models</title>{''.join(links)}".encode()
        if requested.path == "/uc" and name in self.files:
            return self._file(*self.files[name], headers)
        return 404, {}, b"<html>not found</html>"

    def break_after(self, path: str) -> int | None:
        if not path.startswith("/uc"):
            return self.cut_listing
        cut, self.cut = self.cut, None if self.cut is None else 0
        return cut

    def _file(self, name: str, content: bytes, headers: Any) -> Reply:
        if self.refusal:
            page = f'<p class="uc-error-subcaption">{self.refusal}</p>'
            return 200, {"Content-Type": "text/html"}, page.encode()
        found = {"Content-Disposition": f'attachment; filename="{name}"', "ETag": '"x"'}
        begin = int((re.fullmatch(r"bytes=(\d+)-", headers.get("Range", "")) or ["", "0"])[1])
        self.ranges.append(begin)
        if begin:
            found["Content-Range"] = f"bytes {begin}-{len(content) - 1}/{len(content)}"
        return 206 if begin else 200, found, content[begin:]


@contextmanager
def serving(server: T) -> Iterator[T]:
    """Let a server answer on a port of loopback within a block."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.requested.append(self.path)
            status, headers, body = server.reply(self.path, self.headers)
            self.send_response(status)
            usual = {"Content-Type": "application/octet-stream", "Content-Length": str(len(body))}
            for name, value in (usual | headers).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body[: server.break_after(self.path)])

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.do_GET()

        def do_HEAD(self) -> None:
            self.do_GET()

        def log_message(self, *args: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.address = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        thread.join()
        http.server_close()
