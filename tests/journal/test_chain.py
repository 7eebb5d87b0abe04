"""The hash chain, against hashes that were worked out with sha256sum."""

from __future__ import annotations

import hashlib
import subprocess

import pytest

from fraisier.errors import ValidationError
from fraisier.journal.chain import GENESIS, Chain, hash_body

LOG = "00112233445566778899aabbccddeeff"
BODY = b'{"type":"system.noted"}'


def by_hand(log_id: str, seq: int, previous: bytes, body: bytes) -> str:
    """Work a link out without our code: the bytes in their order, through coreutils."""
    data = b"fraisier.journal.v1\0" + bytes.fromhex(log_id) + seq.to_bytes(8, "big") + previous
    data += hashlib.sha256(body).digest()
    done = subprocess.run(["sha256sum"], input=data, capture_output=True, check=True)
    return done.stdout.split()[0].decode()


def test_before_the_first_row_there_are_32_zero_bytes() -> None:
    assert bytes.fromhex("00" * 32) == GENESIS


def test_a_body_is_its_sha256() -> None:
    assert hash_body(b"").hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.mark.parametrize("seq", [1, 2, 255, 256, 1_000_000, 2**63])
def test_a_link_is_the_hash_of_domain_log_place_previous_and_body(seq: int) -> None:
    previous = hashlib.sha256(b"before").digest()
    assert Chain(LOG).link(seq, previous, hash_body(BODY)).hex() == by_hand(LOG, seq, previous, BODY)


def test_everything_that_goes_into_a_link_changes_it() -> None:
    chain, other = Chain(LOG), Chain(LOG[::-1])
    body = hash_body(BODY)
    found = {
        chain.link(1, GENESIS, body),
        chain.link(2, GENESIS, body),
        chain.link(1, body, body),
        chain.link(1, GENESIS, hash_body(BODY + b" ")),
        other.link(1, GENESIS, body),
    }
    assert len(found) == 5


def test_a_chain_knows_its_log() -> None:
    assert Chain(LOG).log_id == LOG


@pytest.mark.parametrize("wrong", ["", "zz" * 16, LOG[:-1], LOG[:-2], LOG + "00", "not hex at all"])
def test_a_log_id_is_32_hex_digits(wrong: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Chain(wrong)
    assert refused.value.message == f"the log id {wrong!r} is not 32 hex digits"


def test_the_cause_of_a_wrong_log_id_is_kept() -> None:
    with pytest.raises(ValidationError) as refused:
        Chain("zz" * 16)
    assert isinstance(refused.value.cause, ValueError)
