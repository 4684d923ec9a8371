"""Public encoders give what their own library gives for the same weights, and say what is wrong with a file."""

from __future__ import annotations

import json
import pickle
import socket
from pathlib import Path

import pytest
import timm
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

from hilum.errors import UserError
from hilum.model.towers.biomedclip import build_biomedclip, build_biomedclip_projected
from hilum.model.towers.catalogue import parse_tower
from hilum.model.towers.chexagent import build_chexagent, build_network
from hilum.model.towers.saved import find_saved_tower, read_tower_header, save_tower
from hilum.model.towers.timm_model import build_vit_base
from hilum.model.towers.tower import Tower, number_by_name

KIND = torch.zeros(2, dtype=torch.long)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: socket.socket, address: object) -> None:
        raise AssertionError(f"something wants to connect to {address}")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def load(text: str) -> Tower:
    spec = parse_tower(text)
    assert spec is not None
    return spec.load()


def draw_views(tower: Tower) -> tuple[Tensor, Tensor]:
    """Grey views, and what the network makes of them by itself: three equal channels, cut and normalised."""
    grey = torch.rand(2, 1, tower.image_size, tower.image_size, generator=torch.Generator().manual_seed(0))
    shown = tower.config.preprocessing
    edge = round((tower.image_size - shown.size) / 2)
    cut = grey[:, :, edge : edge + shown.size, edge : edge + shown.size].repeat(1, 3, 1, 1)
    return grey, (cut - torch.tensor(shown.mean)[:, None, None]) / torch.tensor(shown.std)[:, None, None]


@pytest.mark.parametrize("name", ["test_vit", "test_vit2", "test_vit3"])
def test_tokens_of_timm(name: str, tmp_path: Path) -> None:
    model = timm.create_model(name).eval()
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    tower = load(f"timm:{name}={tmp_path}")  # with the classifier in the file, which is not used
    grey, normalised = draw_views(tower)
    with torch.no_grad():
        ours, theirs = tower.encode(grey, KIND).tokens, model.forward_features(normalised)
    kept = theirs[:, model.num_prefix_tokens :]
    if tower.has_class_token:
        kept = torch.cat([theirs[:, :1], kept], dim=1)
    torch.testing.assert_close(ours, kept, atol=1e-5, rtol=0)
    assert tower.has_class_token == (model.cls_token is not None)
    assert tower.width == ours.shape[2]


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_byobnet"])
def test_the_mean_of_a_convolutional_networks_map_is_what_it_pools(name: str) -> None:
    tower = load(f"timm:{name}=random")
    assert not tower.has_class_token
    assert tower.list_branches() == []
    grey, normalised = draw_views(tower)
    with torch.no_grad():
        torch.testing.assert_close(
            tower.encode(grey, KIND).tokens.mean(dim=1), tower.model(normalised), atol=1e-5, rtol=0
        )


CONFIGS = {
    "vit": lambda: transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, image_size=32, patch_size=8
    ),
    "registers": lambda: transformers.Dinov2WithRegistersConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=8, num_register_tokens=4
    ),
    "siglip": lambda: transformers.SiglipVisionConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, image_size=32, patch_size=8
    ),
    "resnet": lambda: transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1]),
}


def write_folder(folder: Path, kind: str) -> torch.nn.Module:
    """A folder as transformers writes it, with a processor and a model card; returns the model."""
    torch.manual_seed(0)
    model = transformers.AutoModel.from_config(CONFIGS[kind]()).eval()
    model.save_pretrained(folder)
    processor = {
        "image_processor_type": "ViTImageProcessor", "do_resize": True, "do_rescale": True, "do_normalize": True,
        "rescale_factor": 1 / 255, "size": {"height": 32, "width": 32}, "resample": 2,
        "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.25, 0.3],
    }  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    (folder / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n# A model\n")
    return model


@pytest.mark.parametrize(("kind", "num_tokens"), [("vit", 17), ("registers", 17), ("siglip", 16), ("resnet", 16)])
def test_tokens_of_a_transformers_folder(kind: str, num_tokens: int, tmp_path: Path) -> None:
    model = write_folder(tmp_path / "net", kind)
    tower = load(f"hf:{tmp_path / 'net'}")
    assert (tower.config.licence, tower.config.name) == ("cc-by-nc-4.0", "hf:net")
    assert (tower.crop, tower.interpolation, tower.config.preprocessing.mean) == ("squash", "bilinear", (0.5, 0.4, 0.3))
    grey, normalised = draw_views(tower)
    with torch.no_grad():
        theirs = model(pixel_values=normalised).last_hidden_state
        ours = tower.encode(grey, KIND).tokens
    assert ours.shape == (2, num_tokens, tower.width)
    if theirs.ndim == 4:
        theirs = theirs.flatten(2).transpose(1, 2)
    torch.testing.assert_close(ours[:, 0], theirs[:, 0], atol=1e-5, rtol=0)
    torch.testing.assert_close(ours[:, -16:], theirs[:, -16:], atol=1e-5, rtol=0)
    assert tower.has_class_token == (num_tokens == 17)


def test_a_folder_without_its_weights_is_refused_and_can_be_tried_out(tmp_path: Path) -> None:
    write_folder(tmp_path / "net", "vit")
    tensors = load_file(tmp_path / "net" / "model.safetensors")
    save_file(dict(list(tensors.items())[9:]), tmp_path / "net" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"net: its weights do not fit its config\.json: 9 missing"):
        load(f"hf:{tmp_path / 'net'}")
    (tmp_path / "net" / "model.safetensors").unlink()
    with pytest.raises(UserError, match="net: transformers cannot read it"):
        load(f"hf:{tmp_path / 'net'}")
    tower = load(f"hf:{tmp_path / 'net'}=random")
    save_tower(tower, tmp_path / "weights.safetensors", {})
    again = load(f"hf:{tmp_path / 'net'}={tmp_path / 'weights.safetensors'}")
    assert all(torch.equal(*pair) for pair in zip(tower.parameters(), again.parameters(), strict=True))
    with pytest.raises(UserError, match="give hf:FOLDER="):
        find_saved_tower(tmp_path / "weights.safetensors")
    content = bytearray((tmp_path / "weights.safetensors").read_bytes())
    content[-2] ^= 1
    (tmp_path / "weights.safetensors").write_bytes(content)
    with pytest.raises(UserError, match="its content is not what was written"):
        load(f"hf:{tmp_path / 'net'}={tmp_path / 'weights.safetensors'}")


def test_chexagents_tower_has_its_billion_parameters() -> None:
    with torch.device("meta"):
        network = build_network(448, 40)
    state = network.state_dict()
    # By hand: 40 layers of (qkv, projection, norms, two linear layers), class, 1 + 32 x 32 positions, patches, norm.
    layer = (1408 + 1) * 4224 + (1408 + 1) * 1408 + 4 * 1408 + (1408 + 1) * 6144 + (6144 + 1) * 1408
    assert sum(value.numel() for value in state.values()) == 40 * layer + 1408 * (1 + 1025 + 588 + 1 + 2)
    assert len(state) == 40 * 12 + 6
    assert state["encoder.layers.39.self_attn.qkv.weight"].shape == (4224, 1408)
    assert state["embeddings.patch_embedding.weight"].shape == (1408, 3, 14, 14)
    layers = number_by_name(network)
    assert layers["embeddings.position_embedding"] == 0
    assert layers["encoder.layers.39.mlp.fc2.bias"] == 40
    assert layers["post_layernorm.weight"] == layers[""] == 41


def test_chexagent_from_parts_in_half_precision(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = build_network(56, 2).eval()
    half = {f"vision_model.{name}": value.half() for name, value in model.state_dict().items()}
    names = sorted(half)
    parts = {"model-1.safetensors": names[:5], "model-2.safetensors": names[5:]}
    for part, held in parts.items():
        save_file({name: half[name] for name in held}, tmp_path / part)
    places = {name: part for part, held in parts.items() for name in held}
    # The language model's part is not there and not needed.
    index = {"weight_map": places | {"language_model.lm_head.weight": "model-3.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    tower = build_chexagent(tmp_path, image_size=56, num_layers=2)
    model.load_state_dict({name.removeprefix("vision_model."): value.float() for name, value in half.items()})
    grey, normalised = draw_views(tower)
    with torch.no_grad():
        theirs = model(pixel_values=normalised).last_hidden_state
        torch.testing.assert_close(tower.encode(grey, KIND).tokens, theirs, atol=1e-5, rtol=0)
    assert all(parameter.requires_grad for parameter in tower.parameters())
    assert [len(branch) for branch in tower.list_branches()] == [2, 2]
    (tmp_path / "model-2.safetensors").unlink()
    with pytest.raises(UserError, match=r"its parts model-2\.safetensors are not beside it"):
        build_chexagent(tmp_path, image_size=56, num_layers=2)


@pytest.mark.parametrize(("build", "extra"), [(build_biomedclip, 0), (build_biomedclip_projected, 512 * 768)])
def test_biomedclips_tower_is_a_whole_vit_base(build, extra: int) -> None:
    with torch.device("meta"):
        tower = build("random")
    # By hand: 12 layers of (qkv, projection, norms, two linear layers), class, 1 + 14 x 14 positions, patches, norm.
    layer = (768 + 1) * 2304 + (768 + 1) * 768 + 4 * 768 + (768 + 1) * 3072 + (3072 + 1) * 768
    assert (
        sum(value.numel() for value in tower.model.state_dict().values())
        == 12 * layer + 768 * (1 + 197 + 769 + 2) + extra
    )


def test_imagenets_tower_is_shown_images_as_timm_has_on_record() -> None:
    with torch.device("meta"):
        tower = load("imagenet-vit-b=random")
    assert (tower.config.name, tower.width, tower.depth) == ("imagenet-vit-b", 768, 12)
    shown = tower.config.preprocessing
    assert (shown.size, shown.mean, shown.std, shown.interpolation) == (224, (0.5,) * 3, (0.5,) * 3, "bicubic")
    assert tower.config.licence == "apache-2.0"


def test_biomedclip_from_open_clips_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    trunk, projection = build_vit_base(1).eval(), torch.randn(512, 768) / 28
    tensors = {f"visual.trunk.{name}": value for name, value in trunk.state_dict().items()}
    tensors |= {"visual.head.proj.weight": projection, "text.proj.weight": torch.ones(3), "logit_scale": torch.ones(())}
    torch.save(tensors, tmp_path / "open_clip_pytorch_model.bin")
    tower = build_biomedclip(tmp_path, num_layers=1)
    projected = build_biomedclip_projected(tmp_path, num_layers=1)
    assert (tower.width, projected.width, tower.config.licence) == (768, 512, "mit")
    grey, normalised = draw_views(tower)
    with torch.no_grad():
        tokens = trunk.forward_features(normalised)
        torch.testing.assert_close(tower.encode(grey, KIND).tokens, tokens, atol=1e-5, rtol=0)
        torch.testing.assert_close(projected.encode(grey, KIND).tokens, tokens @ projection.T, atol=1e-5, rtol=0)
    assert projected.number_layer("model.projection.weight") == projected.depth + 1 == 2
    assert projected.number_layer("model.trunk.blocks.0.mlp.fc1.weight") == 1
    # What fine-tuning writes is read again by the same name.
    for saved, build in ((tower, build_biomedclip), (projected, build_biomedclip_projected)):
        save_tower(saved, tmp_path / "weights.safetensors", {"max_views": 2})
        found = find_saved_tower(tmp_path / "weights.safetensors")
        assert found is not None
        assert found.name == saved.config.name
        assert read_tower_header(found.weights)["max_views"] == 2
        again = build(tmp_path / "weights.safetensors", num_layers=1)
        with torch.no_grad():
            assert torch.equal(again.encode(grey, KIND).tokens, saved.encode(grey, KIND).tokens)


def test_layers_of_a_timm_transformer_are_numbered_like_hilums() -> None:
    tower = load("timm:test_vit=random")
    assert tower.depth == len(tower.model.blocks) == 6
    numbers = {name: tower.number_layer(name) for name, _ in tower.named_parameters()}
    assert numbers["model.pos_embed"] == numbers["model.patch_embed.proj.weight"] == 0
    assert numbers["model.blocks.5.mlp.fc1.weight"] == 6
    assert {number for name, number in numbers.items() if ".norm." in name} <= {7}
    assert len(tower.list_branches()) == 6


def test_weights_that_do_not_belong_are_refused(tmp_path: Path) -> None:
    state = timm.create_model("test_vit", num_classes=0).state_dict()
    wrong = {"lacking": dict(list(state.items())[3:]), "shaped": state | {"pos_embed": torch.ones(7)}}
    for name, tensors in wrong.items():
        save_file(tensors, tmp_path / f"{name}.safetensors")
    with pytest.raises(UserError, match=r"lacking\.safetensors: not the weights.*3 missing \(cls_token"):
        load(f"timm:test_vit={tmp_path / 'lacking.safetensors'}")
    with pytest.raises(UserError, match=r"1 of another shape \(pos_embed\)"):
        load(f"timm:test_vit={tmp_path / 'shaped.safetensors'}")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "shaped.safetensors").read_bytes()[:-9])
    with pytest.raises(UserError, match=r"cut\.safetensors: not readable as weights"):
        load(f"timm:test_vit={tmp_path / 'cut.safetensors'}")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty: none of model\.safetensors.*huggingface\.co/timm/test_vit"):
        load(f"timm:test_vit={tmp_path / 'empty'}")
    with pytest.raises(UserError, match=r"Download open_clip_pytorch_model\.bin of huggingface\.co/microsoft"):
        load(f"biomedclip={tmp_path / 'empty'}")


class Evil:
    def __reduce__(self) -> tuple:
        return (Path.touch, (Path("was-executed"),))


def test_nothing_in_a_file_is_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"pos_embed": Evil()}, "evil.bin")
    Path("plain.bin").write_bytes(pickle.dumps(Evil()))
    for name in ("evil.bin", "plain.bin"):
        with pytest.raises(UserError, match=f"{name}: not readable as weights"):
            load(f"timm:test_vit={name}")
    assert not Path("was-executed").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("biomedclip", "biomedclip: whose weights.*biomedclip=download, which uses the network"),
        ("biomedclip=/nowhere", "/nowhere: there is no such file or folder with the weights of biomedclip"),
        ("biomedclp=random", "There is no encoder 'biomedclp'. Did you mean 'biomedclip'"),
        ("timm:test_vut=random", "has no model 'test_vut'. Did you mean test_vit"),
        ("hf:nowhere", "nowhere: there is no such"),
        ("hf:nowhere=random", "nowhere: expected a folder with config.json"),
        ("hf:folder=download", "downloads nothing"),
    ],
)
def test_what_cannot_be_meant_is_said(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load(text)


def test_other_words_are_no_public_encoder() -> None:
    assert parse_tower("runs/first") is None
    assert parse_tower("supervised:tiny") is None


def test_random_weights_are_named_so() -> None:
    spec = parse_tower("timm:test_vit=random")
    assert spec is not None
    assert spec.label == "timm:test_vit (random weights)"
    assert spec.load().record["tower"]["weights"] == "random"
