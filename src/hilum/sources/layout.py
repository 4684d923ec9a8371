"""What folders and file names mean where the files themselves do not know: raster images."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image, UnidentifiedImageError

from hilum.errors import UserError
from hilum.imaging.raster import FORMATS, describe_content
from hilum.imaging.view import classify_name
from hilum.sources.cells import SPLIT_NAMES, classify_position
from hilum.study import EXTRA_PREFIX

DICOM_SUFFIXES = (".dcm", ".dicom", ".dic", ".ima")
RASTER_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".jp2", ".webp", ".pgm", ".ppm")
MAX_VIEWS = 16  # in one folder; more are not the views of one study

FIELDS = ("patient", "study", "view", "split", "image", "_")  # of a layout; others are kept as columns
# Other words for them, which would quietly make other studies and patients.
_FIELD_OF_WORD = {"subject": "patient", "person": "patient", "mrn": "patient", "exam": "study", "accession": "study"}
_FIELD_OF_WORD |= {"position": "view", "projection": "view", "subset": "split", "partition": "split"}

Row = dict[str, Any]  # fields of assemble.IMAGE_SCHEMA and extra_ columns, and `depth`: folders above an image, read so


def compile_layout(layout: str) -> re.Pattern[str]:
    """A pattern of relative paths without suffix; each field matches within one folder or file name."""
    parts = re.split(r"\{(\w+)\}", layout.strip("/"))
    names = [name for name in parts[1::2] if name not in ("_", "image")]
    if not names or len(set(names)) < len(names) or any(set(text) & set("{}") for text in parts[::2]):
        raise UserError(
            f"--layout '{layout}': expected fields in braces, each once, such as '{{patient}}/{{study}}/{{view}}' or "
            "'{split}/{patient}_{image}'; {_} stands for anything."
        )
    for name in names:
        meant = _FIELD_OF_WORD.get(name.lower()) or next(
            iter(difflib.get_close_matches(name.lower(), FIELDS, 1, 0.7)), ""
        )
        if meant and name not in FIELDS and not name.startswith(EXTRA_PREFIX):
            raise UserError(
                f"--layout '{layout}': did you mean {{{meant}}} by {{{name}}}? If that is a column to "
                f"keep, call it {{{EXTRA_PREFIX}{name}}}."
            )
    text = [re.escape(part) for part in parts[::2]]
    fields = [f"(?P<{name}>[^/]+?)" if name in names else "[^/]+?" for name in parts[1::2]]
    return re.compile("".join(piece for pair in zip(text, [*fields, ""], strict=True) for piece in pair))


def describe_layout(pattern: re.Pattern[str], notes: list[str], warnings: list[str]) -> None:
    """Say which fields of a layout are kept as columns, and what stands for a study or patient it does not name."""
    extras = [name for name in pattern.groupindex if name not in FIELDS]
    if extras:
        notes.append(f"Fields of --layout kept as columns: {', '.join(map(_name_extra, extras))}.")
    if "study" not in pattern.groupindex:
        notes.append("--layout names no {study}: every raster image is a study of its own.")
    if "patient" not in pattern.groupindex:
        warnings.append(
            "--layout names no {patient}: every study of raster images is a patient of its own, so that one person may "
            "be in training and test. Name the patient in --layout if the paths say who it is."
        )


def _name_extra(field: str) -> str:
    return EXTRA_PREFIX + field.removeprefix(EXTRA_PREFIX)


def read_raster_row(path: str, root: Path, pattern: re.Pattern[str] | None) -> Row | str:
    """What a raster image's path says by `pattern`, or by its folders without one; or the reason of its rejection."""
    try:
        with Image.open(root / path, formats=FORMATS):  # the header only; `hilum cache` decodes
            pass
    except UnidentifiedImageError:
        found = describe_content(root / path)
        return f"named {PurePosixPath(path).suffix.lower()}, but it is not a readable image: {found}"
    except Exception as error:  # whatever the damage made the decoder's header check stumble over
        return f"named {PurePosixPath(path).suffix.lower()}, but it is not a readable image ({type(error).__name__})"
    named = classify_name(path)
    row: Row = {"path": path, "kind": named.kind, "position": "", "laterality": named.laterality}
    if pattern is None:
        folders = PurePosixPath(path).parts[:-1]
        study = "/".join(folders) if folders else f"file:{path}"
        return row | {
            "study": study,
            "patient": "/".join(folders[:-1] or folders) or f"study:{study}",
            "depth": len(folders),
        }
    match = pattern.fullmatch(str(PurePosixPath(path).with_suffix("")))
    if match is None:
        return "its path does not fit the layout"
    fields = match.groupdict()
    if "split" in fields and fields["split"].lower() not in SPLIT_NAMES:
        return f"its path names the split '{fields['split']}'; expected train, val or test"
    if "view" in fields:
        kind = classify_position(fields["view"])
        row |= {"position": fields["view"], "kind": kind if kind != "unknown" else named.kind}
    # Folders of studies are often numbered within each patient, so the patient is part of a study's name.
    owner = f"{fields['patient']}/" if "patient" in fields else ""
    study = f"{owner}{fields['study']}" if "study" in fields else f"file:{path}"
    return {
        **row,
        "study": study,
        "patient": fields.get("patient", f"study:{study}"),
        "split": SPLIT_NAMES[fields["split"].lower()] if "split" in fields else None,
        **{_name_extra(name): value for name, value in fields.items() if name not in FIELDS},
    }


def describe_folders(rows: list[Row], notes: list[str]) -> None:
    """Say how folders were understood; refuse what cannot be meant."""
    depths = Counter(min(row["depth"], 2) for row in rows if "depth" in row)
    sizes = Counter(row["study"] for row in rows if row.get("depth"))
    largest, size = max(sizes.items(), key=lambda item: item[1], default=("", 0))
    if size > MAX_VIEWS:
        raise UserError(
            f"Folder '{largest}' holds {size:,} images, too many for one study. Say with --layout what folders and "
            "names mean: '{patient}/{image}' makes each image a study, '{split}/{_}/{patient}_{image}' reads splits."
        )
    meanings = {
        0: "raster images lie directly in the folder: each is a study and a patient of its own",
        1: "raster images lie one folder deep: each folder is a study and a patient of its own",
        2: "raster images lie in folders read as patient/study/image",
    }
    notes.extend(
        f"{depths[depth]:,} {text} (--layout says otherwise)." for depth, text in meanings.items() if depths[depth]
    )
