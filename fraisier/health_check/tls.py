"""How TLS is spoken to what is probed."""

from __future__ import annotations

import ssl

from anyio import to_thread

from fraisier.health_check.expectation import Request
from fraisier.health_check.failures import ProbeError


class TLSContexts:
    """Client contexts by what they trust, each made once: loading a bundle of authorities takes milliseconds, so it
    happens in a thread."""

    def __init__(self) -> None:
        self._made: dict[tuple[bool, str], ssl.SSLContext] = {}

    async def get(self, request: Request) -> ssl.SSLContext:
        """Return the context for a request. Raises ProbeError when its CA file cannot be used."""
        key = (request.verify_tls, request.ca_file)
        found = self._made.get(key)
        if found is None:
            found = self._made[key] = await to_thread.run_sync(_make, *key)
        return found


def _make(verify: bool, ca_file: str) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=ca_file or None)
    except (OSError, ssl.SSLError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ProbeError(f"the CA file {ca_file} cannot be used: {reason}") from error
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def certificate_of(ssl_object: ssl.SSLObject | None) -> bytes:
    """Return the peer's certificate in DER, empty without TLS. It is there whether it was verified or not."""
    return (ssl_object.getpeercert(binary_form=True) or b"") if ssl_object is not None else b""
