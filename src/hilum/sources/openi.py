"""Open-i's Indiana University collection (Demner-Fushman et al. 2016): one XML per report, and the PNG files it names.

The XML does not say which image is frontal and which lateral, and neither do the names: all views are unknown.
Findings are those of the MeSH terms that indexers gave (label_maps/openi_mesh.csv), which are kept as extra_mesh.
"""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import polars as pl

from hilum.errors import UserError
from hilum.labels import find_heading, read_label_map
from hilum.sources.archive import Reading, choose_paths, describe_undecided, state_cells
from hilum.sources.columns import SECTION_PREFIX

FOLDER, PACKED, IMAGES = "ecgen-radiology", "NLMCXR_reports.tgz", "NLMCXR_png"


def read(root: Path, *, quick: bool = False) -> Reading:
    """Read the XML files below `root`, unpacked or in NLMCXR_reports.tgz; each report is a patient and a study.

    A report that names no image is rejected, as is a file that is no such report; the rest is read.
    """
    reading = Reading(pl.DataFrame())
    rows: list[dict[str, str]] = []
    number = 0
    for name, content in _open_reports(root):
        number += 1
        found = _read_report(content)
        if isinstance(found, str):
            reading.rejected.append((name, found))
        else:
            rows.extend(found)
    if not number:
        raise UserError(f"{root} has a {FOLDER} without XML files: unpack {PACKED} again.")
    names = dict.fromkeys(key for row in rows for key in row)
    images = pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String)) if rows else pl.DataFrame()
    if rows:
        file = images["image"] + ".png"
        layouts = [f"{IMAGES}/" + file, file, "images/" + file]
        images = images.with_columns(path=choose_paths(root, layouts)).drop("image")
        mesh = images["extra_mesh"] if "extra_mesh" in images.columns else pl.repeat(None, len(images), eager=True)
        images = images.hstack(_state_findings(mesh.cast(pl.String), reading).get_columns())
        reading.notes.append(describe_undecided(images))
    reading.images = images
    reading.notes.append("The reports name images, but not which is frontal and which lateral: all views are unknown.")
    return reading


def _state_findings(mesh: pl.Series, reading: Reading) -> pl.DataFrame:
    """A report with a heading that nobody decided, as one that nobody indexed, says nothing of any finding."""
    table = read_label_map("openi_mesh")
    strange: set[str] = set()

    def split(cell: str) -> list[str]:
        headings = [find_heading(term) for term in cell.split(";")]
        new = set(headings) - table.decisions.keys()
        strange.update(new)
        return [] if new else headings

    states = state_cells(mesh, split, table)
    if strange:
        reading.warnings.append(
            f"{len(strange):,} MeSH headings are none of the {len(table.decisions)} that Hilum decides "
            f"('{min(strange)}', ...): the findings of their reports are unknown."
        )
    return states


def _open_reports(root: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of every XML file."""
    if not root.is_dir():
        raise UserError(f"There is no folder {root}: give the folder of the download.")
    folders = [folder for depth in ("", "*/") for folder in root.glob(depth + FOLDER) if folder.is_dir()]
    if root.name == FOLDER:
        folders.append(root)
    if folders:
        for path in sorted(folders[0].glob("*.xml")):
            yield f"{FOLDER}/{path.name}", path.read_bytes()
        return
    packed = root / PACKED
    if not packed.is_file():
        raise UserError(
            f"{root} has neither the folder {FOLDER} nor {PACKED}, which it comes in: download the reports into it."
        )
    try:
        with tarfile.open(packed) as members:
            for member in members:
                file = members.extractfile(member) if member.name.endswith(".xml") else None
                if file is not None:
                    yield member.name, file.read()
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise UserError(f"{packed} cannot be read to its end ({error}): download it again.") from None


def _read_report(content: bytes) -> list[dict[str, str]] | str:
    """A row for each image, with sections and MeSH terms, or the reason why the file is of no use."""
    try:
        document = ElementTree.fromstring(content)
    except ElementTree.ParseError as error:
        return f"it is not well-formed XML ({error})"
    name = document.find("uId")
    if name is None or not name.get("id"):
        return "it is no report of the collection: it has no uId"
    study = name.attrib["id"]
    images = dict.fromkeys(image.get("id", "") for image in document.iter("parentImage"))
    images.pop("", None)
    if not images:
        return "the report names no image"
    said: dict[str, list[str]] = {}
    for part in document.iter("AbstractText"):
        text = " ".join((part.text or "").split())
        if text:
            said.setdefault((part.get("Label") or "report").strip().lower(), []).append(text)
    facts = {f"{SECTION_PREFIX}{section}": "\n".join(texts) for section, texts in said.items()}
    terms = [term.text.strip() for term in document.findall("MeSH/major") if term.text and term.text.strip()]
    if terms:
        facts["extra_mesh"] = ";".join(terms)
    return [{"study": study, "patient": study, "image": image, **facts} for image in images]
