"""Selection against a slow reference: sort everything, remove the first k, earlier positions first among equals."""

from __future__ import annotations

import pytest
import torch

from s3router.errors import S3RouterError
from s3router.masks import binarize
from s3router.masks.binarize import removed_count, select, select_n_m


def reference_keep(tensors: list[torch.Tensor], k: int) -> list[torch.Tensor]:
    """The definition: of all magnitudes together the k smallest go, equal ones in order of position."""
    flat = torch.cat([t.abs().flatten() for t in tensors])
    keep = torch.ones(flat.numel(), dtype=torch.bool)
    keep[flat.sort(stable=True).indices[:k]] = False
    return [part.view_as(t) for part, t in zip(keep.split([t.numel() for t in tensors]), tensors, strict=True)]


def scores(shape: tuple[int, int], kind: str, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    draws = torch.randn(shape, generator=generator)
    return {"distinct": draws, "tied": (draws * 2).round(), "equal": torch.ones(shape), "zero": torch.zeros(shape)}[
        kind
    ]


def on_accelerator_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the path of other devices, which works on CPU tensors as well."""
    monkeypatch.setattr(
        binarize, "_select_numpy", lambda arrays, k: binarize._select_torch([torch.from_numpy(a) for a in arrays], k)
    )


@pytest.mark.parametrize("path", ["numpy", "torch"])
@pytest.mark.parametrize("kind", ["distinct", "tied", "equal", "zero"])
@pytest.mark.parametrize("shape", [(7, 11), (300, 500)])
@pytest.mark.parametrize("sparsity", [0.0, 0.003, 0.1, 0.5, 0.999])
def test_one_tensor(monkeypatch, path, kind, shape, sparsity):
    if path == "torch":
        on_accelerator_path(monkeypatch)
    s = scores(shape, kind)
    k = removed_count(sparsity, s.numel())
    [selection] = select([s], k)
    keep = selection.keep(s)
    assert int((~keep).sum()) == k
    assert torch.equal(keep, reference_keep([s], k)[0])
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(5))
    assert torch.equal(selection.apply(weight, s, torch.float32), torch.where(keep, weight, 0.0))
    assert torch.equal(selection.apply(weight, s, torch.bfloat16), torch.where(keep, weight, 0.0).bfloat16())


@pytest.mark.parametrize("kind", ["distinct", "tied", "equal"])
@pytest.mark.parametrize("k", [1, 100, 80_000, 200_000])
def test_one_threshold_for_many(kind, k):
    tensors = [scores((300, 500), kind, 1), scores((1, 64), kind, 2), 10 * scores((200, 300), kind, 3)]
    selections = select(tensors, k)
    expected = reference_keep(tensors, k)
    for selection, s, keep in zip(selections, tensors, expected, strict=True):
        assert torch.equal(selection.keep(s), keep)


def test_outliers_do_not_mislead_the_sampled_bracket():
    """The sample sees only large values here: the check must notice, and the plain way must be taken."""
    s = torch.ones(300, 500)
    stride = s.numel() // binarize._SAMPLE | 1
    s.view(-1)[::stride] = 5.0
    s += torch.rand(s.shape, generator=torch.Generator().manual_seed(0)) * 0.5
    [selection] = select([s], 1000)
    assert torch.equal(selection.keep(s), reference_keep([s], 1000)[0])


def test_same_for_any_number_of_threads():
    s = scores((300, 500), "tied")
    threads = torch.get_num_threads()
    try:
        found = []
        for n in (1, 2):
            torch.set_num_threads(n)
            found.append(select([s], 12345))
    finally:
        torch.set_num_threads(threads)
    assert found[0] == found[1]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_other_float_types(dtype):
    s = scores((40, 50), "distinct").to(dtype)
    [selection] = select([s], 700)
    assert torch.equal(selection.keep(s), reference_keep([s.double()], 700)[0])
    weight = torch.randn(40, 50).to(dtype)
    assert torch.equal(
        selection.apply(weight, s, dtype), torch.where(selection.keep(s), weight, torch.zeros((), dtype=dtype))
    )


def test_nan_scores_are_an_error():
    with pytest.raises(S3RouterError, match="diverged"):
        select([torch.full((3, 4), float("nan"))], 2)


def test_sign_does_not_matter_and_count_is_the_floor():
    s = torch.tensor([[-3.0, 0.5, 2.0, -0.1, 1.0]])
    [selection] = select([s], removed_count(0.5, 5))
    assert selection.keep(s).tolist() == [[True, False, True, False, True]]
    assert removed_count(0.1, 3072 * 768) == 235929


def test_the_sparsity_counts_as_the_decimal_that_was_typed():
    """In floats 0.29 · 100 is 28.999999999999996."""
    assert removed_count(0.29, 100) == 29
    for thousandths in range(1000):
        for total in (100, 768, 1000, 3072, 2359296, 3072 * 768 * 24):
            assert removed_count(float(f"{thousandths / 1000:.3f}"), total) == thousandths * total // 1000
    assert removed_count(1e-06, 2_000_000) == 2
    assert removed_count(float("0.123456789"), 10**9) == 123456789


@pytest.mark.parametrize(("n", "m"), [(1, 2), (2, 4), (1, 4), (3, 8)])
@pytest.mark.parametrize("kind", ["distinct", "tied", "equal"])
def test_n_of_m(n, m, kind):
    s = scores((6, 16), kind)
    keep = select_n_m(s, n, m).keep()
    for group, kept in zip(s.view(-1, m), keep.view(-1, m), strict=True):
        assert torch.equal(kept, reference_keep([group], m - n)[0])
