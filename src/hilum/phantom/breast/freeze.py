"""The hash of the breast phantom, frozen like the chest's (`hilum.phantom.freeze`) and beside it.

It covers this folder and what it draws its numbers with. The chest's own hash covers no file of this folder.
"""

from __future__ import annotations

import hashlib
from importlib import resources

from hilum.phantom.freeze import strip_source

FROZEN = "5a2c6bc9b4a7466c0ff60931051909cc6ac4371abe8996517eba60e6beadb4b1"
"""The breast that committed results were measured on (`hash_breast`). A test compares; what `phantom.freeze` says of
its own holds here."""

LEFT_OUT = ("__init__.py", "archive.py", "freeze.py", "tables.py")  # they decide where and how to write, not what
SHARED = ("keyed_random.py", "phantom/dice.py", "phantom/dicom_file.py")


def hash_breast() -> str:
    """SHA-256 of the breast phantom's settings, in hexadecimal; the same for every seed, size and number of women."""
    digest = hashlib.sha256()
    own = [file for file in resources.files("hilum.phantom.breast").iterdir() if file.name.endswith(".py")]
    files = [(file.name, file) for file in own if file.name not in LEFT_OUT]
    files += [(name, resources.files("hilum").joinpath(name)) for name in SHARED]
    for name, file in sorted(files, key=lambda each: each[0]):
        digest.update(f"{name}\0{strip_source(file.read_text('utf-8'))}\0".encode())
    return digest.hexdigest()
