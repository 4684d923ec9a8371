"""What a run that compared images with texts says by prompts, without labels: scores, and where it looks."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from hilum.commands.evaluate import check_inputs, check_task
from hilum.commands.terminal import say_next
from hilum.ranges import Count, NotNegative, Seed, Workers


def zeroshot(
    run: Positional[Path],
    data: Path,
    task: str = "breast:mass",
    out: Path | None = None,
    prompts: Path | None = None,
    language_model: Path | None = None,
    batch_views: Count = 64,
    precision: Literal["auto", "bf16-mixed", "32-true"] = "auto",
) -> int:
    """Score findings by prompts alone: what a run that compared images with texts knows without labels.

    Args:
        run: Run folder of `hilum pretrain custom_clip`, mv_clip, mv_clip_tr or mammo_clip.
        data: Cache folder.
        task: As of `hilum probe`: breast:mass, image:mass, breast:density, ...; all of its targets need prompts.
        out: Folder for the result; by default `zeroshot-TASK` in the run folder.
        prompts: TOML file of prompts, a table for each target: [mass] with present = [...] and absent = [...], one
            sentence or more; by default Hilum's.
        language_model: Folder of the frozen language model that the run read; runs with a small one of their own need
            none.
        batch_views: Images at a time.
        precision: auto: bfloat16 where the processor or GPU computes in it.
    """
    check_inputs(data, str(run))
    check_task(data, task, "zeros", "zeros", ())
    from hilum.evaluate.console import print_result
    from hilum.evaluate.prompted.zero_shot import run_zero_shot

    path = run_zero_shot(
        data, run, out, task=task, prompts=prompts, language_model=language_model, batch_views=batch_views,
        precision=precision,
    )  # fmt: skip
    print_result(path)
    say_next("report", path.parent, "--out", "report.html")
    return 0


def heatmap(
    run: Positional[Path],
    data: Path,
    finding: tuple[str, ...] = ("mass", "calcification"),
    split: Literal["test", "val", "train"] = "test",
    out: Path | None = None,
    prompts: Path | None = None,
    language_model: Path | None = None,
    tolerance_mm: NotNegative = 5.0,
    random_views: Workers = 100,
    examples: Workers = 12,
    batch_views: Count = 64,
    precision: Literal["auto", "bf16-mixed", "32-true"] = "auto",
    seed: Seed = 0,
) -> int:
    """Map prompts over images, score the maps on boxes and masks of lesions, and draw some of them.

    The pointing game asks whether a map is largest within the lesion, beside a random point in the breast and the
    breast's centre; and a map has to change when the weights it is made of are random.

    Args:
        run: Run folder of `hilum pretrain custom_clip`, mv_clip, mv_clip_tr or mammo_clip.
        data: Cache folder, of an archive that draws where findings are.
        finding: Kinds of finding, each with prompts.
        split: Whose views are scored; nothing is chosen by them.
        out: Folder for the result; by default `heatmap` in the run folder.
        prompts: TOML file of prompts, see `hilum zeroshot --help`.
        language_model: Folder of the frozen language model that the run read, where it read one.
        tolerance_mm: A maximum so far from a lesion counts as a hit too, in numbers of their own; 0: none.
        random_views: Maps of which the test with random weights is made; 0: no test.
        examples: Pictures to draw; 0: none.
        batch_views: Images at a time.
        precision: auto: bfloat16 where the processor or GPU computes in it.
        seed: Of the random weights.
    """
    check_inputs(data, str(run))
    from hilum.evaluate.console import print_result
    from hilum.evaluate.prompted.heat_report import run_heatmap
    from hilum.report.heat_figures import save_overlay

    path = run_heatmap(
        data, run, out, findings=finding, split=split, prompts=prompts, language_model=language_model,
        tolerance_mm=tolerance_mm, randomised_views=random_views, seed=seed, examples=examples,
        draw=save_overlay if examples else None, batch_views=batch_views, precision=precision,
    )  # fmt: skip
    print_result(path)
    say_next("report", path.parent, "--out", "report.html")
    return 0
