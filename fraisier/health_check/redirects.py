"""Where an answer sends the asker, for whatever carries the requests."""

from __future__ import annotations

from urllib.parse import urljoin

import msgspec

from fraisier.health_check.expectation import Answer, Fetch, Request
from fraisier.health_check.failures import ProbeFailed
from fraisier.redaction import read_url

REDIRECTS_MAX = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


async def fetch_following(fetch: Fetch, request: Request) -> Answer:
    """Send a request, and where it wants redirects followed, send the next one; return the last answer.

    Headers of the request stay at its origin, because tokens stand there. Raises ProbeFailed for more than REDIRECTS_MAX
    redirects, and for one that leaves HTTPS.
    """
    answer = await fetch(request)
    if not request.follow_redirects:
        return answer
    for _ in range(REDIRECTS_MAX):
        if answer.status not in _REDIRECTS or not answer.location:
            return answer
        request = _redirected(request, answer)
        answer = await fetch(request)
    if answer.status in _REDIRECTS and answer.location:
        raise ProbeFailed(f"status {answer.status}: more than {REDIRECTS_MAX} redirects")
    return answer


def _redirected(request: Request, answer: Answer) -> Request:
    before = _origin(request.url)
    try:
        url = urljoin(request.url, answer.location)
        after = _origin(url)
    except ValueError:
        message = f"status {answer.status}: the redirect does not lead to an HTTP address"
        raise ProbeFailed(message) from None
    if (before[0], after[0]) == ("https", "http"):
        raise ProbeFailed(f"status {answer.status}: the redirect leaves HTTPS")
    method = request.method
    if (answer.status == 303 and method != "HEAD") or (answer.status in (301, 302) and method == "POST"):
        method = "GET"
    headers = request.headers if before == after else {}
    return msgspec.structs.replace(request, url=url, method=method, headers=headers)


def _origin(url: str) -> tuple[str, str, int]:
    """Return scheme, host and port. Raises ValueError for what is not an HTTP address."""
    parts = read_url(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{parts.scheme} is not asked")
    return parts.scheme, parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
