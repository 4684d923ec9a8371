"""Are the breast phantom's findings in the pixels, for one who looks at the right place?

Whole breasts need more examples than `breast_phantom` has to find a mass of 12 mm. Here the place is given: a square
around each planted finding that is not plainly benign, on each view that shows it, against one anywhere else in the
same breast, clear of all findings. A logistic regression on rings, blobs and specks of the square, learned on half of
the women, says which is which; findings that the reader saw and those that were missed are scored apart.

It reads the images that `breast_phantom` has kept in runs/evidence; the result is results/breast_phantom/places.json.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.ndimage import gaussian_filter, minimum_filter
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from evidence.breast_phantom import ENRICHED, ENRICHMENT, SIZE, Visit, list_last, load_images, read_visit
from hilum.checksums import hash_parts
from hilum.evaluate.record import hash_code
from hilum.evaluate.result import Hashes, Result, write_result
from hilum.evaluate.scoring.bootstrap import LEVEL, NUM_RESAMPLES
from hilum.evaluate.scoring.estimates import estimate_scores
from hilum.evaluate.scoring.scores import Scores
from hilum.phantom.archive import map_in_order
from hilum.phantom.breast.archive import find_regions
from hilum.phantom.breast.detector import orient
from hilum.phantom.breast.freeze import hash_breast
from hilum.phantom.breast.plan import BENIGN_MORPHOLOGIES, LATERALITIES, PROJECTIONS, ViewPlan
from hilum.phantom.dice import Dice

NUM_WOMEN = 240  # of those whose images are there
HALF = 24  # pixels, about 17 mm
KINDS = ("mass", "calcification", "architectural distortion", "focal asymmetry", "asymmetry")
RESULT = Path("results/breast_phantom/places.json")
Square = tuple[str, bool, int, bool, list[float]]  # kind, seen, woman, whether a finding is there, features


def main() -> None:
    """Cut, fit, score, write and print."""
    visits = list_last(ENRICHED, 1, ENRICHMENT)
    images = load_images(visits)
    visits = visits[:NUM_WOMEN]
    numbers = list(range(len(visits)))
    squares: list[Square] = []
    for number, places in zip(numbers, map_in_order(find_places, visits, 2), strict=True):
        for side, view, kind, seen, row, col in places:
            image = images[2 * number + side, view].astype(np.float32)
            squares.append((kind, seen, number, True, measure_square(image, row, col)))
            away = find_elsewhere(image, [(r, c) for s, v, _, _, r, c in places if (s, v) == (side, view)], number)
            squares.append((kind, seen, number, False, measure_square(image, *away)))
    estimates = []
    for kind in KINDS:
        logit, target, woman, seen = fit_kind([square for square in squares if square[0] == kind])
        for name, keep in {"seen": seen, "missed": ~seen}.items():
            if target[keep].sum() > 5:
                estimates += estimate_scores(pack(kind, logit[keep], target[keep], woman[keep]), ("auroc",), slice=name)
    result = Result(
        encoder="rings, blobs and specks at a given place",
        task="breast phantom",
        protocol={
            "kind": "logistic regression on half of the women",
            "phantom": {"women": NUM_WOMEN, "enrichment": ENRICHMENT, "size": SIZE, "settings": hash_breast()},
        },
        seed=1,
        estimates=[each for each in estimates if each.of != "macro"],
        hashes=Hashes(
            data=hash_parts([hash_breast(), NUM_WOMEN, ENRICHMENT]),
            split=hash_parts(["every second woman"]),
            weights="trained here",
            code=hash_code(),
        ),
        counts={"squares": len(squares)},
        level=LEVEL,
        num_resamples=NUM_RESAMPLES,
    )
    write_result(RESULT, result)
    table = Table("finding", "", "positives", "AUROC", title="A finding or not, at a given place")
    for each in result.estimates:
        table.add_row(each.of, each.slice, str(each.positives), f"{each.value:.3f} ({each.low:.2f} to {each.high:.2f})")
    Console(width=120).print(table)


def find_places(visit: Visit) -> list[tuple[int, int, str, bool, int, int]]:
    """(side, view, kind, seen, row, col) of what is not plainly benign, as images facing left have it."""
    exam, _ = visit
    reading, places = read_visit(visit), []
    for side, laterality in enumerate(LATERALITIES):
        seen = {read.finding.key: read.views for read in reading[side].findings}
        for number, projection in enumerate(PROJECTIONS):
            view = ViewPlan(laterality, projection, 0)
            for place, region in find_regions(exam, view, SIZE).items():
                finding = exam.findings[laterality][place]
                benign = finding.morphology in BENIGN_MORPHOLOGIES or finding.density == "fat-containing"
                if finding.kind in KINDS and not benign:
                    rows, cols = np.nonzero(orient(region, exam, view))
                    is_seen = projection in seen.get(finding.key, ())
                    places.append((side, number, finding.kind, is_seen, int(rows.mean()), int(cols.mean())))
    return places


def find_elsewhere(image: np.ndarray, places: list[tuple[int, int]], key: int) -> tuple[int, int]:
    """A place well inside the breast and two squares away from each finding, or as far as there is."""
    deep = minimum_filter(gaussian_filter(image, 3) > 0.06, 25)
    rows, cols = np.nonzero(deep)
    if len(rows) == 0:
        return image.shape[0] // 2, HALF
    near = np.min([np.hypot(rows - row, cols - col) for row, col in places], axis=0)
    dice = Dice("breast elsewhere", key, *places[0])
    far = np.flatnonzero(near >= min(2 * HALF, near.max()))
    chosen = far[int(dice.draw() * len(far))]
    return int(rows[chosen]), int(cols[chosen])


def measure_square(image: np.ndarray, row: int, col: int) -> list[float]:
    """Means of rings less the mean of all, blobs of four sizes at and near the middle, and the finest specks."""
    padded = np.pad(image, HALF, mode="edge")
    square = padded[row : row + 2 * HALF + 1, col : col + 2 * HALF + 1]
    away = np.hypot(*np.mgrid[-HALF : HALF + 1, -HALF : HALF + 1])
    features = [float(square[(away >= r) & (away < r + 4)].mean() - square.mean()) for r in range(0, HALF, 4)]
    for sigma in (1.5, 3, 5, 8):
        blob = gaussian_filter(square, sigma) - gaussian_filter(square, 1.6 * sigma)
        features += [float(blob[away < 4].mean()), float(blob[away < 10].max())]
    speck = square - gaussian_filter(square, 1.5)
    features += [float(each) for each in np.percentile(speck[away < 12], (90, 99, 100))]
    return [*features, float(speck[away < 12].std()), float(square.std()), float(square.mean())]


def fit_kind(squares: list[Square]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Logits, targets, women and whether the reader saw it, of the squares of the women that were not learned from."""
    _, seen, woman, target, features = (np.array(part) for part in zip(*squares, strict=True))
    taught = woman % 2 == 0
    fit = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    logit = fit.fit(features[taught], target[taught]).decision_function(features[~taught])
    return logit, target[~taught].astype(np.float32), woman[~taught], seen[~taught]


def pack(kind: str, logit: np.ndarray, target: np.ndarray, woman: np.ndarray) -> Scores:
    nothing = np.full((1, len(logit), 1), np.nan)
    return Scores(
        (kind,), target[:, None], logit[None, :, None].astype(np.float32), nothing, woman, np.arange(len(logit))
    )


if __name__ == "__main__":
    main()
