"""Providers by name."""

from __future__ import annotations

import subprocess
import sys

import pytest

from fraisier.errors import ConfigurationError
from fraisier.providers.local import LocalProvider
from fraisier.providers.registry import PROVIDERS, find_factory, provider_info


def test_providers_are_found_by_name() -> None:
    """A type leads to its factory, and what is listed agrees with the class."""
    assert find_factory("local") is LocalProvider
    assert provider_info("local").summary == LocalProvider.summary
    assert all(info.type == name and info.keys for name, info in PROVIDERS.items())


def test_an_unknown_type_is_answered_with_a_suggestion() -> None:
    """A typo gets the name that was probably meant."""
    with pytest.raises(ConfigurationError) as caught:
        find_factory("locall")
    assert caught.value.hint == "did you mean local?"


def test_listing_providers_loads_none() -> None:
    """The registry alone imports neither a provider nor a transport."""
    script = (
        "import sys, fraisier.providers.registry\n"
        "bad = [m for m in sys.modules if m.startswith(('fraisier.providers.h', 'fraisier.transports.l', 'aiohttp'))]\n"
        "sys.exit(str(bad) if bad else 0)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
