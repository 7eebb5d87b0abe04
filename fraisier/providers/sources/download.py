"""Downloads, with their digest. Loaded only when an archive has a URL."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import aiohttp

from fraisier.errors import ProviderConfigurationError, ProviderConnectionError
from fraisier.redaction import mask_address

CHUNK_BYTES = 256 * 1024
BYTES_MAX = 8 * 1024**3
_CONNECT_S = 20.0
_SILENCE_S = 60.0
_HEADER_MAX = 64
"""Longer than every date; what a server says goes into an error."""


async def download(url: str, output: Path) -> str:
    """Write what `url` gives to `output` and return its SHA-256 in hex.

    Raises ProviderConnectionError, and ProviderConfigurationError for an answer that no patience can change.
    """
    shown = mask_address(url)
    digest, size_bytes = hashlib.sha256(), 0
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=_SILENCE_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, trust_env=True) as session,
            session.get(url) as answer,
        ):
            _check_status(answer.status, answer.headers.get("Retry-After", ""), shown)
            with output.open("wb") as stream:
                async for chunk in answer.content.iter_chunked(CHUNK_BYTES):
                    size_bytes += len(chunk)
                    if size_bytes > BYTES_MAX:
                        raise ProviderConfigurationError(
                            f"{shown} is larger than {BYTES_MAX >> 30} GiB: it is no release"
                        )
                    digest.update(chunk)
                    stream.write(chunk)
    except aiohttp.InvalidURL:
        # Its text is the whole URL.
        raise ProviderConfigurationError(f"source.archive: {shown} is not a URL that can be read") from None
    except (aiohttp.ClientError, TimeoutError) as error:
        raise ProviderConnectionError(
            f"cannot download {shown}: {type(error).__name__}", cause=error
        ) from error
    return digest.hexdigest()


def _check_status(status: int, retry_after: str, shown: str) -> None:
    if status == 429 or status >= 500:
        context: dict[str, Any] = {"status": status}
        if retry_after:
            context["retry_after"] = retry_after[:_HEADER_MAX]
        raise ProviderConnectionError(f"cannot download {shown}: it answered {status}", context=context)
    if status != 200:
        raise ProviderConfigurationError(
            f"cannot download {shown}: it answered {status}",
            context={"status": status},
            hint="check source.archive",
        )
