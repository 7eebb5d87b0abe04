"""Copies of every event for somebody else to keep: in a file, by syslog, in the journal of systemd."""

from fraisier.audit.forward.destinations import make_sink, subscriber_name
from fraisier.audit.forward.forwarder import Forwarder
from fraisier.audit.forward.sinks import FileSink, JournaldSink, Sink, SinkError, SyslogSink

__all__ = [
    "FileSink",
    "Forwarder",
    "JournaldSink",
    "Sink",
    "SinkError",
    "SyslogSink",
    "make_sink",
    "subscriber_name",
]
