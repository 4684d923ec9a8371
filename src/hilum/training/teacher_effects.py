"""Settings of teachers and adapters that contradict each other or could change nothing (see effects.py)."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path

from hilum.config import (
    Config,
    FeaturePreservation,
    LowRankAdapter,
    TeacherContrast,
    TeacherRegression,
    TeachersConfig,
    find_teacher_terms,
    needs_start,
)
from hilum.errors import UserError


def find_in_teachers(config: Config) -> Iterator[str]:
    """What learns from nobody, teachers that teach nobody, and updates that update nothing."""
    if config.adapter is not None:
        yield from _find_in_adapter(config.adapter)
    terms = {name: config.terms[name] for name in find_teacher_terms(config)}
    if not terms and config.teachers != TeachersConfig():
        name = "--teachers" if config.teachers.tables else "teachers"
        yield f"{name} has no effect without a term that learns from them: leave it out, or take `pacx`."
    read: set[str] = set()
    for name, term in terms.items():
        assert isinstance(term, TeacherContrast | TeacherRegression)
        yield from _find_in_names(name, term, config)
        if isinstance(term, TeacherRegression) and (term.feature, term.reads) == ("patches", "visible"):
            yield (
                f"terms.{name}.feature=patches reads every place of a view, and terms.{name}.reads=visible shows some: "
                f"set terms.{name}.reads=whole, or another feature."
            )
        read |= set(term.teachers or config.teachers.tables)
        if term.weight.value and config.teachers.pairs == "random" and config.teachers.scaling != "raw":
            yield (
                f"teachers.scaling={config.teachers.scaling} has no effect on the noise of teachers.pairs=random: set "
                "teachers.scaling=raw."
            )
    if unread := sorted(config.teachers.tables.keys() - read):
        yield (
            f"--teachers {unread[0]}=... has no effect: terms.{', terms.'.join(terms)} name other teachers. Leave it "
            "out, or add it to their teachers."
        )
    keeping = [name for name, term in config.terms.items() if isinstance(term, FeaturePreservation)]
    if keeping and not any(term.weight.value for name, term in config.terms.items() if name not in keeping):
        yield f"terms.{keeping[0]} keeps features as they are, and no other term changes them: add one."


def check_asked(config: Config, has_start: bool, teachers: Mapping[str, Path], *, is_begun: bool = False) -> None:
    """Refuse a run that names no weights or no tables where its settings mean nothing without.

    Raises:
        UserError: what is missing, and the flag that names it.
    """
    if not (has_start or is_begun or config.initial_weights) and (needing := needs_start(config)):
        raise UserError(
            f"{' and '.join(needing)} of recipe {config.recipe} need trained weights to start from: name a run or a "
            "weights.safetensors by --init."
        )
    texts = config.text_encoder
    if texts is not None and texts.source is None and not (texts.tuned or is_begun):
        raise UserError(
            "text_encoder reads by a frozen language model: say where it is (--language-model FOLDER, such as one of "
            "BioClinicalBERT), or train one of random weights (--text-encoder.tuned --text-encoder.no-stored "
            "--text-encoder.lower-case)."
        )
    if texts is not None and texts.source is None and texts.tuned and not texts.lower_case:
        raise UserError("A vocabulary learned from texts is lower-case: add --text-encoder.lower-case.")
    if find_teacher_terms(config) and not teachers:
        named = list(config.teachers.tables) or ["NAME"]
        raise UserError(
            f"terms.{', terms.'.join(find_teacher_terms(config))} learn from teachers. Say where their tables are: "
            f"--teachers {' '.join(f'{name}=TABLE' for name in named)}."
        )


def _find_in_names(name: str, term: TeacherContrast | TeacherRegression, config: Config) -> Iterator[str]:
    """Teachers that the term names and nobody gives; before tables are opened the settings alone are asked about."""
    tables = config.teachers.tables
    if len(set(term.teachers)) < len(term.teachers):
        yield f"terms.{name}.teachers={term.teachers} names one twice: name each once."
    for teacher in term.teachers if tables else ():
        if teacher not in tables:
            close = difflib.get_close_matches(teacher, tables, n=1)
            hint = f" Did you mean {close[0]}?" if close else ""
            yield (
                f"terms.{name}.teachers names '{teacher}', and --teachers gives {', '.join(tables)}.{hint} Add "
                f"--teachers {teacher}=TABLE, or leave it out."
            )


def _find_in_adapter(adapter: LowRankAdapter) -> Iterator[str]:
    if not adapter.targets and adapter.train_norms == "none":
        yield "adapter.targets names no layer and adapter.train_norms is none: the encoder would not learn."
    if not adapter.targets and adapter != LowRankAdapter(
        targets=(), train_norms=adapter.train_norms, any_norm_eps=adapter.any_norm_eps
    ):
        yield "adapter.rank, alpha and dropout have no effect while adapter.targets names no layer."
    if len(set(adapter.targets)) < len(adapter.targets):
        yield f"adapter.targets={adapter.targets} names one twice: name each once."
