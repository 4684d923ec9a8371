"""One hash over everything that decides what the phantom is, so that its settings can be frozen before any comparison.

Prevalences, phrases and institutions are tables, but the anatomy's constants stand in its code. So the hash covers the
code of every file of this folder and the generator of its random numbers, without comments, docstrings and white space;
only the files that carry the result to disk are left out.
"""

from __future__ import annotations

import ast
import hashlib
import io
import tokenize
from importlib import resources

FROZEN = "b9b4d22e04a66adb3cd52a9067b3a975b909d5e8ceeb61da42ec71edd23357c9"
"""The settings that all committed results on the phantom were measured on (`hash_settings`).

A test compares. To change the phantom is to void those results: do it only before methods are compared on it, set the
new hash here, and run `make demo` and `make evidence` again. (e15bf3d4..., which the first results name, wrote the same
bytes of every study it could write; one person in some thousand made it fail.)"""

LEFT_OUT = ("__init__.py", "archive.py", "freeze.py", "masks.py")  # they decide where to write, and what to say of it


def strip_source(source: str) -> str:
    """Python code without comments, docstrings and white space between tokens: what remains decides what it does."""
    docstrings = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node, clean=False):
            docstrings.add((node.body[0].lineno, node.body[0].col_offset))
    skipped = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.ENCODING, tokenize.ENDMARKER}
    kept = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in (tokenize.INDENT, tokenize.DEDENT):
            kept.append("{" if token.type == tokenize.INDENT else "}")
        elif token.type not in skipped and token.start not in docstrings:
            kept.append("".join(token.string.split()))
    return "".join(kept)


def hash_settings() -> str:
    """SHA-256 of the phantom's settings, in hexadecimal; the same for every seed, size and number of studies."""
    digest = hashlib.sha256()
    files = [file for file in resources.files("hilum.phantom").iterdir() if file.name not in LEFT_OUT]
    files.append(resources.files("hilum").joinpath("keyed_random.py"))
    for file in sorted(files, key=lambda file: file.name):
        if file.name.endswith((".py", ".toml")):
            text = file.read_text("utf-8")
            text = strip_source(text) if file.name.endswith(".py") else text
            digest.update(f"{file.name}\0{text}\0".encode())
    return digest.hexdigest()
