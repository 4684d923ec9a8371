"""Net1D against loops over numbers, its published shape, and its weights from a file (P 1.3)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import malicious

from hilum.errors import UserError
from hilum.model.ecg_weights import list_unused, load_ecg_founder
from hilum.model.net1d import Net1D, Net1DConfig, halve, pad_same, widen

TINY = Net1DConfig(num_leads=2, stem_width=4, widths=(4, 6), depths=(2, 1), kernel_size=4, group_width=2)


def build_tiny(seed: int = 0) -> Net1D:
    torch.manual_seed(seed)
    return Net1D(TINY).double().eval()


# --- the network


def convolve_slowly(x: np.ndarray, conv: torch.nn.Conv1d) -> np.ndarray:
    """Place by place, channel by channel; what lies outside is 0."""
    weight, bias = conv.weight.detach().numpy(), conv.bias.detach().numpy()
    (kernel,), (stride,) = conv.kernel_size, conv.stride
    num_out = -(-x.shape[1] // stride)
    left = max(0, (num_out - 1) * stride + kernel - x.shape[1]) // 2
    per_group_in, per_group_out = weight.shape[1], len(weight) // conv.groups
    found = np.zeros((len(weight), num_out))
    for channel in range(len(weight)):
        first_in = channel // per_group_out * per_group_in
        for place in range(num_out):
            found[channel, place] = bias[channel]
            for i in range(per_group_in):
                for k in range(kernel):
                    at = place * stride + k - left
                    if 0 <= at < x.shape[1]:
                        found[channel, place] += weight[channel, i, k] * x[first_in + i, at]
    return found


def swish(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-x))


def run_slowly(net: Net1D, x: np.ndarray) -> np.ndarray:
    """The specification's sentences, one record."""
    x = swish(convolve_slowly(x, net.first_conv.conv))
    for number, stage in enumerate(net.stage_list):
        for place, block in enumerate(stage.block_list):
            y = x if number == place == 0 else swish(x)
            y = swish(convolve_slowly(y, block.conv1.conv))
            y = convolve_slowly(swish(convolve_slowly(y, block.conv2.conv)), block.conv3.conv)
            squeezed = block.se_fc1.weight.detach().numpy() @ y.mean(axis=1) + block.se_fc1.bias.detach().numpy()
            share = block.se_fc2.weight.detach().numpy() @ swish(squeezed) + block.se_fc2.bias.detach().numpy()
            y = y / (1 + np.exp(-share))[:, None]
            if place == 0:
                odd = np.pad(x, ((0, 0), (0, x.shape[1] % 2)))
                x = np.array([[max(pair) for pair in channel.reshape(-1, 2)] for channel in odd])
            before = (len(y) - len(x)) // 2
            x = y + np.pad(x, ((before, len(y) - len(x) - before), (0, 0)))
    return x.mean(axis=1)


@pytest.mark.parametrize("time", [16, 21, 27])
def test_the_network_is_what_the_slow_loop_says(time: int):
    net = build_tiny(time)
    leads = torch.randn(3, 2, time, dtype=torch.float64)
    slow = np.stack([run_slowly(net, record.numpy()) for record in leads])
    np.testing.assert_allclose(net(leads).detach().numpy(), slow, atol=1e-12)


def test_padding_by_hand():
    """5 samples, kernel 4, stride 2: 3 places read 8 samples, so that 3 are lacking, 1 of them on the left."""
    found = pad_same(torch.arange(1.0, 6.0)[None, None], 4, 2)
    assert found.flatten().tolist() == [0, 1, 2, 3, 4, 5, 0, 0]
    assert pad_same(torch.ones(1, 1, 5), 1, 1).shape[2] == 5


@settings(max_examples=30, deadline=None)
@given(time=st.integers(1, 60), kernel=st.integers(1, 17), stride=st.integers(1, 3))
def test_same_padding_leaves_the_length_over_the_stride(time: int, kernel: int, stride: int):
    padded = pad_same(torch.zeros(1, 1, time), kernel, stride)
    assert (padded.shape[2] - kernel) // stride + 1 == -(-time // stride)


def test_halves_and_zero_channels_by_hand():
    assert halve(torch.tensor([[[1.0, 3.0, -2.0, -1.0, -5.0]]])).flatten().tolist() == [3, -1, 0]
    assert widen(torch.ones(1, 1, 1), 4).flatten().tolist() == [0, 1, 0, 0]


def test_the_published_shape():
    """P 1.3: 30.6 M active parameters; 5000, 2500, 1250, 625, 313, 157, 79, 40, 20; features of 1,024."""
    net = Net1D()
    sizes = {64: 12, 160: 64, 400: 160, 1024: 400}  # width: that before it, where it changes
    expected, before = 12 * 64 * 16 + 64, 64
    for width, depth in zip((64, 160, 160, 400, 400, 1024, 1024), (2, 2, 2, 3, 3, 4, 4), strict=True):
        assert before in (width, sizes[width])
        for _ in range(depth):
            squeeze = 2 * width * (width // 2) + width // 2 + width
            expected += before * width + width + width * 16 * 16 + width + width * width + width + squeeze
            before = width
    assert sum(parameter.numel() for parameter in net.parameters()) == expected == 30_598_896
    lengths = []
    net.first_conv.register_forward_hook(lambda module, given, found: lengths.append(found.shape[2]))
    for stage in net.stage_list:
        stage.register_forward_hook(lambda module, given, found: lengths.append(found.shape[2]))
    with torch.inference_mode():
        assert net(torch.randn(1, 12, 5000)).shape == (1, net.width) == (1, 1024)
    assert lengths == [2500, 1250, 625, 313, 157, 79, 40, 20]
    assert [len(stage.block_list) for stage in net.stage_list] == [2, 2, 2, 3, 3, 4, 4]
    assert {block.conv2.conv.weight.shape[1] for stage in net.stage_list for block in stage.block_list} == {16}


def test_a_record_does_not_see_its_neighbours():
    net = build_tiny()
    leads = torch.randn(4, 2, 30, dtype=torch.float64)
    torch.testing.assert_close(net(leads)[2:3], net(leads[2:3]))


# --- its weights


def draw_published(config: Net1DConfig | None = None, seed: int = 0) -> dict[str, torch.Tensor]:
    """A state dict as published: head and unused batch norms included, all of it random."""
    torch.manual_seed(seed)
    net = Net1D(config)
    state = {name: value.clone() for name, value in net.state_dict().items()}
    for name in list_unused(net):
        state[name] = torch.tensor(3) if name.endswith("num_batches_tracked") else torch.full((7,), torch.nan)
    state["dense.weight"], state["dense.bias"] = torch.randn(150, net.width), torch.randn(150)
    return state


def test_weights_of_the_published_shape(tmp_path: Path):
    state = draw_published()
    assert sum(name.endswith("bn2.running_var") for name in state) == 20
    torch.save({"epoch": 9, "state_dict": state, "optimizer": {"lr": 1e-3}}, tmp_path / "12_lead_ECGFounder.pth")
    net = load_ecg_founder(tmp_path / "12_lead_ECGFounder.pth")
    assert not net.training
    assert not any(parameter.requires_grad for parameter in net.parameters())
    for name, value in net.state_dict().items():
        assert torch.equal(value, state[name])


@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: {"state_dict": state}], ids=["bare", "state_dict"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_other_wrappings(wrap, prefix: str, tmp_path: Path):
    state = draw_published(TINY)
    torch.save(wrap({prefix + name: value for name, value in state.items()}), tmp_path / "w.pth")
    net = load_ecg_founder(tmp_path / "w.pth", TINY)
    assert torch.equal(net.first_conv.conv.weight, state["first_conv.conv.weight"])


def test_weights_without_what_is_not_used(tmp_path: Path):
    torch.save(Net1D(TINY).state_dict(), tmp_path / "w.pth")
    load_ecg_founder(tmp_path / "w.pth", TINY)


def refuse(path: Path, state) -> str:
    torch.save({"state_dict": state}, path)
    with pytest.raises(UserError) as caught:
        load_ecg_founder(path, TINY)
    return str(caught.value)


def test_anything_else_is_refused(tmp_path: Path):
    path, conv = tmp_path / "w.pth", "stage_list.1.block_list.0.conv2.conv.weight"
    state = draw_published(TINY)
    missing = refuse(path, {name: value for name, value in state.items() if name != conv})
    assert f"1 missing ({conv})" in missing
    assert "1 not known (stage_list.0.block_list.0.bn4.weight)" in refuse(
        path, state | {"stage_list.0.block_list.0.bn4.weight": torch.ones(4)}
    )
    shape = refuse(path, state | {conv: torch.zeros(6, 2, 5)})
    assert f"1 of another shape ({conv} (6, 2, 5) instead of (6, 2, 4))" in shape
    assert "1 not finite (first_conv.conv.bias)" in refuse(
        path, state | {"first_conv.conv.bias": torch.full((4,), torch.inf)}
    )
    one_lead = draw_published(Net1DConfig(1, 4, (4, 6), (2, 1), 4, 2))
    assert "first_conv.conv.weight (4, 1, 4) instead of (4, 2, 4)" in refuse(path, one_lead)
    assert "missing" in refuse(path, {"cls_token": torch.zeros(1, 1, 8)})


@pytest.mark.parametrize("attack", ["os.system", "builtins.eval", "torch.storage._load_from_bytes"])
def test_a_file_that_runs_something_is_refused_and_runs_nothing(attack: str, tmp_path: Path):
    marker, honest, evil = tmp_path / "marker", tmp_path / "w.pth", tmp_path / "evil.pth"
    torch.save({"state_dict": draw_published(TINY)}, honest)
    malicious.put_in_front(honest, evil, malicious.ATTACKS[attack][1](marker))
    with pytest.raises(UserError, match="refused"):
        load_ecg_founder(evil, TINY)
    assert not marker.exists()
    torch.load(evil, weights_only=False)  # the attack is a live one
    assert marker.exists()


def test_no_file_and_no_whole_file(tmp_path: Path):
    with pytest.raises(UserError, match="there is no such file"):
        load_ecg_founder(tmp_path / "none.pth")
    torch.save({"state_dict": draw_published(TINY)}, tmp_path / "w.pth")
    whole = (tmp_path / "w.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="not a whole checkpoint"):
        load_ecg_founder(tmp_path / "cut.pth", TINY)
