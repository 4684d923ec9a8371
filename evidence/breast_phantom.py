"""Is the breast phantom neither noise nor trivial, and are its tables like those it is modelled on?

Three parts, all on each woman's last exam:

- tables: shares of density, BI-RADS and findings, of findings seen on one view, and how often descriptions repeat,
  beside VinDr-Mammo's (L 1.5, L 4.1), on an archive as in screening;
- pixels: how well each target of a breast is read from its CC and MLO by simple features (histogram, texture, blob and
  speck detectors; logistic regression) and by a small network trained from nothing, on an enriched archive, half of the
  women in training; and the C-index of both for the cancers to come, beside the generator's own;
- speed: seconds of one core for a view of 760 x 456 and of 1520 x 912.

Work is kept in runs/evidence, results go to results/breast_phantom.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from rich.console import Console
from rich.table import Table
from scipy.ndimage import gaussian_filter, maximum_filter, minimum_filter
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from hilum.checksums import hash_parts
from hilum.evaluate.record import hash_code
from hilum.evaluate.result import Estimate, Hashes, Result, write_result
from hilum.evaluate.scoring.bootstrap import LEVEL, NUM_RESAMPLES
from hilum.evaluate.scoring.estimates import estimate_scores
from hilum.evaluate.scoring.scores import Scores
from hilum.phantom.archive import map_in_order
from hilum.phantom.breast.clinic import plan_women
from hilum.phantom.breast.detector import acquire, is_mirrored
from hilum.phantom.breast.freeze import hash_breast
from hilum.phantom.breast.hazard import find_true_c_index
from hilum.phantom.breast.plan import LATERALITIES, PROJECTIONS, ExamPlan, ViewPlan
from hilum.phantom.breast.reader import BreastReading, read_exam

SCREENED, ENRICHED, ENRICHMENT = 700, 420, 4.0  # women of the two archives
SIZE = 380  # rows of an image that targets are read from
EPOCHS, BATCH, LR = 14, 16, 2e-3
TARGETS = ("mass", "calcification", "malignant", "BI-RADS 4 or 5", "extremely dense", "heterogeneously dense or more")
VINDR = {  # shares of breasts, and of breasts with such a finding those that show it on one view (L 1.5, L 4.1)
    "BI-RADS": {1: 0.670, 2: 0.234, 3: 0.046, 4: 0.038, 5: 0.011},
    "density": {"a": 0.005, "b": 0.095, "c": 0.765, "d": 0.135},
    "findings": {
        "mass": 0.0609, "calcification": 0.0229, "architectural distortion": 0.0065, "asymmetry": 0.0096,
        "focal asymmetry": 0.014, "global asymmetry": 0.0013, "lymph node": 0.0053,
    },
    "single view": {"mass": 0.172, "calcification": 0.070, "architectural distortion": 0.169, "asymmetry": 1.0},
    "most common description": 0.503,
    "negatives with the same description": 0.30,
    "anchors with such a negative": 0.84,
}  # fmt: skip
WORK = Path("runs/evidence") / f"breast-{hash_breast()[:8]}"
FOLDER = Path("results/breast_phantom")
Visit = tuple[ExamPlan, ExamPlan | None]


def main() -> None:
    """Draw women, read, render, fit, score, write, print and plot."""
    tables = describe_tables(list_last(SCREENED, 0, 1.0))
    speed = {f"{rows} x {round(0.6 * rows)}": measure_seconds(rows) for rows in (760, 1520)}
    visits = list_last(ENRICHED, 1, ENRICHMENT)
    images = load_images(visits)
    features = np.array([measure_breast(pair) for pair in images])
    target, woman = label_breasts(visits)
    taught = woman % 2 == 0
    logits = {
        "simple features": fit_simple(features, target, taught),
        "small network": fit_network(images, target, taught),
    }
    scores = {name: pack_scores(logit, target, woman, ~taught) for name, logit in logits.items()}
    estimates: list[Estimate] = []
    for name, part in scores.items():
        estimates += estimate_scores(part, ("auroc",), slice=name)
    risk = score_risk(features, taught)
    result = Result(
        encoder="simple features and a small network",
        task="breast phantom",
        protocol={
            "kind": "supervised, half of the women in training",
            "phantom": {"women": ENRICHED, "enrichment": ENRICHMENT, "size": SIZE, "settings": hash_breast()},
            "epochs": EPOCHS,
            "tables": tables,
            "VinDr-Mammo": VINDR,
            "C-index of cancers to come": risk,
            "seconds of one core for a view": speed,
        },
        seed=1,
        estimates=estimates,
        hashes=Hashes(
            data=hash_parts([hash_breast(), ENRICHED, ENRICHMENT]),
            split=hash_parts(["every second woman"]),
            weights="trained here",
            code=hash_code(),
        ),
        counts={"test women": len(np.unique(woman[~taught])), "test breasts": int((~taught).sum())},
        level=LEVEL,
        num_resamples=NUM_RESAMPLES,
    )
    FOLDER.mkdir(parents=True, exist_ok=True)
    write_result(FOLDER / "result.json", result)
    plot_breasts(visits)
    print_result(result)


def list_last(num: int, seed: int, enrichment: float) -> list[Visit]:
    """Each woman's last exam and the one before it."""
    return [(exams[-1], exams[-2] if len(exams) > 1 else None) for exams, _ in plan_women(num, seed, enrichment)]


def read_visit(visit: Visit) -> tuple[BreastReading, ...]:
    return read_exam(*visit)


def describe_tables(visits: list[Visit]) -> dict[str, object]:
    """What the archive's tables say, in VinDr's terms: findings of BI-RADS 3 or more."""
    assessments: Counter[int] = Counter()
    breasts: Counter[str] = Counter()
    single: Counter[str] = Counter()
    descriptions: list[tuple] = []
    for (exam, _), reading in zip(visits, map_in_order(read_visit, visits, 2), strict=True):
        for breast in reading:
            found = {read.kind: read for read in breast.findings if read.birads >= 3}
            assessments[breast.assessment] += 1
            breasts.update(found.keys())
            single.update(kind for kind, read in found.items() if len(read.views) == 1)
            descriptions.append((breast.assessment, exam.woman.density, tuple(sorted(found))))
    num = len(descriptions)
    density = Counter(exam.woman.density for exam, _ in visits)
    times = Counter(descriptions)
    same = np.array([(times[each] - 1) / (num - 1) for each in descriptions])
    return {
        "breasts": num,
        "BI-RADS": {str(name): round(assessments[name] / num, 4) for name in range(1, 6)},
        "density": {name: round(density[name] / len(visits), 4) for name in "abcd"},
        "findings": {name: round(count / num, 4) for name, count in sorted(breasts.items())},
        "single view": {name: round(single[name] / breasts[name], 3) for name in sorted(breasts)},
        "distinct descriptions": len(times),
        "most common description": round(times.most_common(1)[0][1] / num, 3),
        "negatives with the same description": round(float(same.mean()), 3),
        "anchors with such a negative": round(float((1 - (1 - same) ** 17).mean()), 3),  # in a batch of 18
    }


def render_pair(visit: Visit) -> np.ndarray:
    """Both breasts of an exam (side, view, row, col), facing left, 0 to 1, half precision."""
    exam, _ = visit
    sides = []
    for side in LATERALITIES:
        views = [ViewPlan(side, projection, 0) for projection in PROJECTIONS]
        greys = [acquire(exam, view, SIZE).grey for view in views]
        flip = side == "R" and not is_mirrored(exam, views[0])
        sides.append(np.clip(np.stack([grey[:, ::-1] if flip else grey for grey in greys]), 0, 1))
    return np.stack(sides).astype(np.float16)


def load_images(visits: list[Visit]) -> np.ndarray:
    """(breast, view, row, col), left breasts before right ones of each woman."""
    path = WORK / f"images-{len(visits)}-{SIZE}.npy"
    if not path.exists():
        WORK.mkdir(parents=True, exist_ok=True)
        np.save(path, np.concatenate(list(map_in_order(render_pair, visits, 2))))
    return np.load(path)


def label_breasts(visits: list[Visit]) -> tuple[np.ndarray, np.ndarray]:
    """What is in each breast (breast, target), and whose it is."""
    rows = []
    for (exam, _), reading in zip(visits, map_in_order(read_visit, visits, 2), strict=True):
        for breast in reading:
            kinds = {read.kind for read in breast.findings if read.birads >= 3}
            cancer = any(finding.malignant for finding in exam.findings[breast.laterality])
            density = exam.woman.density
            rows.append(
                [
                    "mass" in kinds,
                    "calcification" in kinds,
                    cancer,
                    breast.assessment >= 4,
                    density == "d",
                    density in "cd",
                ]
            )
    return np.array(rows, np.float32), np.repeat(np.arange(len(visits)), 2)


def measure_breast(pair: np.ndarray) -> np.ndarray:
    """Features of both views: size, histogram, texture at five scales, the strongest blob of four sizes, specks."""
    features = []
    for image in pair.astype(np.float32):
        inside = gaussian_filter(image, 3) > 0.06
        deep = minimum_filter(inside, 15)
        values = image[deep] if deep.any() else image.ravel()
        features += [float(inside.mean()), float(values.mean()), float(values.std())]
        features += np.percentile(values, (10, 50, 90, 99)).tolist()
        speck = image - gaussian_filter(image, 2)
        features += np.percentile(speck[deep], (99, 99.9, 100)).tolist() if deep.any() else [0.0] * 3
        for sigma in (1, 2, 4, 8, 14):
            blob = gaussian_filter(image, sigma) - gaussian_filter(image, 1.6 * sigma)
            peak = (blob == maximum_filter(blob, int(3 * sigma))) & deep
            features += [float(blob[deep].std()) if deep.any() else 0.0]
            features += [float(blob[peak].max()) if peak.any() else 0.0]
    return np.array(features)


def fit_simple(features: np.ndarray, target: np.ndarray, taught: np.ndarray) -> np.ndarray:
    """Logits (breast, target) of one logistic regression a target."""
    logits = []
    for column in target.T:
        fit = make_pipeline(StandardScaler(), LogisticRegression(C=0.05, max_iter=1000, class_weight="balanced"))
        logits.append(fit.fit(features[taught], column[taught]).decision_function(features))
    return np.stack(logits, axis=1).astype(np.float32)


class SmallNetwork(nn.Module):
    """Six convolutions shared by the two views; what is greatest and what is mean over both says all targets."""

    def __init__(self, num_targets: int) -> None:
        super().__init__()
        widths = (1, 16, 24, 32, 48, 64, 96)
        self.blocks = nn.Sequential(
            *(
                nn.Sequential(nn.Conv2d(a, b, 3, 2 if i < 5 else 1, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU())
                for i, (a, b) in enumerate(itertools.pairwise(widths))
            )
        )
        self.head = nn.Linear(2 * widths[-1], num_targets)

    def forward(self, pair: Tensor) -> Tensor:
        maps = self.blocks(pair.flatten(0, 1)[:, None]).unflatten(0, pair.shape[:2])
        return self.head(torch.cat([maps.amax((1, 3, 4)), maps.mean((1, 3, 4))], dim=1))


def fit_network(images: np.ndarray, target: np.ndarray, taught: np.ndarray) -> np.ndarray:
    """Logits (breast, target); AdamW under one cycle, flips up and down, shifts of brightness."""
    torch.manual_seed(0)
    pixels, labels, rows = torch.from_numpy(images), torch.from_numpy(target), torch.from_numpy(np.flatnonzero(taught))
    model = SmallNetwork(target.shape[1])
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=0.05)
    steps = EPOCHS * (len(rows) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, total_steps=steps)
    order = torch.cat([rows[torch.randperm(len(rows))] for _ in range(EPOCHS + 1)])
    for chosen in order[: steps * BATCH].split(BATCH):
        pair = pixels[chosen].float()
        pair = pair.flip(-2) if torch.rand(()) < 0.5 else pair
        loss = F.binary_cross_entropy_with_logits(model(pair * (0.9 + 0.2 * torch.rand(()))), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    model.eval()
    with torch.inference_mode():
        return torch.cat([model(part.float()) for part in pixels.split(32)]).numpy()


def pack_scores(logit: np.ndarray, target: np.ndarray, woman: np.ndarray, tested: np.ndarray) -> Scores:
    rows = np.flatnonzero(tested)
    nothing = np.full((1, len(rows), target.shape[1]), np.nan)
    return Scores(TARGETS, target[rows], logit[None, rows], nothing, woman[rows], rows)


def score_risk(features: np.ndarray, taught: np.ndarray) -> dict[str, float]:
    """The C-index (over the rates, no time drawn) of women without cancer, for scores of rising knowledge."""
    women = plan_women(ENRICHED, 1, ENRICHMENT)
    well = np.array([outcome.days > 0 for _, outcome in women])
    rate = np.array([outcome.rate for _, outcome in women])
    known = {
        "density alone": np.array([exams[-1].woman.glandularity for exams, _ in women]),
        "age alone": np.array([exams[-1].woman.age for exams, _ in women]),
        "early sign alone": np.array([outcome.sign for _, outcome in women]),
        "all that shows (the most there is)": np.array([outcome.risk for _, outcome in women]),
    }
    pairs = features.reshape(len(women), 2, -1)
    of_woman = np.concatenate([pairs.mean(axis=1), pairs.max(axis=1) - pairs.min(axis=1)], axis=1)
    learns = taught[::2] & well
    soon = np.array([outcome.event and outcome.days < 3 * 365 for _, outcome in women])
    fit = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000)).fit(of_woman[learns], soon[learns])
    known["simple features of the images"] = fit.decision_function(of_woman)
    tested = ~taught[::2] & well
    found = {name: round(find_true_c_index(score[tested], rate[tested]), 3) for name, score in known.items()}
    found["censored share"] = round(
        float(np.mean([not o.event for (_, o), keep in zip(women, well, strict=True) if keep])), 3
    )
    return found


def measure_seconds(rows: int) -> float:
    """Processor seconds of one view, the mean of ten."""
    visits = list_last(5, 3, 4.0)
    acquire(visits[0][0], ViewPlan("L", "CC", 0), 100)
    begin = time.process_time()
    for exam, _ in visits:
        for projection in PROJECTIONS:
            acquire(exam, ViewPlan("L", projection, 0), rows)
    return round((time.process_time() - begin) / 10, 3)


def plot_breasts(visits: list[Visit]) -> None:
    """breasts.png: twelve exams of the enriched archive, four views each, as stored."""
    rows = []
    for exam, _ in visits[:12]:
        views = [ViewPlan(side, projection, 0) for projection in PROJECTIONS for side in ("R", "L")]
        rows.append(np.concatenate([np.clip(acquire(exam, view, 300).grey, 0, 1) for view in views], axis=1))
    sheet = np.concatenate([np.concatenate(rows[:6]), np.concatenate(rows[6:])], axis=1)
    Image.fromarray((255 * sheet).astype(np.uint8)).save(FOLDER / "breasts.png", optimize=True)


def print_result(result: Result) -> None:
    slices = ("simple features", "small network")
    table = Table("target", "test positives", *slices, title="Test AUROC on the breast phantom, by breast")
    for name in TARGETS:
        cells = [result.find("auroc", name, slice) for slice in slices]
        shown = [f"{cell.value:.3f} ({cell.low:.2f} to {cell.high:.2f})" for cell in cells]
        table.add_row(name, str(cells[0].positives), *shown)
    Console(width=160).print(table)
    for name in ("tables", "VinDr-Mammo", "C-index of cancers to come", "seconds of one core for a view"):
        Console(width=160).print(name, result.protocol[name])


if __name__ == "__main__":
    main()
