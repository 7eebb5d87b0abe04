"""From `audit.forward` of the configuration to sinks."""

from __future__ import annotations

import hashlib
from pathlib import Path
from urllib.parse import quote, urlsplit

from fraisier.audit.forward.sinks import FileSink, JournaldSink, Sink, SyslogSink
from fraisier.config.schema import Forward

_SYSLOG_PORT = 514
_NAME_CHARS_MAX = 200
"""Of the name as the name of a file, which its claim is."""


def make_sink(forward: Forward, base_dir: Path) -> Sink:
    """Return the sink of one entry; a relative path of a file begins with `base_dir`, `~` is the home."""
    if forward.file:
        return FileSink(base_dir / Path(forward.file).expanduser())
    if forward.journald:
        return JournaldSink(forward.journald)
    if forward.syslog.startswith("/"):
        return SyslogSink(path=forward.syslog)
    parts = urlsplit(forward.syslog)
    return SyslogSink(host=parts.hostname or "", port=parts.port or _SYSLOG_PORT)


def subscriber_name(forward: Forward) -> str:
    """Return the name under which the position of an entry is kept: another destination begins anew."""
    kind, where = next((k, v) for k in ("file", "syslog", "journald") if (v := getattr(forward, k)))
    name = f"forward:{kind}:{where}"
    if len(quote(name, safe="")) <= _NAME_CHARS_MAX:
        return name
    return f"forward:{kind}:{hashlib.sha256(name.encode('utf-8', 'surrogateescape')).hexdigest()[:32]}"
