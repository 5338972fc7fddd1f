"""A server on loopback that answers as the GDC's API User's Guide says, with faults on request."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

RELEASE = "Data Release 45.0 - December 04, 2025"
_COUNTING = threading.Lock()
STAR_SUFFIX = ".rna_seq.augmented_star_gene_counts.tsv"


def star_counts(counts: tuple[int, ...]) -> bytes:
    """A STAR-count file of a few genes, with the columns that the GDC writes."""
    header = "gene_id gene_name gene_type unstranded stranded_first stranded_second"
    header += " tpm_unstranded fpkm_unstranded fpkm_uq_unstranded"
    lines = ["# gene-model: GENCODE v36", header.replace(" ", "\t")]
    lines.append("N_unmapped\t\t\t1000\t1000\t1000\t\t\t")
    for number, count in enumerate(counts, start=1):
        tpm = 1e6 * count / sum(counts)
        lines.append(
            f"ENSG{number:011d}.1\tGENE{number}\tprotein_coding\t{count}\t{count}\t0"
            f"\t{tpm:.4f}\t{tpm:.4f}\t{tpm:.4f}"
        )
    return ("\n".join(lines) + "\n").encode()


def identifier(name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, name))


@dataclass
class Store:
    """What the server has, the faults it is to show, and the requests that it got.

    Attributes
    ----------
    projects, cases, files
        Entities, as the API's endpoints return them.
    contents
        Bytes by path.
    faults
        Faults by path, each used up by one request: ``cut``, ``busy``, ``wrong``, ``redirect``,
        ``forbidden``, ``gone``, ``no-range``, ``other-range``, ``other-total``, ``longer``,
        ``not-json``, ``shuffled``.
    requests
        Method, path and Range header of each request.
    pause_s
        Seconds that each file takes.
    active, peak
        Number of files on their way, and its maximum.
    """

    projects: list[dict[str, Any]] = field(default_factory=list)
    cases: list[dict[str, Any]] = field(default_factory=list)
    files: list[dict[str, Any]] = field(default_factory=list)
    contents: dict[str, bytes] = field(default_factory=dict)
    faults: dict[str, list[str]] = field(default_factory=dict)
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    questions: list[dict[str, Any]] = field(default_factory=list)
    address: str = ""
    pause_s: float = 0.0
    active: int = 0
    peak: int = 0

    def add_project(self, project: str) -> None:
        self.projects.append({"id": project, "project_id": project, "name": project})

    def add_case(self, patient: str, project: str, **clinical: Any) -> None:
        self.cases.append(
            {
                "case_id": identifier(patient),
                "submitter_id": patient,
                "project": {"project_id": project},
                "index_date": "Diagnosis",
                "primary_site": "Colon",
                **clinical,
            }
        )

    def add_file(self, name: str, content: bytes, patient: str, project: str, **more: Any) -> str:
        """Add a file; returns the path under which it is fetched."""
        file_id = identifier(name)
        sample = more.pop("sample", {"submitter_id": f"{patient}-01A", "tissue_type": "Tumor"})
        self.files.append(
            {
                "id": file_id,
                "file_id": file_id,
                "file_name": name,
                "md5sum": hashlib.md5(content).hexdigest(),
                "file_size": len(content),
                "access": "open",
                "state": "released",
                "cases": [
                    {
                        "submitter_id": patient,
                        "project": {"project_id": project},
                        "samples": [sample],
                    }
                ],
                **more,
            }
        )
        path = f"/data/{file_id}"
        self.contents[path] = content
        return path

    def add_slide(self, name: str, content: bytes, patient: str, project: str, **more: Any) -> str:
        strategy = "Diagnostic Slide" if "-DX" in name else "Tissue Slide"
        kind = {"data_type": "Slide Image", "experimental_strategy": strategy}
        return self.add_file(name, content, patient, project, **{**kind, **more})

    def add_star(self, counts: tuple[int, ...], patient: str, project: str, **more: Any) -> str:
        name = f"{identifier(patient + 'star')}{STAR_SUFFIX}"
        kind = {
            "data_type": "Gene Expression Quantification",
            "data_category": "Transcriptome Profiling",
            "analysis": {"workflow_type": "STAR - Counts"},
        }
        return self.add_file(name, star_counts(counts), patient, project, **{**kind, **more})

    def fetched(self, path: str) -> list[str]:
        """The Range headers of the requests for a path; empty text where there was none."""
        return [
            wanted for method, asked, wanted in self.requests if (method, asked) == ("GET", path)
        ]


def values_at(entity: Any, dotted: str) -> list[Any]:
    """All values of a field; lists on the way are searched."""
    if isinstance(entity, list):
        return [value for item in entity for value in values_at(item, dotted)]
    if not dotted:
        return [entity]
    key, _, rest = dotted.partition(".")
    return values_at(entity[key], rest) if isinstance(entity, dict) and key in entity else []


def fits(entity: dict[str, Any], filters: dict[str, Any] | None) -> bool:
    if filters is None:
        return True
    if filters["op"] == "and":
        return all(fits(entity, part) for part in filters["content"])
    assert filters["op"] == "in"
    wanted = filters["content"]["value"]
    return any(value in wanted for value in values_at(entity, filters["content"]["field"]))


def selected(entity: Any, fields: list[str]) -> Any:
    """The entity with the fields that were asked for, as the API returns it."""
    if isinstance(entity, list):
        return [selected(item, fields) for item in entity]
    heads: dict[str, list[str]] = {}
    for name in fields:
        key, _, rest = name.partition(".")
        heads.setdefault(key, []).append(rest)
    return {
        key: entity[key] if rests == [""] else selected(entity[key], rests)
        for key, rests in heads.items()
        if isinstance(entity, dict) and key in entity
    }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store: Store

    def log_message(self, *arguments: Any) -> None:
        """Keep the tests quiet."""

    def do_HEAD(self) -> None:
        self._serve_file(head=True)

    def do_GET(self) -> None:
        with _COUNTING:
            self.store.active += 1
            self.store.peak = max(self.store.peak, self.store.active)
        time.sleep(self.store.pause_s)
        self._get()
        with _COUNTING:
            self.store.active -= 1

    def _get(self) -> None:
        if self.path == "/status":
            fault = self._fault()
            if fault == "busy":
                self._send(503, b"", {"Retry-After": "0"})
                return
            self._send_json(
                {"commit": "74e1e35", "data_release": RELEASE, "status": "OK", "version": 1}
            )
            return
        self._serve_file()

    def do_POST(self) -> None:
        self.store.requests.append(("POST", self.path, ""))
        question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.store.questions.append({"endpoint": self.path.strip("/"), **question})
        fault = self._fault(log=False)
        if fault == "not-json":
            self._send(200, b"<html>maintenance</html>", {"Content-Type": "text/html"})
            return
        entities = getattr(self.store, self.path.strip("/"))
        hits = [entity for entity in entities if fits(entity, question.get("filters"))]
        key = question["sort"].removesuffix(":asc")
        hits.sort(key=lambda entity: entity[key], reverse=fault == "shuffled")
        start, size = question["from"], question["size"]
        page = [selected(hit, question["fields"].split(",")) for hit in hits[start : start + size]]
        pagination = {
            "count": len(page),
            "total": len(hits),
            "size": size,
            "from": start,
            "sort": question["sort"],
            "page": start // size + 1,
            "pages": -(-len(hits) // size),
        }
        self._send_json({"data": {"hits": page, "pagination": pagination}, "warnings": {}})

    def _fault(self, *, log: bool = True) -> str:
        if log:
            self.store.requests.append((self.command, self.path, self.headers.get("Range", "")))
        waiting = self.store.faults.get(self.path, [])
        return waiting.pop(0) if waiting else ""

    def _serve_file(self, *, head: bool = False) -> None:
        if head:
            self.store.requests.append(("HEAD", self.path, ""))
            fault = ""
        else:
            fault = self._fault()
        path = self.path.removeprefix("/stored")
        content = self.store.contents.get(path)
        if content is None or fault == "gone":
            self._send(404, b'{"message": "not found"}')
        elif fault == "forbidden":
            self._send(403, b'{"message": "you do not have access"}')
        elif fault == "busy":
            self._send(503, b"busy", {"Retry-After": "0"})
        elif fault == "redirect":
            self._send(302, b"", {"Location": f"/stored{path}"})
        else:
            self._send_content(content, fault, head=head)

    def _send_content(self, content: bytes, fault: str, *, head: bool) -> None:
        if fault == "wrong":
            content = bytes(len(content))
        if fault == "longer":
            content += b"more"
        wanted = self.headers.get("Range")
        if wanted and fault != "no-range":
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            if start >= len(content):
                self._send(416, b"", {"Content-Range": f"bytes */{len(content)}"})
                return
            start = 0 if fault == "other-range" else start
            total = len(content) + (fault == "other-total")
            where = f"bytes {start}-{len(content) - 1}/{total}"
            self._send(206, content[start:], {"Content-Range": where}, fault, head=head)
        else:
            self._send(200, content, {}, fault, head=head)

    def _send_json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(
        self,
        status: int,
        body: bytes,
        headers: dict[str, str] | None = None,
        fault: str = "",
        *,
        head: bool = False,
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if fault == "cut":
            body = body[: len(body) // 2]
            self.close_connection = True
        if not head:
            self.wfile.write(body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that leaves before the end of a body is no fault of the server."""


@contextlib.contextmanager
def serve() -> Iterator[Store]:
    """Serve an empty store on loopback."""
    store = Store()
    handler = type("Handler", (_Handler,), {"store": store})
    server = _Server(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    store.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield store
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def fill_cohort(store: Store, slide: bytes = b"slide " * 5000) -> dict[str, str]:
    """Two projects, of which the first has three patients; returns paths by short names.

    Only the files ``dx1``, ``dx2``, ``ts1``, ``star1``, ``star2`` and ``normal`` are open and of
    TCGA-COAD.
    """
    coad, a, b, c = "TCGA-COAD", "TCGA-AA-0001", "TCGA-AA-0002", "TCGA-BB-0003"
    for project in (coad, "TCGA-READ", "CPTAC-3"):
        store.add_project(project)
    store.add_case(
        a,
        coad,
        demographic={"vital_status": "Dead", "days_to_death": 700, "sex_at_birth": "female"},
        diagnoses=[{"age_at_diagnosis": 21915.0, "ajcc_pathologic_stage": "Stage IIA"}],
    )
    store.add_case(
        b,
        coad,
        demographic={"vital_status": "Alive"},
        diagnoses=[
            {"days_to_last_follow_up": 300.0, "classification_of_tumor": "primary"},
            {"days_to_last_follow_up": None, "classification_of_tumor": "metastasis"},
        ],
        follow_ups=[{"days_to_follow_up": 1200}, {"days_to_follow_up": 900}],
    )
    store.add_case(c, coad, demographic={"vital_status": "Not Reported"})
    store.add_case("TCGA-CC-0004", "TCGA-READ", demographic={"vital_status": "Alive"})
    normal = {"submitter_id": f"{a}-11A", "tissue_type": "Normal"}
    paths = {
        "dx1": store.add_slide(f"{a}-01Z-00-DX1.{identifier(a)}.svs", slide, a, coad),
        "dx2": store.add_slide(f"{b}-01Z-00-DX1.{identifier(b)}.svs", slide[::-1], b, coad),
        "ts1": store.add_slide(f"{a}-01A-01-TS1.{identifier('ts')}.svs", b"frozen", a, coad),
        "star1": store.add_star((10, 20, 5, 30), a, coad),
        "star2": store.add_star((50, 5, 15, 9), b, coad),
    }
    name = f"{identifier('normal')}{STAR_SUFFIX}"
    kind = {
        "data_type": "Gene Expression Quantification",
        "analysis": {"workflow_type": "STAR - Counts"},
    }
    paths["normal"] = store.add_file(
        name, star_counts((1, 1, 1, 1)), a, coad, sample=normal, **kind
    )
    store.add_slide(f"{c}-01Z-00-DX1.closed.svs", b"closed", c, coad, access="controlled")
    store.add_slide("TCGA-CC-0004-01Z-00-DX1.other.svs", b"other", "TCGA-CC-0004", "TCGA-READ")
    store.add_file("counts.htseq.gz", b"old", a, coad, data_type="Gene Expression Quantification")
    return paths
