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
    """Images in the order of the table: with masses, with calcifications alone, with other findings alone, without.

    Words that are more than images stand in the row of a mass (of 21 in training two of them), or in a row of their
    own beside a mass or a calcification: an image of two labels, of three kinds.
    """
    mass, calcification, *others = KINDS
    num = {word: PUBLISHED[f"{split} images, {word}"] for word in KINDS}
    num_boxes = {word: PUBLISHED[f"{split} boxes, {word}"] for word in KINDS}
    num_marked = len(images) - PUBLISHED[f"{split} images, No Finding"]
    num_rows = PUBLISHED[f"{split} rows of findings"] - PUBLISHED[f"{split} images, No Finding"]
    num_merged, num_triple = sum(num_boxes.values()) - num_rows, 21 if split == "training" else 0
    num_apart = sum(num.values()) - num_marked - num_merged
    of_mass, of_calcification = (
        PUBLISHED[f"{split} images, rows with and without {word}"] for word in (mass, calcification)
    )
    num_both = of_mass + of_calcification - num_apart  # a row of a mass, and one of a calcification

    masses = [[[mass]] for _ in range(num[mass])]
    calcifications = [[[calcification]] for _ in range(num[calcification] - num_both)]
    words = [word for word in reversed(others) for _ in range(num[word])]
    alone = [[[words.pop(0)]] for _ in range(num_marked - len(masses) - len(calcifications))]
    for place in range(num_merged):  # into the rows of masses of one label
        masses[of_mass + place % (num_merged - num_triple)][0].append(words.pop(0))
    for image in masses[:num_both]:
        image.append([calcification])
    for image in [*masses[num_both:of_mass], *calcifications[: of_calcification - num_both]]:
        image.append([words.pop(0)])
    assert not words
    for some in (masses[::-1], calcifications[::-1]):  # further boxes of a word, in images that have it alone
        for image in some[: num_boxes[some[0][0][0]] - num[some[0][0][0]]]:
            image.append(image[0][:1])
    for word in others:
        having = [image for image in [*alone, *masses[:of_mass], *calcifications] if [word] in image]
        for image in having[: num_boxes[word] - num[word]]:
            image.append([word])
    found = [*masses, *calcifications, *alone]
    table = []
    for image, some in zip(images, [*found, *([["No Finding"]] for _ in images[num_marked:])], strict=True):
        for group in some:
            box = [""] * 4 if group == ["No Finding"] else ["1", "2", "30", "40"]
            table.append([*image[:-1], repr(group), "", *box, split])
    return table
