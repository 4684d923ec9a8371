"""The numbers published for PaCX-MAE (P 8), to stand beside a user's own, and what a reader must know of each."""

from __future__ import annotations

from hilum.evaluate.heads.fit import Head
from hilum.evaluate.paper.published_yaml import read_published, simplify_name

MODELS = {"imagenet": "ImageNet ViT-B/16", "mae": "MAE", "pacx": "PaCX-MAE"}
ABLATIONS = {
    "ecg_teacher_only": "ECG teacher only",
    "lab_teacher_only": "laboratory teacher only",
    "contrastive_only": "contrastive term only",
    "regression_only": "regression term only",
    "full": "both teachers and terms",
}
TEACHERS = {"ecg": "ECG", "labs": "laboratory values"}
# What else a data set is called, as letters and digits.
_OTHER_NAMES = {
    "TB": ("tb", "shenzhen", "tuberculosisshenzhen"),
    "CheXchoNet": ("chexchonet",),
    "VinDr": ("vindr", "vindrcxr"),
    "NIH-14": ("nih14", "nih", "nihchestxray14", "chestxray14", "nihcxr14"),
    "MedMod": ("medmod", "medmodphys"),
    "ChestX6": ("chestx6",),
    "CXL-Seg": ("cxlseg",),
    "COVID-QU-Ex": ("covidquex", "covidqu"),
    "QaTa-COV19": ("qatacov19", "qata", "qatacov19v2"),
}

# What a reader must know of a user's own probes, by their head; captions say it.
PROBES: dict[Head, str] = {
    "linear": "Probes are L2 logistic regressions on standardised features, chosen on validation, thresholds too.",
    "released": "Probes are trained as PaCX-MAE's code trains them (--head released): one linear layer on raw features "
    "of whole images squashed to squares and mirrored at random, AdamW at one rate for 40 epochs, of which validation "
    "AUROC chooses one. A study's answer is the mean of its images' logits. They are to stand beside published "
    "numbers, not beside our usual probes.",
}

# Key -> what is wrong with, or special to, a published number (P 3, P 7.4, P 9, P 10). Tables print those that concern
# them.
FOOTNOTES = {
    "single": "Published numbers are of one run with one seed, without intervals, the checkpoint with the best "
    "validation AUROC (or Dice).",
    "probe": "Published probes are one linear layer on the raw class token, which a masked autoencoder's loss does not "
    "train, with one learning rate for all arms; their F1 is at the threshold 0.5, which on rare labels mostly "
    "measures calibration.",
    "masking": "The paper says 90 % of the patches are masked; its code never passes that number on and masks 75 %.",
    "tuned": "The paper says that LayerNorms are tuned and less than 1 % of parameters; in its code only the last "
    "LayerNorm is, 1.19 % of the encoder, and 1.5 million parameters of heads.",
    "teacher": "The paper calls the ECG teacher a transformer; ECGFounder is a one-dimensional convolutional network.",
    "labs": "The laboratory teacher was trained with missing values blanked and read without: 29 % of its inputs are "
    "of another kind than it knows.",
    "exposure": "PaCX-MAE has seen 10,000 MIMIC images that the MAE beside it has not, and no control arm shows what "
    "that alone gives; MedMod and CXL-Seg are of MIMIC.",
    "checkpoint": "Whether the MAE here is its best or its last checkpoint is not stated, nor are the weights of the "
    "loss's terms, batch size and epochs of the distillation.",
    "imagenet": "The ImageNet encoder was shown images by other statistics than its own (0.5 and 0.5).",
    "TB": "133 test images: the standard error of such an AUROC is about 0.03. Split by image.",
    "CheXchoNet": "Split by image: patients are in training and test. The test split's prevalence is not stated.",
    "VinDr": "Published validation is split by image; the test split is the official one.",
    "NIH-14": "Published validation is split by image; the test split is the official one. Published means are of its "
    "own 14 labels: --task nih.",
    "MedMod": "Split by stay: patients may be in training and test. Row counts are not stated.",
    "ChestX6": "The data set holds augmented copies of its own images.",
    "CXL-Seg": "The masks are a model's output; which subset and split were used is not stated.",
    "batches": "Published IoU and Dice pool the pixels of a batch and average over batches, so that they depend on the "
    "batch size; ours are means over images.",
    "figure": "Levels with fewer labels are read off a figure, to 0.002. The text beside it says about 5 points for "
    "VinDr and NIH; the figure itself says 4.5 and 3.6.",
    "subsets": "Published subsets hold one random positive of each label and a uniform rest, not proportions.",
    "regression": "The regression term alone is below plain MAE on MedMod and VinDr: its target is not centred.",
    "contrastive": "The contrastive term alone is as good as both, and its F1 is higher on two of the three.",
    "alignment": "The paper calls this zero-shot; a ridge regression (penalty 10) is fitted to 9,984 training pairs.",
    "centred": "Published cosines must be centred ones: a constant answer already has a raw cosine of about 0.66 with "
    "the ECG teacher's vectors.",
}


def match_benchmark(name: str) -> str | None:
    """The published data set that a user's is: "ChestX-ray14" is NIH-14, "vindr_cxr" is VinDr."""
    plain = simplify_name(name)
    return next((key for key, names in _OTHER_NAMES.items() if plain in names), None)


def find_pair(table: str, dataset: str | None, arm: str) -> tuple[float, float] | None:
    """Both metrics of a model on a data set: of "linear_probe" AUROC and F1, of "segmentation" IoU and Dice."""
    row = read_published("pacx")[table].get(dataset, {}).get(arm)
    return None if row is None else (row[0], row[1])


def find_ablation(variant: str, dataset: str | None) -> tuple[float, float] | None:
    """AUROC and F1 of a variant."""
    row = read_published("pacx")["ablation"][variant].get(dataset)
    return None if row is None else (row[0], row[1])


def find_few_labels(share: float, dataset: str | None, arm: str) -> float | None:
    """AUROC with that share of the labels; None for ImageNet, which the figure does not show."""
    row = read_published("pacx")["label_efficiency"].get(share, {}).get(dataset)
    return None if row is None or arm not in ("mae", "pacx") else row[("mae", "pacx").index(arm)]


def find_alignment(teacher: str, arm: str) -> float | None:
    """Centred cosine with a teacher's vectors."""
    return read_published("pacx")["alignment"].get(teacher, {}).get(arm)
