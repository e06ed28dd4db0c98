"""CTC speech recognition from a folder that ``s3router bake`` wrote. Needs torch, transformers and safetensors alone.

    python ctc.py a.wav b.wav           (in that folder; reading audio takes soundfile, too)

This file is copied into the folder, and imports nothing of s3router.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn


class CTC(nn.Module):
    """A speech model, a weighted sum of its layers (or the last one alone), and a linear output layer.

    Args:
        model: HubertModel, Wav2Vec2Model, WavLMModel or Data2VecAudioModel of transformers.
        head: ``weight`` (tokens, dim), maybe ``bias`` (tokens,) and ``layer_weights`` (layers,) before their softmax.
        settings: ``normalize_audio``: zero mean and unit variance; ``normalize_features``: layer norm on each layer.
    """

    def __init__(self, model: nn.Module, head: dict[str, torch.Tensor], settings: dict):
        super().__init__()
        self.model = model
        self.settings = settings
        for name in ("weight", "bias", "layer_weights"):
            self.register_buffer(name, head[name].float() if name in head else None)
        self.eval()

    @classmethod
    def load(cls, folder: str | Path) -> CTC:
        """From the folder; nothing is downloaded."""
        from safetensors.torch import load_file
        from transformers import AutoModel

        folder = Path(folder)
        settings = json.loads((folder / "head.json").read_text(encoding="utf-8"))
        model = AutoModel.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
        return cls(model, load_file(folder / "head.safetensors"), settings)

    def forward(self, wave: torch.Tensor) -> torch.Tensor:
        """(batch, samples) at 16 kHz, all of one length, float32 -> log probabilities (batch, frames, tokens)."""
        if self.settings["normalize_audio"]:
            centred = wave - wave.mean(1, keepdim=True)
            wave = centred / torch.sqrt((centred * centred).mean(1, keepdim=True) + 1e-7)
        output = self.model(wave, output_hidden_states=True)
        # the last one after the encoder's final layer norm, which some models leave out of hidden_states
        hidden = [*output.hidden_states[:-1], output.last_hidden_state]
        if self.layer_weights is None:
            hidden = hidden[-1:]
        if self.settings["normalize_features"]:
            hidden = [F.layer_norm(h, h.shape[-1:]) for h in hidden]
        if self.layer_weights is None:
            features = hidden[0]
        else:
            features = (torch.softmax(self.layer_weights, 0)[:, None, None, None] * torch.stack(hidden)).sum(0)
        return F.log_softmax(F.linear(features, self.weight, self.bias), dim=-1)


def read_tokens(folder: str | Path) -> list[str]:
    """The token list: the first one is the CTC blank."""
    return (Path(folder) / "tokens.txt").read_text(encoding="utf-8").split("\n")[:-1]


def text_of(log_probs: torch.Tensor, tokens: list[str], token_type: str = "char") -> str:
    """Greedy decoding of one utterance (frames, tokens): each frame's best token, repeats merged, blanks dropped."""
    best = [token for token, _ in itertools.groupby(log_probs.argmax(-1).tolist()) if token]
    words = [tokens[index] for index in best if tokens[index] != "<sos/eos>"]
    if token_type == "phn":
        return " ".join(words)
    if token_type == "bpe":
        return " ".join("".join(words).replace("\u2581", " ").split())
    return " ".join("".join(" " if token == "<space>" else token for token in words).split())


def read_wave(path: str) -> torch.Tensor:
    """A recording at 16 kHz with one channel -> (1, samples); ends the program with one line where it is none."""
    try:
        import soundfile
    except ImportError:
        sys.exit("reading audio takes soundfile: pip install soundfile")
    try:
        wave, rate = soundfile.read(path, dtype="float32")
    except (OSError, RuntimeError) as error:  # soundfile's own errors are of the latter kind
        sys.exit(f"{path}: cannot be read ({error})")
    if rate != 16000 or wave.ndim != 1:
        channels = 1 if wave.ndim == 1 else wave.shape[1]
        sys.exit(f"{path}: {rate} Hz, {channels} channel(s); bring it to 16 kHz and one channel first")
    return torch.from_numpy(wave)[None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", nargs="+", metavar="WAV", help="16 kHz, one channel")
    recordings = parser.parse_args().recordings
    folder = Path(__file__).parent
    model, tokens = CTC.load(folder), read_tokens(folder)
    for path in recordings:
        with torch.inference_mode():
            log_probs = model(read_wave(path))[0]
        print(path, text_of(log_probs, tokens, model.settings["token_type"]))


if __name__ == "__main__":
    main()
