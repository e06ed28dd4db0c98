"""Speech recognition or classification from a folder that ``s3router bake`` wrote.

    python ctc.py a.wav b.wav           (or classify.py, whichever is in that folder)

Needs torch, transformers and safetensors, and soundfile to read audio. This file is copied into the folder, and imports
nothing of s3router.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

SAMPLE_RATE = 16000
FFT, HOP, WINDOW = 400, 160, 30 * SAMPLE_RATE  # of Whisper's spectrogram, in samples
PADDED_TO = 800  # samples: the classifiers were trained on waveforms of 0.05 s at least


class WhisperStates(nn.Module):
    """Hidden states of transformers' WhisperEncoder for utterances that are as long as they are, not padded to 30 s.

    Longer ones are cut into windows of 30 s, which do not see each other. An exported model takes one window.
    """

    def __init__(self, encoder: nn.Module):
        super().__init__()
        from transformers.audio_utils import mel_filter_bank

        self.encoder = encoder
        bins = encoder.config.num_mel_bins
        filters = mel_filter_bank(1 + FFT // 2, bins, 0.0, SAMPLE_RATE / 2, SAMPLE_RATE, "slaney", "slaney")
        angles = torch.arange(FFT, dtype=torch.float64)[:, None] * torch.arange(1 + FFT // 2) * (2 * math.pi / FFT)
        window = torch.hann_window(FFT, dtype=torch.float64)[:, None]
        # float64: the logarithm shows what is a ten thousandth of the loudest
        self.register_buffer("cosines", window * angles.cos(), persistent=False)
        self.register_buffer("sines", window * angles.sin(), persistent=False)
        self.register_buffer("mel_filters", torch.from_numpy(filters).double(), persistent=False)

    def forward(self, wave: torch.Tensor) -> list[torch.Tensor]:
        """(batch, samples) -> [(batch, ceil(samples / 320), dim)] * (layers + 1), the last one normalised."""
        windows = [wave] if torch.jit.is_tracing() else wave.split(WINDOW, 1)
        return [torch.cat(states, 1) for states in zip(*map(self.window, windows), strict=True)]

    def window(self, wave: torch.Tensor) -> list[torch.Tensor]:
        """The same of 30 s at most."""
        encoder = self.encoder
        features = F.gelu(encoder.conv2(F.gelu(encoder.conv1(self.log_mel(wave))))).transpose(1, 2)
        hidden = features + encoder.embed_positions.weight[: features.size(1)]
        states = [hidden]
        for layer in encoder.layers:
            hidden = layer(hidden, None)
            states.append(hidden)
        return [*states[:-1], encoder.layer_norm(hidden)]

    def log_mel(self, wave: torch.Tensor) -> torch.Tensor:
        """(batch, samples), 30 s at most -> (batch, bins, ceil(samples / 160)), float32."""
        frames = (wave.size(1) + HOP - 1) // HOP
        end = torch.as_tensor(frames * HOP + FFT, device=wave.device).clamp(max=WINDOW)  # silence up to here
        steps = torch.arange(FFT, device=wave.device) - FFT // 2
        places = (torch.arange(frames, device=wave.device)[:, None] * HOP + steps).abs()  # mirrored at both ends
        places = torch.where(places < end, places, 2 * (end - 1) - places)
        pieces = F.pad(wave, (0, HOP + FFT)).double()[:, places]
        power = (pieces @ self.cosines) ** 2 + (pieces @ self.sines) ** 2
        mel = (power @ self.mel_filters).transpose(1, 2).float().clamp(min=1e-10).log10()
        loudest = mel.amax((1, 2), keepdim=True)
        return (torch.maximum(mel, loudest - 8.0) + 4.0) / 4.0


class BakedModel(nn.Module):
    """A speech model, a weighted sum of its layers (or the last one alone), and a linear output layer.

    Args:
        model: HubertModel, Wav2Vec2Model, WavLMModel … or WhisperEncoder of transformers.
        head: ``weight`` (outputs, dim), maybe ``bias`` (outputs,) and ``layer_weights`` (layers,) before their softmax.
        settings: ``normalize_audio``: zero mean and unit variance (``normalize_eps`` is added to the variance);
            ``normalize_features``: layer norm on each layer; ``gain``: factor on the waveform.
    """

    def __init__(self, model: nn.Module, head: dict[str, torch.Tensor], settings: dict):
        super().__init__()
        self.model = model
        self.settings = settings
        self.whisper = WhisperStates(model) if model.config.model_type == "whisper" else None
        for name in ("weight", "bias", "layer_weights"):
            self.register_buffer(name, head[name].float() if name in head else None)
        self.eval()

    @classmethod
    def load(cls, folder: str | Path) -> BakedModel:
        """From the folder; nothing is downloaded."""
        from safetensors.torch import load_file
        from transformers import AutoModel
        from transformers.models.whisper.modeling_whisper import WhisperEncoder

        folder = Path(folder)
        settings = json.loads((folder / "head.json").read_text(encoding="utf-8"))
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        kind = WhisperEncoder if config["model_type"] == "whisper" else AutoModel
        if settings.get("resized"):
            model = resized(folder, kind)
        else:
            model = kind.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
        return cls(model, load_file(folder / "head.safetensors"), settings)

    def features(self, wave: torch.Tensor) -> torch.Tensor:
        """(batch, samples) at 16 kHz, all of one length, float32 -> (batch, frames, dim)."""
        if self.settings["normalize_audio"]:
            centred = wave - wave.mean(1, keepdim=True)
            wave = centred / torch.sqrt((centred * centred).mean(1, keepdim=True) + self.settings["normalize_eps"])
        hidden = self.hidden_states(wave)
        if self.layer_weights is None:
            hidden = hidden[-1:]
        if self.settings["normalize_features"]:
            hidden = [F.layer_norm(h, h.shape[-1:]) for h in hidden]
        if self.layer_weights is None:
            return hidden[0]
        return (torch.softmax(self.layer_weights, 0)[:, None, None, None] * torch.stack(hidden)).sum(0)

    def hidden_states(self, wave: torch.Tensor) -> list[torch.Tensor]:
        """(batch, samples) -> [(batch, frames, dim)] * (layers + 1)."""
        if self.whisper is not None:
            return self.whisper(wave)
        output = self.model(wave, output_hidden_states=True)
        # the last one after the encoder's final layer norm, which some models leave out of hidden_states
        return [*output.hidden_states[:-1], output.last_hidden_state]


def resized(folder: Path, kind: type) -> nn.Module:
    """A model whose layers have fewer hidden units or heads than its configuration has a place for, as its file does.

    Args:
        kind: AutoModel, or a class of transformers.
    """
    from safetensors.torch import load_file
    from transformers import AutoConfig, AutoModel

    config, state = AutoConfig.from_pretrained(folder, local_files_only=True), load_file(folder / "model.safetensors")
    model = AutoModel.from_config(config) if kind is AutoModel else kind(config)
    for name, part in list(model.named_modules()):
        if isinstance(part, nn.Linear) and state[f"{name}.weight"].shape != part.weight.shape:
            above, _, last = name.rpartition(".")
            rows, columns = state[f"{name}.weight"].shape
            setattr(model.get_submodule(above), last, nn.Linear(columns, rows, part.bias is not None))
    for part in model.modules():
        if hasattr(part, "head_dim") and hasattr(part, "out_proj"):
            part.embed_dim = part.out_proj.in_features
            part.num_heads = part.embed_dim // part.head_dim
    model.load_state_dict(state)
    return model.float()


class CTC(BakedModel):
    """Log probabilities of tokens, of which the first is the blank."""

    def forward(self, wave: torch.Tensor) -> torch.Tensor:
        """(batch, samples) at 16 kHz, all of one length, float32 -> log probabilities (batch, frames, tokens)."""
        return F.log_softmax(F.linear(self.features(wave), self.weight, self.bias), dim=-1)


class Classifier(BakedModel):
    """Logits of the mean over an utterance; ``settings["classes"]`` names the classes of each slot of a label."""

    def forward(self, wave: torch.Tensor) -> torch.Tensor:
        """(batch, samples) at 16 kHz, all of one length, float32 -> logits (batch, classes of all slots)."""
        samples = wave.size(1)
        stride = 2 * HOP if self.whisper is not None else math.prod(self.model.config.conv_stride)
        wave = F.pad(wave * self.settings["gain"], (0, max(0, PADDED_TO - samples)))
        features = self.features(wave)
        frames = -(-samples // stride)  # as in training: one for each stride of samples; the last one is repeated
        lacking = max(0, frames - features.size(1))
        features = torch.cat((features, features[:, -1:].expand(-1, lacking, -1)), 1)[:, :frames]
        return F.linear(features.mean(1), self.weight, self.bias)

    def label_of(self, logits: torch.Tensor) -> tuple[str, float]:
        """(classes,) -> the most probable label, its slots joined by " ; ", and its probability."""
        parts, names = [], self.settings["classes"]
        for classes, part in zip(names, logits.split([len(classes) for classes in names]), strict=True):
            probability, index = part.softmax(0).max(0)
            parts.append((classes[int(index)], float(probability)))
        return " ; ".join(name for name, _ in parts), math.prod(p for _, p in parts)


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
    if rate != SAMPLE_RATE or wave.ndim != 1:
        channels = 1 if wave.ndim == 1 else wave.shape[1]
        sys.exit(f"{path}: {rate} Hz, {channels} channel(s); bring it to 16 kHz and one channel first")
    return torch.from_numpy(wave)[None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", nargs="+", metavar="WAV", help="16 kHz, one channel")
    recordings = parser.parse_args().recordings
    folder = Path(__file__).parent
    transcribes = (folder / "tokens.txt").is_file()
    model = (CTC if transcribes else Classifier).load(folder)
    for path in recordings:
        with torch.inference_mode():
            outputs = model(read_wave(path))[0]
        if transcribes:
            print(path, text_of(outputs, read_tokens(folder), model.settings["token_type"]))
        else:
            label, probability = model.label_of(outputs)
            print(f"{path}\t{label}\t{probability:.4f}")


if __name__ == "__main__":
    main()
