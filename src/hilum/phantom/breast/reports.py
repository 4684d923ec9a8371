"""The radiologist's own report: more than the tables hold (comparison, places in words, how sure).

What is said follows the reading: nothing is named that was not seen, and no outcome. Wording is drawn from the exam's
key.
"""

from __future__ import annotations

from collections.abc import Sequence

from hilum.phantom.breast.plan import ExamPlan
from hilum.phantom.breast.reader import BreastReading, Read
from hilum.phantom.dice import Dice

COMPOSITION = {
    "a": ("The breasts are almost entirely fatty.", "Breast tissue is almost entirely fat."),
    "b": ("There are scattered areas of fibroglandular density.", "Scattered fibroglandular tissue."),
    "c": (
        "The breasts are heterogeneously dense, which may obscure small masses.",
        "Heterogeneously dense tissue, which lowers the sensitivity of mammography.",
    ),
    "d": (
        "The breasts are extremely dense, which lowers the sensitivity of mammography.",
        "Extremely dense tissue; small lesions may be hidden.",
    ),
}
SIDES = {"L": "left", "R": "right"}
IMPRESSIONS = {
    1: ("Negative. BI-RADS 1.", "No mammographic evidence of malignancy. BI-RADS 1."),
    2: ("Benign findings. BI-RADS 2.", "Benign. Routine screening. BI-RADS 2."),
    3: ("Probably benign. BI-RADS 3; follow-up in six months.", "Probably benign, BI-RADS 3. Short-interval control."),
    4: ("Suspicious. BI-RADS 4; biopsy should be considered.", "Suspicious, BI-RADS 4. Tissue diagnosis is advised."),
    5: ("Highly suggestive of malignancy. BI-RADS 5.", "BI-RADS 5: biopsy is required."),
}  # fmt: skip


def write_report(exam: ExamPlan, prior: ExamPlan | None, reading: Sequence[BreastReading]) -> dict[str, str]:
    """Sections "comparison", "composition", "findings" and "impression"."""
    dice = Dice("breast report", exam.key)
    months = round((exam.day - prior.day) / 30.4) if prior else 0
    comparison = (
        dice.choose((f"Prior mammogram {months} months ago.", f"Compared with the exam of {months} months before."))
        if prior
        else dice.choose(("None available.", "No prior mammograms."))
    )
    composition = dice.choose(COMPOSITION[exam.woman.density])
    if exam.woman.implant:
        composition += " Bilateral implants are present."
    findings = " ".join(_describe_breast(dice, exam, breast, prior is not None) for breast in reading)
    impression = " ".join(
        f"{SIDES[breast.laterality].capitalize()} breast: {dice.choose(IMPRESSIONS[breast.assessment])}"
        for breast in reading
    )
    return {"comparison": comparison, "composition": composition, "findings": findings, "impression": impression}


def _describe_breast(dice: Dice, exam: ExamPlan, breast: BreastReading, has_prior: bool) -> str:
    side = SIDES[breast.laterality]
    if not breast.findings:
        text = dice.choose(
            (
                f"{side.capitalize()} breast: no suspicious mass, calcification or architectural distortion.",
                f"The {side} breast shows no dominant mass or suspicious calcification.",
            )
        )
        return text + (
            dice.choose((" Unchanged.", " Stable from the prior exam.")) if has_prior and dice.happens(0.5) else ""
        )
    ordered = sorted(breast.findings, key=lambda read: -read.birads)
    return f"{side.capitalize()} breast: " + " ".join(_describe(dice, exam, read) for read in ordered)


def _describe(dice: Dice, exam: ExamPlan, read: Read) -> str:
    finding = read.finding
    size = f"{finding.size:.0f} mm"
    if read.kind == "mass":
        what = f"{size} {finding.shape} mass with {_margin(finding.margin)}"
        what += f", {_density(finding.density)}" if finding.density and dice.happens(0.75) else ""
    elif read.kind == "calcification":
        spread = finding.distribution.split("/")[0]
        what = f"{spread} {finding.morphology.split('/')[0]} calcifications"
        what += f" spanning {size}" if finding.distribution not in ("diffuse", "") and dice.happens(0.7) else ""
    elif read.kind == "lymph node":
        what = f"{size} dense lymph node without a fatty hilum"
    else:
        what = {"asymmetry": "one-view asymmetry"}.get(read.kind, read.kind)
        what += f" of about {size}" if dice.happens(0.5) else ""
    where = _place(dice, exam, read)
    seen = f", seen on the {read.views[0]} view only" if len(read.views) == 1 and read.kind != "lymph node" else ""
    change = {"new": "new since the prior", "stable": "unchanged from the prior", "larger": "larger than before"}.get(
        read.prior, ""
    )
    sure = ""
    if read.confidence < 0.55:
        sure = dice.choose((" This may be superimposed tissue.", " Subtle; possibly overlap.", " Indeterminate."))
    verbs = (
        ("There are", "Noted are", "Seen are") if read.kind == "calcification" else ("There is", "Noted is", "Seen is")
    )
    article = "" if read.kind == "calcification" else _article(what)
    return f"{dice.choose(verbs)} {article}{what}{where}{seen}{', ' + change if change else ''}.{sure}"


def _article(what: str) -> str:
    vowel = what.startswith(("a", "e", "i", "o", "u", "8", "11 ", "18 ")) and not what.startswith("one")
    return "an " if vowel else "a "


def _margin(margin: str) -> str:
    return {
        "circumscribed": "circumscribed margins",
        "obscured": "partly obscured margins",
        "microlobulated": "microlobulated margins",
        "indistinct": "indistinct margins",
        "spiculated": "spiculated margins",
    }[margin]


def _density(density: str) -> str:
    return {"high": "of high density", "equal": "of equal density", "low": "of low density"}.get(
        density, "containing fat"
    )


def _place(dice: Dice, exam: ExamPlan, read: Read) -> str:
    """Quadrant, depth and sometimes the hour of the clock face and the distance from the nipple."""
    if read.quadrant == "axilla":
        return " in the axilla"
    if read.quadrant == "retroareolar":
        return ""
    where = f" in the {read.quadrant} breast" if read.quadrant else ""
    if read.depth and read.finding.distribution != "diffuse":
        where += dice.choose((f", {read.depth} third", f" at {read.depth} depth"))
    if len(read.views) == 2 and dice.happens(0.35) and read.depth:
        away = (exam.woman.depth - read.finding.place[0]) / 10
        where += f", {away:.0f} cm from the nipple"
    return where


def format_report(report: dict[str, str]) -> str:
    """The report as a text file has it."""
    return "\n\n".join(f"{name.upper()}:\n{text}" for name, text in report.items()) + "\n"
