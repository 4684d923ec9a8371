"""The numbers published for MVMAE (M 5), to stand beside a user's own, and what a reader must know of each."""

from __future__ import annotations

from hilum.evaluate.paper.published_yaml import read_published, simplify_name

# Order of the columns of the published tables.
DATASETS = {"mimic": "MIMIC-CXR", "chexpert": "CheXpert", "padchest": "PadChest", "combined": "Combined"}
MODELS = {
    "supervised": "Supervised",
    "independent": "Independent",
    "biomedclip": "BiomedCLIP",
    "chexagent": "CheXagent",
    "mvmae_v2t": "MVMAE-V2T",
    "mvmae": "MVMAE",
}
PER_FINDING = ("supervised", "independent", "biomedclip", "chexagent", "mvmae")

# Key -> what is wrong with, or special to, a published number. Tables print those that concern them.
FOOTNOTES = {
    "random": "From random weights: a probe of features that learned nothing. Fine-tuned, it is supervised training.",
    "validation": "Published numbers are of the validation split that also chose the epoch, one run, no interval.",
    "pooled": "Published Combined is pooled over studies, though its caption says average (the mean of MVMAE's three "
    "is 84.80, its Combined 87.43): it stands beside our pooled column.",
    "chexpert": "Published CheXpert is of 200 validation studies with report-derived labels, some with one positive: "
    "differences among the best four are within noise.",
    "biomedclip": "BiomedCLIP in Table 1 contradicts Tables 5-7, whose means are the fairer baseline "
    "79.7 / 81.6 / 84.3 (MIMIC / CheXpert / PadChest).",
    "independent": "Independent on PadChest: Table 1 says 88.19, Table 7 means 88.71.",
    "chexagent": "CheXagent was only probed; its backbone is not the ViT-L/14 that the paper names.",
    "zeros": "Published Table 8 counts the AUROC of a label without positives as 0, which is why CheXpert is at 52-57.",
    "top5": "The paper does not define its top 5; no set of five labels reproduces Table 2.",
    "protocol": "Published rows were fine-tuned; ours here are probed.",
}


def match_dataset(name: str) -> str | None:
    """The published data set that a user's archive of that name is: "MIMIC-CXR" and "mimic_cxr_jpg" are mimic."""
    plain = simplify_name(name)
    return next((key for key in DATASETS if key != "combined" and plain.startswith(key)), None)


def match_model(name: str) -> str | None:
    """The published model that a user's method of that name is: "MVMAE-V2T" is mvmae_v2t, "mvmae 2" is none."""
    return next((key for key in MODELS if simplify_name(key) == simplify_name(name)), None)


def find_full_labels(model: str, dataset: str, metric: str, *, top5: bool = False) -> float:
    """AUROC or F1 with all labels in percent (Tables 1 and 2)."""
    table = read_published("mvmae")["table2_top5" if top5 else "table1_full_labels"]
    return table[model][2 * list(DATASETS).index(dataset) + ("auroc", "f1").index(metric)]


def find_brier(model: str, dataset: str) -> float | None:
    """Brier error of the probe of 20,000 studies (Table 3), None for CheXagent."""
    row = read_published("mvmae")["table3_brier_probe_20k"].get(model)
    return None if row is None else row[list(DATASETS).index(dataset)]


def find_views(model: str, views: str, dataset: str) -> float | None:
    """AUROC in percent of studies with two views, seen by "one_view" or "two_views" (Table 8)."""
    row = read_published("mvmae")["table8_two_view_studies_probe_5k"].get(f"{model}_{views}")
    return None if row is None else row[list(DATASETS).index(dataset)]


def find_finding(model: str, dataset: str, finding: str) -> float | None:
    """AUROC of a finding in percent, to a whole one (Tables 5-7); None for MVMAE-V2T, and for other findings."""
    row = read_published("mvmae")["table5_7_per_label_auroc"].get(dataset, {}).get(finding)
    return None if row is None or model not in PER_FINDING else round(100 * row[PER_FINDING.index(model)], 1)


def average_published(model: str, dataset: str) -> float | None:
    """Mean of a column of Tables 5-7 in percent: what Table 1 should say."""
    rows = read_published("mvmae")["table5_7_per_label_auroc"].get(dataset)
    if rows is None or model not in PER_FINDING:
        return None
    return 100 * sum(row[PER_FINDING.index(model)] for row in rows.values()) / len(rows)
