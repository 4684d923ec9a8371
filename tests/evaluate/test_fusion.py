"""Late fusion and the loss it is trained with: the specification's numbers, absent views, order."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from hilum.evaluate.fusion import fuse_views, masked_cross_entropy

NAN = float("nan")


def test_numbers_of_the_specification():
    logit, owner = torch.tensor([[2.0], [0.0]]), torch.tensor([0, 0])
    assert torch.sigmoid(fuse_views(logit, owner, 1)).item() == pytest.approx(0.731059, abs=1e-6)
    fused = torch.sigmoid(fuse_views(logit, owner, 1, "mean_probability"))
    assert fused.item() == pytest.approx(0.690399, abs=1e-6)


@pytest.mark.parametrize("fusion", ["mean_logit", "mean_probability"])
def test_order_and_other_studies_change_nothing(fusion):
    generator = torch.Generator().manual_seed(0)
    logit, owner = torch.randn(7, 3, generator=generator), torch.tensor([0, 0, 0, 1, 2, 2, 1])
    fused = fuse_views(logit, owner, 3, fusion)
    order = torch.randperm(7, generator=generator)
    assert torch.allclose(fuse_views(logit[order], owner[order], 3, fusion), fused, atol=1e-6)
    assert torch.allclose(fuse_views(logit[owner == 1], torch.zeros(2, dtype=torch.long), 1, fusion)[0], fused[1])
    for study in range(3):
        views = logit[owner == study]
        expected = views.mean(0) if fusion == "mean_logit" else torch.logit(torch.sigmoid(views).mean(0))
        assert torch.allclose(fused[study], expected, atol=1e-5)


def test_sure_views_stay_finite():
    fused = fuse_views(torch.tensor([[200.0], [200.0]]), torch.tensor([0, 0]), 1, "mean_probability")
    assert torch.isfinite(fused).all()


def test_a_study_without_views_is_refused():
    with pytest.raises(AssertionError, match="without a view"):
        fuse_views(torch.zeros(1, 2), torch.tensor([1]), 2)


def test_packed_loss_is_the_masked_mean_and_the_released_loss_is_not():
    """Two studies, one and two views, padded to three slots as the released code does (M 4.1, M 8-28)."""
    slots = torch.tensor([[2.0, -1.0, 9.0], [0.5, 9.0, 9.0]])  # 9: what an absent slot says
    exists = torch.tensor([[True, True, False], [True, False, False]])
    target = torch.tensor([1.0, 0.0])
    by_slot = F.binary_cross_entropy_with_logits(slots, target[:, None].expand(2, 3), reduction="none")
    masked = (by_slot * exists).sum() / exists.sum()
    # The released code reduces first, so that its mask multiplies a scalar: sum(mean * mask) / sum(mask) = mean.
    released = (by_slot.mean() * exists).sum() / exists.sum()
    owner = torch.tensor([0, 0, 1])
    ours = masked_cross_entropy(slots[exists][:, None], target[owner][:, None])
    assert ours.item() == pytest.approx(masked.item())
    assert ours.item() == pytest.approx((0.126928 + 1.313262 + 0.974077) / 3, abs=1e-6)
    assert released.item() == pytest.approx(by_slot.mean().item())
    assert abs(released.item() - ours.item()) > 1


def test_unknown_targets_have_no_loss_and_no_gradient():
    logit = torch.randn(3, 2, requires_grad=True)
    target = torch.tensor([[1.0, NAN], [NAN, NAN], [0.0, 1.0]])
    loss = masked_cross_entropy(logit, target)
    loss.backward()
    known = ~torch.isnan(target)
    assert loss.item() == pytest.approx(F.binary_cross_entropy_with_logits(logit[known], target[known]).item())
    assert (logit.grad[~known] == 0).all()
    assert (logit.grad[known] != 0).all()
    nothing = masked_cross_entropy(logit, torch.full((3, 2), NAN))
    nothing.backward()
    assert nothing.item() == 0
