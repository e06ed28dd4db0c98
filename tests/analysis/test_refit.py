"""Heads that are fitted anew on hidden states that stay."""

from __future__ import annotations

import pytest
import torch

from s3router.analysis.refit import HeadOptions, LinearHead, error_rate, fit_head, hidden_states
from s3router.analysis.representation import FROZEN, load_resident, routed
from s3router.cli.transfer import parser
from s3router.data.audio import read_audio
from s3router.data.kaldi import DataDir
from s3router.data.tokens import TokenIds, build_token_list
from s3router.errors import ConfigError, DataError
from s3router.packs import read_pack

FIVE = "tests/fixtures/five"


@pytest.fixture(scope="module")
def resident(packs):
    return load_resident(packs[0])


@pytest.fixture(scope="module")
def utts(in_place):
    return DataDir.read(FIVE).with_durations().utts


@pytest.fixture(scope="module")
def tokens(utts):
    return TokenIds(build_token_list(utt.text for utt in utts))


@pytest.mark.parametrize("arithmetic", ["float32", "bfloat16"])
def test_states_are_those_of_each_recording_alone_normalised(resident, packs, utts, arithmetic):
    pack = read_pack(packs[0], resident.module)
    with routed(resident, [("es", pack)]):
        found = {label: hidden_states(resident, label, utts, arithmetic) for label in (FROZEN, "es")}
    # a plain model with zeros in its weights
    plain = load_resident(packs[0])
    for label in (FROZEN, "es"):
        for name, mask in pack.masks.items() if label == "es" else ():
            with torch.no_grad():
                plain.module.get_parameter(name).mul_(mask)
        for utt in utts:
            with torch.no_grad():
                states = plain.upstream.hidden([torch.from_numpy(read_audio(utt.source))])
            states = torch.cat([(s - s.mean(-1, keepdim=True)) / s.std(-1, keepdim=True, correction=0) for s in states])
            assert found[label][utt.utt].dtype == torch.bfloat16
            off = (found[label][utt.utt].float() - states).abs()  # of values whose deviation is 1
            assert off.max() < (0.02 if arithmetic == "float32" else 1.0)
            assert off.mean() < (0.002 if arithmetic == "float32" else 0.1)
    assert any((found[FROZEN][utt.utt] != found["es"][utt.utt]).any() for utt in utts)


def test_the_head_is_a_weighted_sum_and_a_linear_layer():
    head = LinearHead(3, 4, 5).eval()
    states = torch.randn(3, 6, 4, generator=torch.Generator().manual_seed(0))
    assert head(states).exp().tolist() == [[pytest.approx(0.2)] * 5] * 6  # it begins with equal tokens
    with torch.no_grad():
        head.layer_weights.copy_(torch.tensor([0.0, 1.0, -1.0]))
        head.output.weight.copy_(torch.randn(5, 4, generator=torch.Generator().manual_seed(1)))
    weights = torch.tensor([0.0, 1.0, -1.0]).exp()
    mixed = sum(w * s for w, s in zip(weights / weights.sum(), states, strict=True))
    expected = (mixed @ head.output.weight.T + head.output.bias).softmax(-1).log()
    assert torch.allclose(head(states), expected, atol=1e-6)


def test_greedy_error_rate(utts, tokens):
    """A head that reads the token off the channels: one wrong letter in all."""
    width = len(tokens)
    states = {}
    for utt in utts:
        ids = [i for token in tokens.encode(utt.text) for i in (token, token, 0)]
        states[utt.utt] = torch.nn.functional.one_hot(torch.tensor(ids), width).float()[None] * 9
    head = LinearHead(1, width, width)
    with torch.no_grad():
        head.output.weight.copy_(torch.eye(width))
        head.output.bias.zero_()
    assert error_rate(head, states, utts, tokens) == 0
    states[utts[0].utt] = states[utts[0].utt].roll(1, -1)  # every token is another one, blanks are unknown
    wrong = error_rate(head, states, utts, tokens)
    assert wrong >= len(utts[0].text) / sum(len(utt.text) for utt in utts)


def test_it_learns_and_keeps_the_best(resident, utts, tokens):
    states = hidden_states(resident, FROZEN, utts), utts
    options = HeadOptions(updates=60, batch_seconds=2.0, checks=6, warmup=5)
    found = fit_head(states, states, tokens, options, seed=1)
    assert found.dev < 0.8
    assert found.update in (10, 20, 30, 40, 50, 60)
    assert error_rate(found.head, *states, tokens) == found.dev
    assert not found.head.training
    again = fit_head(states, states, tokens, options, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(found.head.parameters(), again.head.parameters(), strict=True))
    other = fit_head(states, states, tokens, options, seed=2)
    assert not torch.equal(found.head.output.weight, other.head.output.weight)
    once = fit_head(states, states, tokens, HeadOptions(updates=60, batch_seconds=2.0, checks=1, warmup=5), seed=1)
    assert once.update == 60
    assert once.dev >= found.dev


def test_what_nothing_can_be_learnt_from(utts, tokens):
    states = {utt.utt: torch.zeros(2, 1, 4) for utt in utts}  # one frame
    with pytest.raises(DataError, match="no utterance has as many frames as tokens"):
        fit_head((states, utts), (states, utts), tokens, HeadOptions())


def test_bad_options():
    with pytest.raises(ConfigError, match=r"updates 0: at least 1 .*; batch_seconds -1 is not above 0; .*dropout 1.0"):
        HeadOptions(updates=0, batch_seconds=-1, dropout=1.0)


def test_the_command_has_the_same_defaults():
    words = ["a.pack", "-o", "t.csv", "--train", "a", "--dev", "b", "--test", "c"]
    args, head = parser().parse_args(words), HeadOptions()
    assert (args.max_updates, args.batch_seconds, args.head_lr) == (head.updates, head.batch_seconds, head.head_lr)
