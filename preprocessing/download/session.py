"""Open an HTTP session that asks a busy server again, and name what keeps a server from answering.

urllib3 does the asking again: after an error of the connection, and after the answers 429 (too
many requests), 500, 502, 503 and 504. It waits twice as long each time, or as long as the server
asks for in ``Retry-After``. That wait is bounded here, because a server may ask for a day.
"""

from __future__ import annotations

import requests
from requests.adapters import HTTPAdapter
from urllib3 import BaseHTTPResponse
from urllib3.util import Retry

from tcgn_mil.preprocessing.download.config import TransferConfig
from tcgn_mil.version import __version__

BUSY = (429, 500, 502, 503, 504)
MAX_WAIT_S = 120.0


class _BoundedRetry(Retry):
    """Retries whose waits are bounded, whatever the server asks for."""

    def get_retry_after(self, response: BaseHTTPResponse) -> float | None:
        wait = super().get_retry_after(response)
        return None if wait is None else min(wait, MAX_WAIT_S)


def open_session(config: TransferConfig, *, connects: int | None = None) -> requests.Session:
    """Return a session that asks again as the settings say.

    Parameters
    ----------
    config
        Number of attempts, waits, and number of connections.
    connects
        Number of further attempts where no connection is had at all; None for all that the
        settings allow. Before a download starts one is enough, so that a user without a network
        reads so at once. During a download, the network may come back.

    Returns
    -------
    requests.Session
        To be used as a context manager. Bodies come as they are stored: a server that compressed
        them would count other bytes than the file has, which spoils sizes and ranges.
    """
    retries = _BoundedRetry(
        total=config.attempts - 1,
        connect=connects,
        status_forcelist=BUSY,
        allowed_methods=None,  # also POST: the requests of this package change nothing on a server
        backoff_factor=config.backoff_s,
        backoff_max=MAX_WAIT_S,
    )
    session = requests.Session()
    adapter = HTTPAdapter(max_retries=retries, pool_maxsize=config.workers)
    for scheme in ("https://", "http://"):
        session.mount(scheme, adapter)
    session.headers["User-Agent"] = f"tcgn-mil/{__version__}"
    session.headers["Accept-Encoding"] = "identity"
    return session


def describe(error: requests.RequestException) -> str:
    """Return the cause of an error in a few words, without the objects that libraries name."""
    if isinstance(error, requests.exceptions.RetryError):
        return "the server says that it is busy or faulty, each time that it is asked"
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate cannot be checked"
    if isinstance(error, requests.exceptions.ProxyError):
        return "the proxy does not answer"
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    if isinstance(error, requests.ConnectionError):
        return "no connection"
    if isinstance(error, requests.TooManyRedirects):
        return "the server redirects in a circle"
    return type(error).__name__
