"""The text tower: frozen language models, stored states, padding, weights in and out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from breast_batches import TINY, make_breasts
from hilum.batch import Descriptions
from hilum.config import LanguageModelConfig, TextEncoderConfig
from hilum.errors import UserError
from hilum.model.text_encoder import TextEncoder, build_language_model, load_language_model, run_language_model
from hilum.model.text_weights import load_text_encoder, save_text_encoder
from hilum.text.language_model_folder import name_language_model, read_vocabulary
from toy_language_model import SHAPE, WORDS, write_language_model

TEXTS = TINY.text_encoder
FROZEN = replace(TEXTS, tuned=False)


def build(config: TextEncoderConfig = TEXTS) -> TextEncoder:
    torch.manual_seed(0)
    return TextEncoder(config, build_language_model(config.language_model))


def make_texts() -> Descriptions:
    return make_breasts([[(1, 3)]] * 5).descriptions


def test_the_default_shape_is_bioclinicalberts() -> None:
    with torch.device("meta"):
        encoder = TextEncoder(TextEncoderConfig(), build_language_model(LanguageModelConfig()))
    # BERT-base with 28,996 words, without its pooler: 108.3 M parameters less 0.6 M.
    assert sum(one.numel() for one in encoder.language_model.parameters()) == 107_719_680
    shape = replace(LanguageModelConfig(), depth=1, vocabulary_size=300)
    tokens = torch.zeros(1, 256, dtype=torch.int64)
    states = run_language_model(build_language_model(shape), tokens, tokens == 0)
    assert states.shape == (1, 256, 768)
    assert encoder.enter.in_features == 768
    assert sum(one.numel() for one in encoder.blocks.parameters()) == pytest.approx(12.6e6, rel=0.01)  # L 1.2


def test_a_frozen_language_model_has_no_gradient_and_stays_in_evaluation() -> None:
    encoder = build(FROZEN).train()
    assert encoder.training
    assert not any(part.training for part in encoder.language_model.modules())
    encoder(make_texts()).sum().backward()
    assert all(one.grad is None and not one.requires_grad for one in encoder.language_model.parameters())
    assert all(one.grad is not None for name, one in encoder.named_parameters() if "language_model" not in name)
    assert torch.equal(encoder(make_texts()), encoder(make_texts()))
    tuned = build().train()
    assert all(part.training for part in tuned.language_model.modules())
    tuned(make_texts()).sum().backward()
    assert all(one.grad is not None for one in tuned.parameters())


def test_padding_changes_nothing() -> None:
    encoder, texts = build().eval(), make_texts()
    together = encoder(texts)
    for row, length in enumerate(texts.length.tolist()):
        alone = Descriptions(*(part[row : row + 1] for part in texts))
        alone = alone._replace(tokens=alone.tokens[:, :length], states=alone.states[:, :length])
        torch.testing.assert_close(encoder(alone), together[row : row + 1])
    other = texts._replace(tokens=texts.tokens.masked_fill(texts.tokens == 0, 77))
    torch.testing.assert_close(encoder(other), together)


def test_stored_states_are_what_the_language_model_gives() -> None:
    encoder, texts = build(FROZEN), make_texts()
    valid = torch.arange(8) < texts.length[:, None]
    states = run_language_model(encoder.language_model, texts.tokens, valid)
    assert not states.requires_grad
    found = encoder(texts)
    encoder.language_model = None
    torch.testing.assert_close(encoder(texts._replace(states=states)), found)
    torch.testing.assert_close(encoder(texts._replace(states=states.half())), found, atol=2e-2, rtol=2e-2)


def test_no_texts_are_no_rows_that_reach_every_parameter() -> None:
    encoder = build()
    none = make_breasts([[(1, 3)]], texts=[]).descriptions
    found = encoder(none)
    assert found.shape == (0, 8)
    found.sum().backward()
    assert all(torch.equal(one.grad, torch.zeros_like(one)) for one in encoder.parameters())


@pytest.mark.parametrize("tuned", [True, False])
def test_a_file_brings_the_same_bits_back(tmp_path: Path, tuned: bool) -> None:
    folder = write_language_model(tmp_path / "bert")
    source, shape = name_language_model(folder)
    assert shape == SHAPE
    config = replace(TEXTS, tuned=tuned, lower_case=False, source=source, language_model=shape)
    torch.manual_seed(0)
    encoder = TextEncoder(config, load_language_model(folder))
    tokenizer = read_vocabulary(folder, lower_case=False)
    save_text_encoder(tmp_path, encoder, tokenizer.to_str(), {"scale": 14.0})
    again, words, about = load_text_encoder(tmp_path, None if tuned else folder)
    assert about["scale"] == 14.0
    assert again.config == config  # casing and language model are recorded in it
    assert words.get_vocab() == tokenizer.get_vocab()
    assert all(torch.equal(again.state_dict()[name], value) for name, value in encoder.state_dict().items())
    if tuned:
        with pytest.raises(UserError, match="a language model of its own: leave --language-model out"):
            load_text_encoder(tmp_path, folder)
    else:
        with pytest.raises(UserError, match=r"not in the file: say where it is \(--language-model FOLDER\)"):
            load_text_encoder(tmp_path)
        other = write_language_model(tmp_path / "other", [*WORDS, "more"])
        with pytest.raises(UserError, match="not the language model of the run"):
            load_text_encoder(tmp_path, other)
    file = tmp_path / "text_encoder.safetensors"
    content = bytearray(file.read_bytes())
    content[-2] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match="its content is not what was written"):
        load_text_encoder(tmp_path, None if tuned else folder)


def test_casing_is_said_and_checked(tmp_path: Path) -> None:
    folder = write_language_model(tmp_path / "bert")
    cased = read_vocabulary(folder, lower_case=False)
    assert cased.encode("Left breasts", add_special_tokens=False).tokens == ["Left", "breast", "##s"]
    with pytest.raises(UserError, match=r"its vocabulary is cased, text_encoder.lower_case is True: set .*no-lower"):
        read_vocabulary(folder, lower_case=True)
    lower = write_language_model(
        tmp_path / "lower", sorted({word if word[0] == "[" else word.lower() for word in WORDS})
    )
    words = read_vocabulary(lower, lower_case=True).encode("LEFT breast", add_special_tokens=False).tokens
    assert words == ["left", "breast"]
    with pytest.raises(UserError, match=r"its vocabulary is lower-case, text_encoder.lower_case is False"):
        read_vocabulary(lower, lower_case=False)


def test_a_folder_that_is_no_language_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"expected a folder with config\.json"):
        name_language_model(tmp_path)
    folder = write_language_model(tmp_path / "bert")
    (folder / "model.safetensors").write_bytes(b"cut off")
    with pytest.raises(UserError, match="transformers cannot read it"):
        load_language_model(folder)
