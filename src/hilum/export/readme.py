"""The bundle's own page: what it is, in short, and an example that runs as it stands (a test runs it)."""

from __future__ import annotations

from typing import Any


def write_readme(about: dict[str, Any]) -> str:
    """Markdown, from what bundle.json says."""
    shown, licences = about["preprocessing"], about["licences"]
    findings = "\n".join(f"| {one['name']} | {_threshold(one)} | {_score(one)} |" for one in about["findings"])
    said = "It makes vectors of images, and says nothing of findings.\n"
    if findings:
        said = f"| finding | present from | AUROC on test patients |\n|---|---|---|\n{findings}\n\n"
        most = about["views"]["at_most"]
        few = "" if most is None else f"; of {most} images at most, as in the evaluation"
        said += f"Probabilities: {about['calibration_note']}.\nSeveral images: {about['views']['rule']}{few}.\n"
    steps = "\n".join(f"{place}. {step}" for place, step in enumerate(shown["steps"], 1))
    largest = max(about["check"]["largest_difference"].values())
    return f"""# {about["encoder"]}

{about["intended_use"]}

{said}
## What goes in

{steps}

`model.onnx` takes these values from 0 to 1 and normalises them itself.{_say_kinds(about)} It and torch agree to
{largest:.1g} on batches of 1, 2 and 5.

## An example

With `pip install onnxruntime numpy pillow`, in this folder{_say_example(shown)}:

```python
{write_example(about)}```

Hilum itself reads DICOM too, checks scale and checksums, and puts the images of a study together:
`hilum.export.bundle.load_bundle(folder)`.

## Terms

Code: {licences["code"]}. Weights: {licences["weights"]}. Data: {_say_data(licences["data"])}.
`bundle.json` says the rest: origins, counts, checksums.
"""


def write_example(about: dict[str, Any]) -> str:
    """The program: an 8-bit grey image.png to what is said of it."""
    shown = about["preprocessing"]
    lines = [
        "import json",
        "import numpy as np",
        "import onnxruntime",
        "from PIL import Image",
        "",
        'about = json.load(open("bundle.json"))',
        'image = Image.open("image.png").convert("F")',
    ]
    if shown["frame"] is None:
        lines += [
            f"factor = max(1, min(image.size) / {shown['short_side']})",
            "image = image.resize([round(side / factor) for side in image.size], Image.Resampling.HAMMING)",
        ]
        if shown["bits"] == 8:
            lines.append("image = Image.fromarray(np.rint(image).astype(np.float32))")
    if shown["crop"] == "center":
        lines += [
            "side = min(image.size)",
            "left, top = [(length - side) // 2 for length in image.size]",
            "image = image.crop((left, top, left + side, top + side))",
        ]
    size = f"({shown['width']}, {shown['height']})"
    lines += [
        f"image = image.resize({size}, Image.Resampling.{shown['interpolation'].upper()})",
        "pixels = np.clip(np.asarray(image) / 255, 0, 1).astype(np.float32)[None, None]",
        'session = onnxruntime.InferenceSession("model.onnx")',
    ]
    if about["view_kinds"]:
        kind = about["view_kinds"][0]
        lines.append(f'fed = {{"image": pixels, "view_kind": np.array([about["view_kinds"].index("{kind}")])}}')
    else:
        lines.append('fed = {"image": pixels}')
    if about["findings"]:
        lines += [
            'probability = session.run(["probability"], fed)[0][0]',
            'for finding, value in zip(about["findings"], probability):',
            '    print(finding["name"], float(value), finding["threshold"])',
        ]
    else:
        lines.append('print(session.run(["image_embedding"], fed)[0].shape)')
    return "\n".join(lines) + "\n"


def _threshold(finding: dict[str, Any]) -> str:
    if not finding["learned"]:
        return "not learned: one class in training"
    return "no threshold" if finding["threshold"] is None else f"{finding['threshold']:.3g}"


def _score(finding: dict[str, Any]) -> str:
    auroc = (finding["test"] or {}).get("auroc", {})
    if auroc.get("value") is None:
        return "not known"
    interval = "" if auroc["low"] is None else f" ({auroc['low']:.3f} to {auroc['high']:.3f})"
    return f"{auroc['value']:.3f}{interval}, {auroc['positives']:,} of {auroc['num']:,} positive"


def _say_kinds(about: dict[str, Any]) -> str:
    if not about["view_kinds"]:
        return ""
    numbers = ", ".join(f"{place} {kind}" for place, kind in enumerate(about["view_kinds"]))
    return f" `view_kind` is the kind of view of each image: {numbers}."


def _say_example(shown: dict[str, Any]) -> str:
    if shown["frame"] is not None:
        height, width = shown["frame"]
        return f", for an image that is already cut out and fitted into {height} x {width} px (steps 1 and 2)"
    return ", for an 8-bit grey PNG, air black"


def _say_data(data: dict[str, str] | str) -> str:
    return data if isinstance(data, str) else "; ".join(f"{name}: {terms}" for name, terms in data.items())
