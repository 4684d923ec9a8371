"""What a run that learned from language leaves beside its encoder: the report decoder, the text encoder."""

from __future__ import annotations

import torch

from hilum.config import Captioning as CaptioningConfig
from hilum.config import find_captioning
from hilum.model.encoder import Encoder, Features
from hilum.model.report_weights import save_report_decoder
from hilum.model.text_weights import save_text_encoder
from hilum.objective.captioning import Captioning
from hilum.objective.image_text import ImageTextContrast

from .run import Run


def keep_report_decoder(run: Run) -> None:
    """Write what `hilum describe` needs beside the encoder, if the run learned from reports."""
    if run.texts is None:
        return
    config, encoder = run.config, run.objective.encoder
    assert isinstance(encoder, Encoder)
    name = find_captioning(config)
    assert name is not None
    term, settings = run.objective.terms[name], config.terms[name]
    assert isinstance(term, Captioning)
    assert isinstance(settings, CaptioningConfig)
    # What the term reads for one view of each kind is the table it borrows.
    kinds = torch.arange(config.transformer.num_view_kinds, device=run.fabric.device)
    each_kind = Features(kinds.new_zeros(len(kinds), 1, 1).float(), view_vectors=encoder.view_embed)
    save_report_decoder(
        run.out, term.decoder, run.texts.tokenizer, config=settings.decoder, encoder=config.transformer,
        layout=run.texts.layout, view_table=term.read_view_vectors(each_kind, kinds),
        metadata={"memory": settings.memory, "data_digest": run.cache.digest},
    )  # fmt: skip


def keep_text_encoder(run: Run) -> None:
    """Write what texts are read by, if the run compared images with any."""
    if run.descriptions is None:
        return
    encoder = run.objective.text_encoder
    term = next(term for term in run.objective.terms.values() if isinstance(term, ImageTextContrast))
    assert encoder is not None
    about = {"scale": float(term.scale().detach()), "data_digest": run.cache.digest}
    save_text_encoder(run.out, encoder, run.descriptions.tokenizer, about)
