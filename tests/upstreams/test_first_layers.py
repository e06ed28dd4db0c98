"""The first layers alone give what a whole pass has there; the front end's output can be kept for a second pass."""

from __future__ import annotations

import pytest
import torch

from s3router.errors import ConfigError
from s3router.upstreams.first_layers import batch_first
from s3router.upstreams.hub import build
from s3router.upstreams.routed import RoutedUpstream
from tests.upstreams.conftest import HF_MODELS, hf_model, save_hf


@pytest.fixture(scope="module", params=sorted(HF_MODELS))
def routed(request, tmp_path_factory) -> RoutedUpstream:
    folder = save_hf(hf_model(request.param), tmp_path_factory.mktemp("hf"))
    return build(str(folder), upstream=request.param).eval()


def waves(*lengths: int) -> list[torch.Tensor]:
    return [torch.randn(n, generator=torch.Generator().manual_seed(n)) for n in lengths]


@torch.no_grad()
def test_states_are_those_of_a_whole_pass(routed):
    wavs = waves(8000, 5000, 6400)
    whole = routed(wavs)["hidden_states"]
    states, frames = routed.first_layers(wavs, 2)
    assert len(states) == 2
    for number, state in enumerate(states, 1):
        for row, count in enumerate(frames):
            torch.testing.assert_close(state[row, :count], whole[number][row, :count])


@torch.no_grad()
def test_as_many_waveforms_as_frames(routed):
    wavs = waves(*[1040] * 3)
    states, frames = routed.first_layers(wavs, 1)
    assert frames == [3, 3, 3]
    for row, wav in enumerate(wavs):
        torch.testing.assert_close(states[0][row], routed.first_layers([wav], 1)[0][0][0])


def test_more_layers_than_there_are(routed):
    before = [len(module._forward_hooks) for module in routed.backbone.modules()]
    routed.first_layers(waves(8000), 3)
    for layers in (0, 4):
        with pytest.raises(ConfigError, match=f"the first {layers} layers of .* known are 3"):
            routed.first_layers(waves(8000), layers)
    assert [len(module._forward_hooks) for module in routed.backbone.modules()] == before


def test_time_may_come_first():
    state = torch.arange(24.0).reshape(4, 2, 3)
    assert torch.equal(batch_first(state, 2, 4), state.transpose(0, 1))
    assert batch_first(state, 4, 1).shape == (4, 1, 3)
    with pytest.raises(ConfigError, match="its first layers cannot be used alone"):
        batch_first(state, 5, 4)


@torch.no_grad()
def test_the_front_end_is_computed_once_where_it_is_remembered(routed):
    computed = []
    conv = next(module for module in routed.front_end.modules() if isinstance(module, torch.nn.Conv1d))
    handle = conv.register_forward_hook(lambda module, inputs, output: computed.append(len(output)))
    wavs = waves(8000, 5000)
    plain = routed(wavs)["hidden_states"]
    computed.clear()
    with routed.remembering_front_end():
        routed.first_layers(wavs, 1)
        before = sum(computed)
        again = routed(wavs[::-1])["hidden_states"]
        assert sum(computed) == before
    for one, other in zip(plain, again, strict=True):
        torch.testing.assert_close(one[0], other[1], atol=1e-5, rtol=1e-4)
    routed(wavs)
    handle.remove()
    assert sum(computed) > before
