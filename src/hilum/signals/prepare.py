"""A record to the array that encoders read, and what was done to it on the way; one by one or in many processes."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64

from hilum.worker_imports import check_worker, leave_if_imported

from .preprocessing import BAND, RATE, clean, fill_missing, standardize
from .read import read_record
from .record import LEADS, EcgRecord, RecordSource, take_leads
from .rejection import RejectedRecord
from .resampling import count_resampled, pad_end, resample_centre

SECONDS = 10.0
MIN_SECONDS = 5.0  # of a shorter record more would be padding than signal
NUM_SAMPLES = int(SECONDS * RATE)
MIN_RATE = 2 * BAND[1]  # samples a second; a slower recording cannot hold the band
MIN_RECORDED = 1.0  # seconds of each lead, a heart beat
# Deviation after the filters; ECGs have about 0.1 mV, and whole numbers of a recorder taken for millivolts a thousand.
MILLIVOLTS = (1e-6, 1e6)
_AT_ONCE = 32  # records for each process; bounds what waits to be taken


@dataclass(frozen=True)
class PreparedEcg:
    """Twelve leads, ten seconds, 500 samples a second, preprocessed and standardised as one array."""

    values: Float32[np.ndarray, "12 5000"]
    notes: tuple[str, ...]  # what was resampled, cut off, padded or missing; empty for a record that was as wanted


def prepare_record(record: EcgRecord) -> PreparedEcg:
    """Leads by name, 500 Hz, the ten seconds in the middle, filters, z-score.

    Of a longer record the middle is kept: its ends hold the electrodes' settling more often. A shorter one, of at least
    five seconds, gets zeros at its end after the filters, which then see no edge; the z-score is over everything.

    Raises:
        RejectedRecord: see `take_leads`; or it is too slow or too short, or has no signal.
    """
    leads = take_leads(record)
    if record.rate < MIN_RATE:
        raise RejectedRecord(
            record.file,
            f"its sampling rate is {record.rate:g} Hz; expected {MIN_RATE:g} at least, to hold {BAND[1]:g} Hz. Is it "
            "another's? Correct it.",
        )
    seconds = leads.shape[1] / record.rate
    if seconds < MIN_SECONDS:
        raise RejectedRecord(
            record.file, f"it lasts {seconds:.1f} s ({leads.shape[1]:,} samples); expected {MIN_SECONDS:g} s at least."
        )
    if np.isinf(leads).any():
        raise RejectedRecord(record.file, "it holds infinite values. Export it again.")
    kept = _take_middle(leads, record.rate)  # what the rest of a long record holds helps nobody
    recorded = (~np.isnan(kept)).sum(axis=1) / record.rate
    if scarce := [lead for lead, time in zip(LEADS, recorded, strict=True) if time < MIN_RECORDED]:
        raise RejectedRecord(
            record.file,
            f"of lead {', '.join(scarce)} there is less than {MIN_RECORDED:g} s"
            f"{'' if kept.shape == leads.shape else f' in the middle {SECONDS:g} s, which are read'}. Record it anew.",
        )
    notes = [
        f"{share:.1%} of lead {lead} missing, taken as 0"
        for lead, share in zip(LEADS, np.isnan(kept).mean(axis=1), strict=True)
        if share
    ]
    leads = fill_missing(leads)  # first: one NaN would spread
    flat = [lead for lead, values in zip(LEADS, fill_missing(kept), strict=True) if np.ptp(values) == 0]
    if len(flat) == len(LEADS):
        raise RejectedRecord(record.file, "all its leads are flat lines. Record it anew.")
    if flat:
        notes.append(f"flat: {', '.join(flat)}")
    if record.rate != RATE:
        notes.append(f"resampled from {record.rate:g} to {RATE:g} Hz")
    length = count_resampled(leads.shape[1], record.rate, RATE)
    if length > NUM_SAMPLES:
        notes.append(f"the middle {SECONDS:g} s of {seconds:.1f} s")
    leads = clean(resample_centre(leads, record.rate, RATE, NUM_SAMPLES))
    if length < NUM_SAMPLES:
        notes.append(f"{SECONDS - seconds:.1f} s of zeros at its end")
        leads = pad_end(leads, NUM_SAMPLES)
    with np.errstate(over="ignore", invalid="ignore"):
        deviation = float(leads.std())
    if not MILLIVOLTS[0] <= deviation <= MILLIVOLTS[1]:
        raise RejectedRecord(
            record.file,
            f"after the filters it deviates by {deviation:.1g} millivolts; ECGs by about 0.1. Correct its unit, or "
            "record it anew.",
        )
    return PreparedEcg(standardize(leads).astype(np.float32), tuple(notes))


def _take_middle(leads: Float64[np.ndarray, "lead time"], rate: float) -> Float64[np.ndarray, "lead kept_time"]:
    """Ten seconds in the middle, or all of a shorter record."""
    num = min(leads.shape[1], round(SECONDS * rate))
    start = (leads.shape[1] - num) // 2
    return leads[:, start : start + num]


def prepare_records(sources: Sequence[RecordSource], num_workers: int = 0) -> Iterator[PreparedEcg | RejectedRecord]:
    """Every record prepared, in order, or the reason why it cannot be; by `num_workers` processes, 0: in this one.

    Raises:
        UserError: something no other record would fare better with, such as a missing library.
    """
    if not num_workers:
        yield from map(_prepare, sources)
        return
    leave_if_imported()
    # Never a fork of this process: one in which polars or torch has started threads can deadlock.
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload([__name__])
    at_once = _AT_ONCE * num_workers
    with ProcessPoolExecutor(num_workers, mp_context=processes) as pool:
        for start in range(0, len(sources), at_once):
            results = pool.map(_prepare, sources[start : start + at_once], chunksize=4)
            workers = multiprocessing.active_children()
            try:
                yield from results
            except BrokenProcessPool:
                pool.shutdown()  # the exit codes are known only once it has waited for its processes
                for worker in workers:
                    check_worker(worker.exitcode, "the preparation of ECGs")
                raise


def _prepare(source: RecordSource) -> PreparedEcg | RejectedRecord:
    try:
        return prepare_record(read_record(source))
    except RejectedRecord as rejected:
        return rejected
