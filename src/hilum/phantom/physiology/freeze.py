"""The hash of the planted physiology, frozen like the phantom's own (`hilum.phantom.freeze`) and beside it.

It covers this folder and, as physiology is drawn from plans and shown in chests, the phantom's settings. The phantom's
own hash covers no file of this folder: without physiology nothing has changed.
"""

from __future__ import annotations

import hashlib
from importlib import resources

from hilum.phantom.freeze import hash_settings, strip_source

FROZEN = "c75815fe22b2f5ae181333a16a62905e1c11f8d81ede358784506c8b6e1861ff"
"""The physiology that committed results were measured on (`hash_physiology`). A test compares; what `phantom.freeze`
says of its own holds here."""

LEFT_OUT = ("__init__.py", "files.py", "freeze.py")  # they decide when and where to write, not what


def hash_physiology() -> str:
    """SHA-256 of phantom and physiology, in hexadecimal."""
    digest = hashlib.sha256(hash_settings().encode())
    for file in sorted(resources.files("hilum.phantom.physiology").iterdir(), key=lambda file: file.name):
        if file.name.endswith(".py") and file.name not in LEFT_OUT:
            digest.update(f"{file.name}\0{strip_source(file.read_text('utf-8'))}\0".encode())
    return digest.hexdigest()
