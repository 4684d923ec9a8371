"""What MV-MLM's evaluation asks without labels: which text the images of a test breast find, and which MLO view its CC
view (L 3.3). Both read the vectors that pretraining compared, as they are; nothing is fitted and nothing chosen.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float32, Int64

from hilum.breast_views import BreastViews
from hilum.cache import Cache
from hilum.checksums import hash_file, hash_parts
from hilum.config import ViewContrast, load_config
from hilum.errors import UserError
from hilum.evaluate.features import Precision
from hilum.evaluate.pairs import matching, retrieval
from hilum.evaluate.pairs.breasts import BreastTexts, average_views, choose_texts, list_test_breasts
from hilum.evaluate.paper.cells import Asked, Job
from hilum.evaluate.paper.entrants import Entrant, find_run, group_methods, load_entrant
from hilum.evaluate.paper.index import MATCHING, RETRIEVAL
from hilum.evaluate.projection import project_views
from hilum.evaluate.prompted.towers import embed_texts
from hilum.evaluate.result import Estimate, Hashes, Result, hash_code
from hilum.evaluate.scoring.bootstrap import LEVEL
from hilum.evaluate.scoring.resamples import write_resampled
from hilum.evaluate.slices import withhold_of_few
from hilum.evaluate.viewing import Viewing
from hilum.model.text_encoder import TextEncoder
from hilum.model.text_weights import ENCODER_FILE, TOKENIZER_FILE, load_text_encoder
from hilum.model.weights import read_metadata
from hilum.text.descriptions import read_texts_file
from hilum.training.launch import choose_precision

PairPart = Literal["retrieval", "matching"]
Project = Callable[[Entrant], tuple[Int64[np.ndarray, " view"], Float32[np.ndarray, "view dim"]]]
FUSION = (
    "of several images of a view that show the whole breast the mean of their unit vectors, of length 1; of a breast's "
    "views the sum of the two"
)
TIES = "candidates of the same cosine come in random order, in expectation"
INTERVAL = "hits of test breasts, women drawn with replacement; the candidates stay those there are"
_VIEWS_AT_ONCE = 64


@dataclass(frozen=True, kw_only=True)
class PairQuestion(Asked):
    """What is asked of every encoder about pairs of test breasts."""

    leave_out: Sequence[str]
    breasts: BreastViews  # of the test split
    texts: BreastTexts | None  # None: retrieval is not asked for
    texts_digest: str
    language_model: Path | None

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "data": self.cache.digest,
            "leave_out": list(self.leave_out),
            "num_resamples": self.num_resamples,
            "precision": self.precision,
        }

    @property
    def patient(self) -> Int64[np.ndarray, " breast"]:
        """Whose the breasts are."""
        return self.cache.studies["patient"][self.breasts.study]


def ask_pairs(
    cache: Cache,
    entrants: Sequence[Entrant],
    parts: Sequence[str],
    *,
    texts: Path | None,
    language_model: Path | None,
    leave_out: Sequence[str],
    num_resamples: int,
    precision: Precision,
    progress: bool,
    notes: dict[str, tuple[str, ...]],
) -> tuple[PairQuestion, list[str]]:
    """The question, and what a reader must know of who or what is left out.

    Args:
        parts: those of the evaluation that were asked for, of this module or not.
        texts: a file of texts as pretraining reads them; without one there is no retrieval.
        language_model: folder of the frozen language model that runs read, where they read one.

    Raises:
        UserError: texts that nobody asks for or that are of no test breast, or a language model that a run needs.
    """
    if texts is not None and RETRIEVAL not in parts:
        raise UserError(f"--texts {texts} is read by retrieval alone: add retrieval to --protocols, or leave it out.")
    breasts, chosen, said = list_test_breasts(cache, leave_out), None, []
    if RETRIEVAL in parts and texts is None:
        said.append(
            "No retrieval of texts: it needs texts of the test breasts, as pretraining reads them. Add --texts FILE, "
            "which `hilum text write` makes."
        )
    if RETRIEVAL in parts and texts is not None:
        chosen = choose_texts(read_texts_file(cache, texts), breasts)
        if not len(chosen.breast):
            raise UserError(
                f"{texts}: none of its texts is of a test breast with a CC or an MLO view in {cache.path}. Write texts "
                "of the test split too, or leave --texts out."
            )
        for entrant in entrants:
            if explain_no_text(entrant) is None:
                open_text_encoder(entrant, language_model)  # or it says what is missing, before anything is computed
        said += note_left_out("retrieval of texts", entrants, explain_no_text)
    if MATCHING in parts:
        said += note_left_out("matching of views", entrants, explain_no_vector)
        if not (breasts.count > 0).all(axis=1).any():
            said.append("No matching of views: no test breast has a CC and an MLO view, by the study table.")
        elif not cache.turns_breasts:
            said.append(
                f"Matching of views: policy {cache.policy} turns no chest wall to one side, so that the side alone may "
                "tell a woman's one breast from the other. A cache by --policy mammo-auto-1 shows both alike."
            )
    question = PairQuestion(
        cache=cache,
        num_resamples=num_resamples,
        precision=precision,
        progress=progress,
        notes=notes,
        leave_out=leave_out,
        breasts=breasts,
        texts=chosen,
        texts_digest="" if texts is None else hash_file(texts),
        language_model=language_model,
    )
    return question, said


def name_archives(question: PairQuestion) -> list[str]:
    """The archives that have test breasts."""
    there = np.unique(question.cache.studies["dataset"][question.breasts.study])
    return [question.cache.datasets[place] for place in there]


def explain_no_vector(entrant: Entrant) -> str | None:
    """Why an encoder has no vectors that a contrast made alike; None where it has. Random weights have some too, and
    show what the architecture does."""
    if not entrant.is_convolutional:
        return "makes no projected vector, which runs of custom_clip, mv_clip, mv_clip_tr and mammo_clip do"
    if not entrant.is_random and "finetuning" in entrant.subject.about:
        return "was fine-tuned, which leaves the projection as it was: give the run that it came from"
    return None


def explain_no_text(entrant: Entrant) -> str | None:
    """Why an encoder has no text encoder beside it; None where it has."""
    if entrant.is_random:
        return "random weights have no text encoder"
    folder = find_run(entrant)
    if (reason := explain_no_vector(entrant)) is not None:
        return reason
    if folder is None or not (folder / ENCODER_FILE).is_file():
        return f"no {ENCODER_FILE} lies beside its weights: give the run folder of a pretraining with texts"
    return None


def note_left_out(part: str, entrants: Sequence[Entrant], explain: Callable[[Entrant], str | None]) -> list[str]:
    """Of each method that cannot be asked: that, and why; of one with some runs that can, which ones cannot."""
    reasons: dict[str, str] = {}
    for method, runs in group_methods(entrants).items():
        found = {entrant.name: reason for entrant in runs if (reason := explain(entrant)) is not None}
        if len(found) == len(runs):
            reasons[method] = found[runs[-1].name]
        else:
            reasons |= found
    return [f"No {part} by {'; '.join(f'{name} ({reason})' for name, reason in reasons.items())}."] * bool(reasons)


def open_text_encoder(entrant: Entrant, language_model: Path | None) -> tuple[TextEncoder, Any]:
    """The text encoder of a run and its tokenizer; of one with a language model of its own no other is read.

    Raises:
        UserError: see `load_text_encoder`.
    """
    folder = find_run(entrant)
    assert folder is not None, "explain_no_text says so"
    encoder, tokenizer, _ = load_text_encoder(folder, choose_language_model(folder, language_model))
    return encoder.to("cuda" if torch.cuda.is_available() else "cpu"), tokenizer


def choose_language_model(run: Path, language_model: Path | None) -> Path | None:
    """The folder that was named, for a run that reads a frozen language model; None for one that trained its own."""
    is_own = read_metadata(run / ENCODER_FILE).get("text_encoder", {}).get("tuned", False)
    return None if is_own else language_model


def remember_projections(question: PairQuestion) -> Project:
    """Rows and projected vectors of the test views of an entrant, those of the last one asked for kept in memory."""

    @functools.lru_cache(maxsize=1)
    def project(entrant: Entrant) -> tuple[Int64[np.ndarray, " view"], Float32[np.ndarray, "view dim"]]:
        cache, encoder = question.cache, load_entrant(question.cache, entrant)
        mean, std = entrant.subject.read_statistics(cache)
        crop = entrant.subject.read_settings(encoder).shown
        viewing = Viewing(cache, encoder.eval(), crop, None, mean, std, choose_precision(question.precision))
        title = entrant.name if question.progress else None
        return project_views(viewing, cache.rows("test", question.leave_out), _VIEWS_AT_ONCE, title)

    return project


def list_pair_jobs(question: PairQuestion, entrant: Entrant, project: Project, parts: Sequence[str]) -> list[Job]:
    """Retrieval and matching of one encoder, as far as it has the vectors."""
    jobs: list[Job] = []
    build = functools.partial(Job.build, question, entrant)

    if RETRIEVAL in parts and question.texts is not None and explain_no_text(entrant) is None:
        folder = find_run(entrant)
        assert folder is not None, "explain_no_text says so"
        read = {"texts": question.texts_digest}
        read |= {name: hash_file(folder / name) for name in (ENCODER_FILE, TOKENIZER_FILE)}
        jobs.append(build(RETRIEVAL, read, functools.partial(_retrieve, question, entrant, project)))
    has_pairs = (question.breasts.count > 0).all(axis=1).any()
    if MATCHING in parts and has_pairs and explain_no_vector(entrant) is None:
        share = {"shared": read_shared(entrant)}
        jobs.append(build(MATCHING, share, functools.partial(_match, question, entrant, project)))
    return jobs


def read_shared(entrant: Entrant) -> float:
    """The share of a vector's numbers that a run compared between views, the first ones; 1 where it compared none."""
    folder = find_run(entrant)
    config = None if folder is None else folder / "config.json"
    terms = () if config is None or not config.is_file() else load_config(config).terms.values()
    return next((term.shared for term in terms if isinstance(term, ViewContrast)), 1.0)


def _retrieve(question: PairQuestion, entrant: Entrant, project: Project, folder: Path) -> None:
    texts, breasts = question.texts, question.breasts
    assert texts is not None, "no job without"
    view, vectors = project(entrant)
    image = retrieval.fuse_kinds(average_views(vectors, view, breasts))[texts.breast]
    text = embed_texts(*open_text_encoder(entrant, question.language_model), texts.distinct).cpu().numpy()[texts.text]
    patient = question.patient[texts.breast]
    identical = texts.facts, texts.text
    estimates = retrieval.estimate_retrieval(image, text, *identical, patient, num_resamples=question.num_resamples)
    about = {
        "kind": "retrieval of texts",
        "text": "one of each breast: of several variants that of the least hash",
        "identical": "descriptions of the same facts or of the same words count as hits",
    }
    counts = {"distinct_texts": len(texts.distinct), "distinct_facts": len(np.unique(texts.facts))}
    rows = [breasts.study[texts.breast], breasts.laterality[texts.breast], *identical, patient]
    _write(folder, question, entrant, about, estimates, texts.breast, counts, rows)


def _match(question: PairQuestion, entrant: Entrant, project: Project, folder: Path) -> None:
    breasts, (view, vectors) = question.breasts, project(entrant)
    num_shared = max(1, round(read_shared(entrant) * vectors.shape[1]))
    both = np.flatnonzero((breasts.count > 0).all(axis=1))
    views = average_views(vectors[:, :num_shared], view, breasts)[both]
    rows = [part[both] for part in (breasts.study, breasts.laterality, question.patient)]
    estimates = matching.estimate_matching(views, *rows, num_resamples=question.num_resamples)
    about = {
        "kind": "matching of views",
        "candidates": "the other view of every test breast with both; not that of the same breast at another exam",
        "other_breast": "of the same exam, where it has both views",
        "numbers_compared": num_shared,
    }
    counts = {"breasts_beside_another": int((matching.find_other_breast(rows[0]) >= 0).sum())}
    _write(folder, question, entrant, about, estimates, both, counts, rows)


def _write(
    folder: Path,
    question: PairQuestion,
    entrant: Entrant,
    about: dict[str, Any],
    estimates: Sequence[Estimate],
    chosen: Int64[np.ndarray, " row"],
    counts: dict[str, int],
    rows: Sequence[np.ndarray],
) -> None:
    """The result with its resamples; `chosen` are the breasts, `rows` what tells their set from another."""
    cache, digest = question.cache, hash_parts(rows)
    every = {
        "test_breasts": len(chosen),
        "candidates": len(chosen),
        "test_patients": len(np.unique(question.patient[chosen])),
        "test_views": int(question.breasts.count[chosen].sum()),
        **counts,
    }
    how = {"unit": "breast", "several_views": FUSION, "ties": TIES, "interval": INTERVAL}
    result = Result(
        encoder=entrant.name,
        task=about["kind"],
        protocol={**about, **how},
        seed=entrant.seed,
        estimates=[withhold_of_few(one) for one in estimates],
        hashes=Hashes(cache.digest, digest, str(entrant.settings["weights"]), hash_code()),
        counts=every,
        level=LEVEL,
        num_resamples=question.num_resamples,
        notes=question.notes[entrant.name],
    )
    write_resampled(folder, result, digest)
