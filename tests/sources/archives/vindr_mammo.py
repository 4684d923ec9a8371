"""VinDr-Mammo 1.0.0: one row for each image, one for each box and for each image without. No row is real."""

from __future__ import annotations

from pathlib import Path

from breast_pictures import draw_breast, write_mammogram
from hilum.sources.vindr_mammo import KINDS, PUBLISHED
from sources.archives.csv_files import write_csv

IMAGE_COLUMNS = ["study_id", "series_id", "image_id", "laterality", "view_position", "height", "width"]
IMAGE_COLUMNS += ["breast_birads", "breast_density", "split"]
FINDING_COLUMNS = [*IMAGE_COLUMNS[:-1], "finding_categories", "finding_birads", "xmin", "ymin", "xmax", "ymax", "split"]
HEIGHT, WIDTH = 400, 320
BOX = (96.0, 180.0, 128.0, 212.0)  # xmin, ymin, xmax, ymax, in a left breast


def _list_images() -> list[list[str]]:
    rows = []
    exams = {
        "e1": ("LCC LMLO RCC RMLO", "training"),
        "e2": ("LCC LCC RCC RMLO", "training"),  # as one published exam: no L-MLO
        "e3": ("LCC LMLO RCC RMLO", "test"),
        **{f"e{number}": ("LCC LMLO RCC RMLO", "training") for number in (4, 5)},
    }
    for exam, (views, split) in exams.items():
        for place, view in enumerate(views.split()):
            birads, density = (
                "BI-RADS 4" if (exam, view[0]) in {("e1", "L"), ("e3", "R")} else "BI-RADS 1",
                "DENSITY C",
            )
            rows.append([exam, f"s{exam}", f"{exam}-{place}", view[0], view[1:], str(HEIGHT), str(WIDTH)])
            rows[-1] += [birads, density, split]
    return rows


# Image -> rows of (categories, BI-RADS, box).
_FOUND = {
    "e1-0": [(["Mass"], "BI-RADS 4", BOX)],
    "e1-1": [(["Mass", "Skin Retraction"], "BI-RADS 4", BOX), (["Suspicious Calcification"], "BI-RADS 3", BOX)],
    "e3-3": [(["Suspicious Lymph Node"], "", (8.5, 20.25, 60.0, 70.0))],
}


def write_vindr_mammo(root: Path) -> Path:
    """Five exams with their DICOM files; the masses of exam e1 are bright in its pictures. Returns the folder."""
    images = _list_images()
    write_csv(root / "breast-level_annotations.csv", IMAGE_COLUMNS, images)
    rows = []
    for image in images:
        for words, birads, box in _FOUND.get(image[2], [(["No Finding"], "", ("",) * 4)]):
            rows.append([*image[:-1], repr(words), birads, *map(str, box), image[-1]])
    write_csv(root / "finding_annotations.csv", FINDING_COLUMNS, rows)
    for number, image in enumerate(images):
        exam, name, side, view = image[0], image[2], image[3], image[4]
        picture = draw_breast("left" if side == "L" else "right")
        picture[::7, :: 5 + number] += 3  # no two files hold the same pixels
        if name in ("e1-0", "e1-1"):
            left, top, right, bottom = map(int, BOX)
            picture[top:bottom, left:right] = 4000
        path = root / "images" / exam / f"{name}.dicom"
        path.parent.mkdir(parents=True, exist_ok=True)
        window = {"WindowCenter": 2047.5, "WindowWidth": 4095, "VOILUTFunction": "LINEAR_EXACT"}
        spacing = {"ImagerPixelSpacing": [0.07, 0.08]}
        write_mammogram(path, picture, ImageLaterality=side, ViewPosition=view, **window, **spacing)
    return root


def write_published_counts(root: Path) -> Path:
    """Tables without images that have every published count, and nothing else of the published tables."""
    images, findings = [], []
    for split, num_exams in (("training", 4_000), ("test", 1_000)):
        part = _make_exams(split, num_exams)
        images += part
        findings += _make_findings(split, part)
    write_csv(root / "breast-level_annotations.csv", IMAGE_COLUMNS, images)
    write_csv(root / "finding_annotations.csv", FINDING_COLUMNS, findings)
    return root


def _make_exams(split: str, num_exams: int) -> list[list[str]]:
    birads = [str(n) for n in range(1, 6) for _ in range(PUBLISHED[f"{split} images, BI-RADS {n}"] // 2)]
    density = [letter for letter in "ABCD" for _ in range(PUBLISHED[f"{split} images, density {letter}"] // 4)]
    rows = []
    for exam in range(num_exams):
        for place, view in enumerate(("LCC", "LMLO", "RCC", "RMLO")):
            name = f"{split[:2]}{exam}"
            rows.append([name, name, f"{name}-{place}", view[0], view[1:], "3518", "2800"])
            rows[-1] += [f"BI-RADS {birads[2 * exam + place // 2]}", f"DENSITY {density[exam]}", split]
    return rows


def _make_findings(split: str, images: list[list[str]]) -> list[list[str]]:
    """Images in the order of the table: marked ones first, the others without finding."""
    num_marked = len(images) - PUBLISHED[f"{split} images, No Finding"]
    listed = [word for word in KINDS for _ in range(PUBLISHED[f"{split} images, {word}"])]
    words: list[list[str]] = [[word] for word in listed[:num_marked]]
    # What is left goes to the first images, all masses; 21 images of training have three words.
    rest = listed[num_marked:]
    num_triple = 21 if split == "training" else 0
    for place, word in enumerate(rest):
        words[place if place < len(rest) - num_triple else place - len(rest) + num_triple].append(word)
    rows = dict.fromkeys(KINDS, 0)
    found = []
    num_merged = sum(PUBLISHED[f"{split} boxes, {word}"] for word in KINDS)
    num_merged -= _num_rows(split) - PUBLISHED[f"{split} images, No Finding"]
    for some in words:
        merged = some if len(some) - 1 <= num_merged else some[: num_merged + 1]
        num_merged -= len(merged) - 1
        found.append([merged, *([word] for word in some[len(merged) :])])
        for word in some:
            rows[word] += 1
    for word in KINDS:  # further boxes of a word, in images that have it
        more = PUBLISHED[f"{split} boxes, {word}"] - rows[word]
        for place in [place for place, some in enumerate(words) if word in some][:more]:
            found[place].append([word])
    table = []
    for image, some in zip(images, [*found, *([["No Finding"]] for _ in images[num_marked:])], strict=True):
        for group in some:
            box = [""] * 4 if group == ["No Finding"] else ["1", "2", "30", "40"]
            table.append([*image[:-1], repr(group), "", *box, split])
    return table


def _num_rows(split: str) -> int:
    return 16_391 if split == "training" else 4_095
