"""Ask the API of the GDC for projects, patients and files, and check each answer before its use.

The endpoints, filters and pages are those of the GDC API User's Guide (docs.gdc.cancer.gov/API):
``files``, ``cases`` and ``projects`` take filters by POST and answer with ``data.hits`` and
``data.pagination``; ``status`` names the data release; ``data/<id>`` is a file. Answers are JSON of
a bounded size. A list that changes between two pages is refused, because a file could be missing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, get_args

import requests
from pydantic import BaseModel, Field, ValidationError

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.download.config import TransferConfig
from tcgn_mil.preprocessing.download.session import describe

PAGE = 500
MAX_ANSWER_BYTES = 2**26
MAX_HITS = 200_000  # the largest project has some 20,000 slides and expression files
_ID = r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"
_NAME = Field(min_length=1, max_length=200)
_READ_BYTES = 2**16


class _Answer(BaseModel):
    """Part of an answer; keys that are not read are ignored, since the GDC adds some."""


class Project(_Answer):
    """A project."""

    project_id: str = _NAME


class Sample(_Answer):
    """A sample that a file comes from, with the words of the GDC's sample sheet."""

    submitter_id: str = _NAME
    sample_type: str | None = None
    tissue_type: str | None = None
    tumor_descriptor: str | None = None
    specimen_type: str | None = None
    preservation_method: str | None = None


class FileCase(_Answer):
    """A patient that a file comes from."""

    submitter_id: str = _NAME
    samples: list[Sample] = []


class GdcFile(_Answer):
    """A file of the GDC."""

    file_id: str = Field(pattern=_ID)
    file_name: str = Field(min_length=1, max_length=1000)
    md5sum: str = Field(pattern=r"^[0-9a-f]{32}$")
    file_size: int = Field(ge=0, le=2**40)
    access: str
    state: str | None = None
    data_category: str | None = None
    data_type: str | None = None
    experimental_strategy: str | None = None
    cases: list[FileCase] = Field(min_length=1)


class Demographic(_Answer):
    """Survival and personal data of a patient."""

    vital_status: str | None = None
    days_to_death: float | None = None
    sex_at_birth: str | None = None
    race: str | None = None
    ethnicity: str | None = None


class Diagnosis(_Answer):
    """A diagnosis of a patient, who may have several."""

    age_at_diagnosis: float | None = None  # days
    days_to_last_follow_up: float | None = None
    diagnosis_is_primary_disease: bool | str | None = None
    classification_of_tumor: str | None = None
    primary_diagnosis: str | None = None
    ajcc_pathologic_stage: str | None = None
    tumor_grade: str | None = None


class FollowUp(_Answer):
    """A visit after the diagnosis."""

    days_to_follow_up: float | None = None


class Case(_Answer):
    """A patient with the clinical data that the GDC has indexed."""

    case_id: str = Field(pattern=_ID)
    submitter_id: str = _NAME
    index_date: str | None = None
    primary_site: str | None = None
    disease_type: str | None = None
    demographic: Demographic | None = None
    diagnoses: list[Diagnosis] = []
    follow_ups: list[FollowUp] = []


class Status(_Answer):
    """State of the API."""

    status: str | None = None
    data_release: str | None = None
    tag: str | None = None


class _Pagination(_Answer):
    total: int = Field(ge=0, le=MAX_HITS)


class _Page(_Answer):
    hits: list[dict[str, Any]]
    pagination: _Pagination


class _Envelope(_Answer):
    data: _Page


Entity = TypeVar("Entity", bound=_Answer)


def is_in(field: str, values: Sequence[str]) -> dict[str, Any]:
    """Return a filter of the API: a field has one of some values."""
    return {"op": "in", "content": {"field": field, "value": list(values)}}


def all_of(filters: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a filter of the API: all of some filters hold."""
    return {"op": "and", "content": list(filters)}


def fields_of(entity: type[BaseModel], prefix: str = "") -> list[str]:
    """Return the dotted names of all values that are read of an entity.

    Examples
    --------
    >>> fields_of(FollowUp, "follow_ups.")
    ['follow_ups.days_to_follow_up']
    """
    names = []
    for name, field in entity.model_fields.items():
        kinds = get_args(field.annotation) or (field.annotation,)
        nested = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
        deeper = fields_of(nested[0], f"{prefix}{name}.") if nested else [prefix + name]
        names += deeper
    return names


class GdcApi:
    """The API of the GDC.

    Parameters
    ----------
    session
        From :func:`~tcgn_mil.preprocessing.download.session.open_session`.
    address
        Address of the API, such as https://api.gdc.cancer.gov.
    config
        Settings of the transport.
    by_hand
        Sentence that says what to fetch, and where to put it, if the API cannot be reached.
    """

    def __init__(
        self, session: requests.Session, address: str, config: TransferConfig, *, by_hand: str
    ) -> None:
        self.address = address.rstrip("/")
        self._session = session
        self._timeout_s = config.timeout_s
        self._by_hand = by_hand

    def data_url(self, file_id: str) -> str:
        """Return the address of a file."""
        return f"{self.address}/data/{file_id}"

    def status(self) -> Status:
        """Return the state of the API, which names the data release."""
        return self._checked(Status, self._ask("status", None), "status")

    def search(
        self, endpoint: str, entity: type[Entity], filters: Mapping[str, Any] | None, *, key: str
    ) -> list[Entity]:
        """Return all hits of a search, page by page.

        Parameters
        ----------
        endpoint
            ``files``, ``cases`` or ``projects``.
        entity
            Class of the hits.
        filters
            Filter of the API; None for all.
        key
            Field that names a hit; the pages are sorted by it.

        Raises
        ------
        InputError
            If the API cannot be reached, or its answer does not have the form that its
            documentation states.
        """
        found: dict[str, Entity] = {}
        total = None
        while total is None or len(found) < total:
            question: dict[str, Any] = {
                "fields": ",".join(fields_of(entity)),
                "format": "JSON",
                "size": PAGE,
                "from": len(found),
                "sort": f"{key}:asc",
            }
            if filters is not None:
                question["filters"] = filters
            page = self._checked(_Envelope, self._ask(endpoint, question), endpoint).data
            hits = [self._checked(entity, hit, endpoint) for hit in page.hits]
            new = {getattr(hit, key): hit for hit in hits}
            changed = total not in (None, page.pagination.total) or len(new) < len(hits)
            total = page.pagination.total
            if changed or new.keys() & found.keys() or (not new and len(found) < total):
                raise self._unfit(
                    endpoint, "its pages do not make up one list of the stated length"
                )
            found |= new
        return list(found.values())

    def _ask(self, endpoint: str, question: Mapping[str, Any] | None) -> Any:
        """Return the JSON of an answer: of a POST with a question, else of a GET."""
        url = f"{self.address}/{endpoint}"
        method = "GET" if question is None else "POST"
        try:
            # A redirect of a question is an error: the answer would come from elsewhere.
            with self._session.request(
                method,
                url,
                json=question,
                timeout=self._timeout_s,
                stream=True,
                allow_redirects=False,
            ) as answer:
                if answer.status_code != requests.codes.ok:
                    raise InputError(
                        f"the API answers with HTTP {answer.status_code}",
                        path=url,
                        fix="check --api, and try again later",
                    )
                body = self._read(answer, endpoint)
        except requests.exceptions.RetryError as error:
            raise InputError(
                describe(error), path=url, fix="run the command again later"
            ) from error
        except requests.RequestException as error:
            raise InputError(
                f"cannot be reached ({describe(error)})", path=url, fix=self._by_hand
            ) from error
        try:
            return json.loads(body)
        except ValueError as error:
            raise self._unfit(endpoint, "it is not JSON") from error

    def _read(self, answer: requests.Response, endpoint: str) -> bytes:
        body = bytearray()
        for chunk in answer.iter_content(_READ_BYTES):
            body += chunk
            if len(body) > MAX_ANSWER_BYTES:
                raise self._unfit(endpoint, f"it has more than {MAX_ANSWER_BYTES >> 20} MiB")
        return bytes(body)

    def _checked(self, entity: type[Entity], value: Any, endpoint: str) -> Entity:
        try:
            return entity.model_validate(value)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the answer"
            raise self._unfit(endpoint, f"{where}: {first['msg']}") from error

    def _unfit(self, endpoint: str, why: str) -> InputError:
        return InputError(
            f"the answer of the API cannot be used: {why}",
            path=f"{self.address}/{endpoint}",
            fix="check that --api is the address of the GDC's API; if it is, the API has changed,"
            " and tcgn-mil needs an update",
        )
