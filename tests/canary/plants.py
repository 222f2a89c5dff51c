"""What the test lays down itself, so that a scan which finds nothing has proved that it can."""

import base64

from canary.needles import Mark, encoded
from canary.packing import PACK


def blob(mark: Mark) -> bytes:
    """Write a mark in every encoding, and in every container."""
    text = mark.letters.encode()
    lines = [written for _, written in encoded(mark.letters)]
    lines += [base64.b64encode(b"." * before + text + b".") for before in range(3)]
    many = b"planted " + text * 20
    return b"\n".join([*lines, *(pack(many) for pack in PACK.values()), b""])
