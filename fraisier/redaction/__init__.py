"""Keeps secrets out of every sink: by type, by the key that they stand under, and by value wherever they turn up."""

from fraisier.redaction.address import UnreadableURLError, read_url, userinfo_of
from fraisier.redaction.clipping import clip, clip_start, end_of, text_of
from fraisier.redaction.patterns import is_secret_key, mask_address, mask_named, mask_url
from fraisier.redaction.redactor import MIN_LENGTH, Redactor
from fraisier.redaction.secret import MASK, Secret

__all__ = [
    "MASK",
    "MIN_LENGTH",
    "Redactor",
    "Secret",
    "UnreadableURLError",
    "clip",
    "clip_start",
    "end_of",
    "is_secret_key",
    "mask_address",
    "mask_named",
    "mask_url",
    "read_url",
    "text_of",
    "userinfo_of",
]
