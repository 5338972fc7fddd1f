"""A model hub on loopback that answers as the API of huggingface.co does.

The fixture ``fake_hub`` of ``tests/conftest.py`` starts one, points ``HF_ENDPOINT`` to it, and
gives each test an empty cache of its own::

    def test_an_encoder_is_fetched(fake_hub: FakeHub) -> None:
        commit = fake_hub.add("owner/encoder", {"config.json": b"{}", "model.safetensors": data})
        fake_hub.add("owner/encoder", folder, revision="v2")    # files of a folder, on a branch
        folder = tcgn_mil.hub.download("owner/encoder", ["*.json", "*.safetensors"])

``add`` makes a commit that holds the given files and no others, on ``main`` unless a revision is
given. These settings make the hub unkind:

- ``fake_hub.repos[name].private = True``: only accounts with a token see it (``fake_hub.log_in``).
- ``fake_hub.repos[name].gated = True``: anybody sees the page and the list of files, but the files
  are refused with the code GatedRepo: 401 without a token, 403 with one.
- ``fake_hub.repos[name].refuse = 503``: each request for the repository has this status.
- ``fake_hub.cuts["model.safetensors"] = [1000, 0]``: the next two downloads of a file of this name
  end after 1000 and after 0 more bytes, and the connection is closed.
- ``fake_hub.lfs = (".safetensors",)``: files with these endings are uploaded by git LFS in place of
  the commit itself. hf_xet has to be off (``huggingface_hub.constants.HF_HUB_DISABLE_XET``).

``fake_hub.log_in(monkeypatch, "write")`` and ``"read"`` set a token. ``fake_hub.requests`` lists
what was asked for, as ``GET /owner/encoder/resolve/...``. ``fake_hub.stop()`` makes it unreachable.

Not imitated: redirects to a storage server, xet, multi-part uploads, and paging of lists.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

MAIN = "main"
Files = dict[str, bytes]


@dataclass
class FakeRepo:
    """A repository: the files of each commit, and the commit of each branch."""

    commits: dict[str, Files] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    private: bool = False
    gated: bool = False
    refuse: int | None = None

    def commit(self, files: Files, branch: str, message: str = "") -> str:
        """Make a commit that holds these files, and return its hash."""
        text = repr((sorted(files.items()), branch, len(self.commits)))
        sha = hashlib.sha1(text.encode()).hexdigest()
        self.commits[sha] = dict(files)
        self.branches[branch] = sha
        self.messages.append(message)
        return sha

    def resolve(self, revision: str) -> str | None:
        """Return the commit of a branch or of the hash of a commit."""
        return revision if revision in self.commits else self.branches.get(revision)

    def files(self, revision: str = MAIN) -> Files:
        """Return the files of a revision."""
        return self.commits[self.resolve(revision) or ""]


class FakeHub:
    """The hub; used as a context manager, it runs in threads of this process."""

    def __init__(self) -> None:
        self.repos: dict[str, FakeRepo] = {}
        self.cuts: dict[str, list[int]] = {}
        self.lfs: tuple[str, ...] = ()
        self.stored: Files = {}
        self.tokens = {"hf_write": "write", "hf_read": "read"}
        self.requests: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {}))
        self._server.daemon_threads = True
        self._server.RequestHandlerClass.hub = self  # type: ignore[attr-defined]
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.connections: set[socket.socket] = set()
        self._stopped = False

    def __enter__(self) -> FakeHub:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop answering; connections are refused from now on."""
        if not self._stopped:
            self._stopped = True
            self._server.shutdown()
            self._server.server_close()
            # Clients keep connections open, and would be answered on these.
            for each in list(self.connections):
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def add(self, name: str, files: Mapping[str, bytes] | Path, *, revision: str = MAIN) -> str:
        """Commit files, or those of a folder, to a repository, and return the commit."""
        if isinstance(files, Path):
            paths = sorted(path for path in files.rglob("*") if path.is_file())
            files = {path.relative_to(files).as_posix(): path.read_bytes() for path in paths}
        return self.repos.setdefault(name, FakeRepo()).commit(dict(files), revision)

    def log_in(self, monkeypatch: pytest.MonkeyPatch, access: str) -> None:
        """Set a token of an account that may write, or only read."""
        monkeypatch.setenv("HF_TOKEN", f"hf_{access}")

    def downloads(self, name: str) -> int:
        """Return how often the content of a file was asked for."""
        return sum(each.startswith("GET ") and each.endswith(f"/{name}") for each in self.requests)


def use_hub(hub: FakeHub, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    """Point the environment to a hub and to an empty cache, with nobody logged in."""
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("HF_HUB_CACHE", str(cache))
    monkeypatch.setenv("HF_TOKEN_PATH", str(cache / "no-token"))
    for name in ("HF_HUB_OFFLINE", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: FakeHub

    def setup(self) -> None:
        """Note the connection, so that it can be closed."""
        super().setup()
        self.hub.connections.add(self.connection)

    def finish(self) -> None:
        """Forget the connection."""
        self.hub.connections.discard(self.connection)
        super().finish()

    def log_message(self, *_: Any) -> None:
        """Write nothing to standard error."""

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    @property
    def _access(self) -> str | None:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        return self.hub.tokens.get(token)

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{self.command} {path}")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        words = path.strip("/").split("/")
        if self.headers.get("Authorization") and self._access is None:
            self._error(401, message="Invalid credentials in Authorization header")
        elif words[:2] == ["api", "validate-yaml"]:
            self._json({"errors": [], "warnings": []})
        elif words[:3] == ["api", "repos", "create"]:
            self._create(json.loads(body))
        elif words[:2] == ["api", "models"]:
            self._in_repo("/".join(words[2:4]), words[4:], body)
        elif words[0] == "lfs":
            self.hub.stored[words[1]] = body
            self._json({})
        elif words[1].endswith(".git"):
            self._in_repo(f"{words[0]}/{words[1].removesuffix('.git')}", ["lfs"], body)
        else:
            self._in_repo("/".join(words[:2]), words[2:], body)

    def _in_repo(self, name: str, words: list[str], body: bytes) -> None:
        repo = self.hub.repos.get(name)
        if repo is None or (repo.private and self._access is None):
            # The hub does not tell strangers whether a private repository exists.
            self._error(404 if self._access else 401, "RepoNotFound", "Repository not found")
            return
        if repo.refuse is not None:
            self._error(repo.refuse)
            return
        if words and words[0] in ("preupload", "commit", "branch", "lfs"):
            self._write(name, repo, words, body)
            return
        revision = words[1] if len(words) > 1 else MAIN
        sha = repo.resolve(revision)
        if sha is None:
            self._error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        elif words and words[0] == "resolve":
            self._send_file(repo, sha, "/".join(words[2:]))
        elif words and words[0] == "tree":
            self._json([_entry(path, data) for path, data in sorted(repo.commits[sha].items())])
        else:
            files = [{"rfilename": path} for path in sorted(repo.commits[sha])]
            about = {"id": name, "modelId": name, "sha": sha, "siblings": files, "tags": []}
            self._json(
                {**about, "private": repo.private, "gated": "manual" if repo.gated else False}
            )

    def _send_file(self, repo: FakeRepo, sha: str, path: str) -> None:
        if repo.gated:
            self._error(403 if self._access else 401, "GatedRepo", "Access to model is restricted")
            return
        if path not in repo.commits[sha]:
            self._error(404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": sha})
            return
        data = repo.commits[sha][path]
        headers = {"X-Repo-Commit": sha, "ETag": f'"{_oid(data)}"', "Accept-Ranges": "bytes"}
        start = 0
        if (wanted := self.headers.get("Range")) is not None:
            start = int(wanted.removeprefix("bytes=").partition("-")[0])
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        content = data[start:]
        self._start(206 if wanted else 200, len(content), headers)
        if self.command == "HEAD":
            return
        cuts = self.hub.cuts.get(path.rpartition("/")[2])
        if cuts:
            content = content[: cuts.pop(0)]
            self.close_connection = True
        with contextlib.suppress(ConnectionError):
            self.wfile.write(content)

    def _create(self, wanted: dict[str, Any]) -> None:
        name = f"{wanted['organization']}/{wanted['name']}"
        if self._access != "write":
            self._error(403 if self._access else 401, message="You may not create it")
        elif name in self.hub.repos:
            self._error(409, message="You already created this repo", url=f"{self.hub.url}/{name}")
        else:
            # The library has sent one or the other in different versions.
            private = wanted.get("visibility") == "private" or wanted.get("private") is True
            self.hub.repos[name] = FakeRepo(private=private)
            self.hub.repos[name].commit({}, MAIN)
            self._json({"url": f"{self.hub.url}/{name}"})

    def _write(self, name: str, repo: FakeRepo, words: list[str], body: bytes) -> None:
        if self._access != "write":
            self._error(403 if self._access else 401, message="You may not write to it")
        elif words[0] == "lfs":
            self._json({"objects": [self._place(each) for each in json.loads(body)["objects"]]})
        elif words[0] == "branch":
            self._branch(repo, words[1], (json.loads(body) if body else {}).get("startingPoint"))
        elif words[0] == "preupload":
            self._json({"files": [self._mode(each["path"]) for each in json.loads(body)["files"]]})
        else:
            lines = [json.loads(line) for line in body.splitlines()]
            branch = words[1]
            sha = repo.resolve(branch)
            if sha is None:
                self._error(404, "RevisionNotFound", f"Invalid rev id: {branch}")
                return
            files = dict(repo.commits[sha])
            for line in lines:
                value = line["value"]
                if line["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    files[value["path"]] = self.hub.stored[value["oid"]]
                elif line["key"] == "deletedFile":
                    files.pop(value["path"], None)
            sha = repo.commit(files, branch, lines[0]["value"]["summary"])
            self._json({"commitUrl": f"{self.hub.url}/{name}/commit/{sha}", "commitOid": sha})

    def _branch(self, repo: FakeRepo, branch: str, start: str | None) -> None:
        if branch in repo.branches:
            self._error(409, message="Reference already exists")
        else:
            repo.branches[branch] = repo.branches[start or MAIN]
            self._json({})

    def _mode(self, path: str) -> dict[str, Any]:
        mode = "lfs" if self.hub.lfs and path.endswith(self.hub.lfs) else "regular"
        return {"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": None}

    def _place(self, wanted: dict[str, Any]) -> dict[str, Any]:
        return {**wanted, "actions": {"upload": {"href": f"{self.hub.url}/lfs/{wanted['oid']}"}}}

    def _start(self, status: int, length: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def _json(self, content: Any) -> None:
        data = json.dumps(content).encode()
        self._start(200, len(data), {"Content-Type": "application/json"})
        if self.command != "HEAD":
            self.wfile.write(data)

    def _error(
        self,
        status: int,
        code: str = "",
        message: str = "refused",
        headers: Mapping[str, str] | None = None,
        **content: str,
    ) -> None:
        data = json.dumps({"error": message, **content}).encode()
        codes = {"X-Error-Code": code} if code else {}
        about = {**codes, "X-Error-Message": message, "Content-Type": "application/json"}
        self._start(status, len(data), {**about, **(headers or {})})
        if self.command != "HEAD":
            self.wfile.write(data)


def _oid(data: bytes) -> str:
    """Return the name that git gives to content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _entry(path: str, data: bytes) -> dict[str, Any]:
    return {"type": "file", "path": path, "size": len(data), "oid": _oid(data)}
