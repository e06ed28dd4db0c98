"""Times of tokens: dynamic time warping, alignment by attention, and the pass of the decoder."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from s3router.seq2seq.generate import window_features
from s3router.seq2seq.token_times import align, alignment_heads, token_times, warp
from s3router.upstreams.whisper import WINDOW
from s3router.upstreams.whisper_recogniser import load_recogniser
from tests.upstreams.whisper_files import huggingface_folder, small_whisper


def slowly(cost: np.ndarray) -> tuple[list[int], list[int]]:
    """`warp` as it is defined, cell by cell."""
    total = np.full(cost.shape, np.inf)
    back: dict[tuple[int, int], tuple[int, int]] = {}
    for i, j in itertools.product(*map(range, cost.shape)):
        before = [(i - 1, j - 1), (i - 1, j), (i, j - 1)]
        known = [place for place in before if min(place) >= 0]
        best = min(known, key=lambda place: total[place], default=None)  # the first of equals
        total[i, j] = cost[i, j] + (0 if best is None else total[best])
        back[i, j] = best
    path = [(cost.shape[0] - 1, cost.shape[1] - 1)]
    while (place := back[path[-1]]) is not None:
        path.append(place)
    rows, columns = zip(*reversed(path), strict=True)
    return list(rows), list(columns)


@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (6, 1), (2, 2), (3, 7), (8, 5), (12, 40)])
@pytest.mark.parametrize("whole", [False, True], ids=["floats", "with_equals"])
def test_the_path_is_the_cheapest(shape, whole):
    generator = np.random.default_rng(0)
    for _ in range(10):
        cost = generator.integers(-3, 3, shape).astype(float) if whole else generator.normal(size=shape)
        rows, columns = warp(cost)
        assert (rows.tolist(), columns.tolist()) == slowly(cost)


def attention(begins: list[int], frames: int) -> torch.Tensor:
    """(1, tokens, frames): each token looks at the frames from its beginning to the next one's."""
    weights = torch.full((1, len(begins), frames), 0.01, dtype=torch.float64)
    for row, (begin, end) in enumerate(itertools.pairwise([*begins, frames])):
        weights[0, row, begin:end] = 1.0
    return weights / weights.sum(-1, keepdim=True)


def test_tokens_begin_where_they_are_looked_at():
    begins = [0, 12, 30, 34, 55, 90]
    weights = attention(begins, 100)
    assert align(weights).tolist() == begins
    blind = torch.full_like(weights, 1 / 100)  # a head without a clue, as masks may leave one
    assert align(torch.cat((weights, blind))).tolist() == begins
    prompted = torch.cat((torch.full((1, 2, 100), 1 / 100, dtype=torch.float64), weights), 1)
    assert align(prompted, 2).tolist() == begins


@pytest.mark.parametrize("frames", [1, 3, 4])
def test_recordings_of_a_few_frames(frames):
    weights = torch.rand(2, 5, frames, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    begins = align(weights, 1)
    assert begins.shape == (4,)
    assert begins[0] == 0
    assert (np.diff(begins) >= 0).all()
    assert begins[-1] < frames


@pytest.fixture(scope="module")
def recogniser(tmp_path_factory):
    model = small_whisper(decoder_layers=4, decoder_attention_heads=2, encoder_attention_heads=2)
    return load_recogniser("auto", str(huggingface_folder(model, tmp_path_factory.mktemp("whisper") / "small")))


def test_which_heads_follow_the_speech(recogniser, monkeypatch):
    upper = [(2, 0), (2, 1), (3, 0), (3, 1)]
    assert alignment_heads(recogniser.model) == upper
    settings = recogniser.model.generation_config
    for given, wanted in (([[0, 1], [3, 0]], [(0, 1), (3, 0)]), ([[3, 0], [5, 1]], upper), ([], upper)):
        monkeypatch.setattr(settings, "alignment_heads", given, raising=False)
        assert alignment_heads(recogniser.model) == wanted


@torch.inference_mode()
def test_the_attention_is_that_of_transformers(recogniser, monkeypatch):
    """With each head alone: whose weights, the ones of a whole window, transformers gives back, too."""
    model, prompt, text = recogniser.model, recogniser.prompt("fr"), [7, 300, 8, 9, 40, 7]
    wave = torch.randn(WINDOW, generator=torch.Generator().manual_seed(0))
    encoded = model.get_encoder()(window_features(recogniser, [wave], WINDOW))[0]
    model.set_attn_implementation("eager")
    try:
        ids = torch.tensor([[*prompt, *text]])
        found = model.model.decoder(ids, encoder_hidden_states=encoded, output_attentions=True).cross_attentions
    finally:
        model.set_attn_implementation("sdpa")
    for layer, head in itertools.product(range(4), range(2)):
        monkeypatch.setattr(model.generation_config, "alignment_heads", [[layer, head]], raising=False)
        (times,) = token_times(model, encoded, prompt, [text], [WINDOW])
        wanted = align(found[layer][0, head][None].double(), len(prompt) - 1) * 0.02
        assert times == pytest.approx(wanted.tolist(), abs=0.021)
        assert len(times) == len(text) + 1


@torch.inference_mode()
def test_times_do_not_depend_on_the_batch(recogniser):
    generator = torch.Generator().manual_seed(1)
    waves = [torch.randn(length, generator=generator) for length in (16000, 60001, 900)]
    texts = [[5, 6, 7, 8], [9] * 9, []]
    prompt = recogniser.prompt("fr")
    encoded = recogniser.model.get_encoder()(window_features(recogniser, waves, 5 * 16000))[0]
    hooks = [len(module._forward_hooks) for module in recogniser.model.modules()]
    together = token_times(recogniser.model, encoded, prompt, texts, [len(wave) for wave in waves])
    for number, (wave, text, times) in enumerate(zip(waves, texts, together, strict=True)):
        (alone,) = token_times(recogniser.model, encoded[number : number + 1], prompt, [text], [len(wave)])
        assert alone == pytest.approx(times, abs=0.021)
        assert len(times) == len(text) + 1
        assert all(0 <= a <= b < len(wave) / 16000 for a, b in itertools.pairwise(times))
    assert [len(module._forward_hooks) for module in recogniser.model.modules()] == hooks
