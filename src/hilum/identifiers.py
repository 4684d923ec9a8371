"""Patients and studies under other names: salted hashes that only the holder of the salt can make again.

A hash without a salt is no protection: anyone can hash all eight-digit numbers. The salt is random for each user, stays
in a file next to the study table that is not shared with it, and gives a patient the same name in the next ingest.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hilum.errors import UserError

SALT_FILE = "hilum-salt.txt"
_MIN_SALT = 8  # characters


def hash_study(dataset: str, study: str) -> int:
    """A study's lasting 64-bit name: a part of the key of whatever is drawn for it."""
    return int.from_bytes(hashlib.blake2b(f"{dataset}\0{study}".encode(), digest_size=8).digest(), "little")


@dataclass(frozen=True)
class Naming:
    """What patients and studies are called in the study table; the same flags for every source."""

    keep_ids: bool = False
    """Keep ids readable instead of salted hashes; patients are then named "dataset:id" or "id_space:id"."""
    salt: str | None = None
    """Salt of the hashes; by default one is drawn and kept in a file beside the study table."""
    id_space: str | None = None
    """Whose ids these are: archives of one hospital need the same. By default each archive's own;
    "" with keep_ids names no space."""

    def check(self) -> None:
        """Refuse what cannot be meant.

        Raises:
            UserError: for a salt beside kept ids, and for one too short to protect anything.
        """
        if self.salt is None:
            return
        if self.keep_ids:
            raise UserError("--keep-ids keeps ids as they are, --salt hashes them: give one of the two.")
        if len(self.salt) < _MIN_SALT:
            raise UserError(
                f"--salt has {len(self.salt)} characters: give at least {_MIN_SALT}, or none to keep a random one."
            )


def hash_identifiers(identifiers: Iterable[str], kind: str, salt: str) -> dict[str, str]:
    """identifier -> 32 hexadecimal characters (keyed BLAKE2b), different for each `kind` ("patient") and each salt."""
    key = _make_key(salt)
    return {
        name: hashlib.blake2b(f"{kind}\0{name}".encode(), key=key, digest_size=16).hexdigest() for name in identifiers
    }


def hash_to_unit(identifiers: Iterable[str], salt: str) -> dict[str, float]:
    """identifier -> a number in [0, 1) by itself and the salt alone, uniform over identifiers (53 bits)."""
    key = _make_key(salt)
    digests = ((name, hashlib.blake2b(name.encode(), key=key, digest_size=8).digest()) for name in identifiers)
    return {name: (int.from_bytes(digest, "big") >> 11) * 2.0**-53 for name, digest in digests}


def _make_key(salt: str) -> bytes:
    return hashlib.blake2b(salt.encode(), digest_size=32).digest()  # a key has 64 bytes at most, a salt any length


def read_or_make_salt(folder: Path) -> tuple[str, bool]:
    """The salt kept in `folder`, made there (random, readable by its owner only) if there is none; is it new?"""
    path = folder / SALT_FILE
    folder.mkdir(parents=True, exist_ok=True)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        salt = path.read_text().strip()
        if len(salt) < _MIN_SALT:
            raise UserError(
                f"{path} holds a salt of {len(salt)} characters, at least {_MIN_SALT} are needed: restore the file, "
                "or delete it for a new salt (patients then get new names)."
            ) from None
        return salt, False
    salt = secrets.token_hex(32)
    try:
        with os.fdopen(handle, "w") as file:
            file.write(salt + "\n")
    except OSError as error:  # a full disk; half a salt must not stay
        path.unlink()
        raise OSError(error.errno, error.strerror, str(path)) from error
    return salt, True
