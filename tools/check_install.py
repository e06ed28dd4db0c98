#!/usr/bin/env python3
"""Check what tools/setup.sh installed: one real, tiny operation for each engine, each in a process of its own.

A package that is there but does not work (a missing library, a binary for another processor, two versions that do
not fit) is found here, by name, and not an hour later in a training run. Starting it needs the standard library only.
"""

from __future__ import annotations

import argparse
import csv
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from multiprocessing.pool import ThreadPool
from pathlib import Path

PYTHONS = ((3, 12), (3, 13))
TIMEOUT_SECONDS = 1200  # against a hang; a cold disk or a busy machine may take minutes


def torch_bf16() -> str:
    import torch

    a = torch.arange(16.0).reshape(4, 4).bfloat16()
    if not torch.equal((a @ torch.eye(4).bfloat16()), a):
        raise RuntimeError("bfloat16 matrix product gives wrong values")
    return f"bfloat16 product, {torch.get_num_threads()} threads, {torch.cuda.device_count()} GPUs"


def torchaudio_resample() -> str:
    import torch
    import torchaudio

    out = torchaudio.functional.resample(torch.zeros(1, 8000), 8000, 16000)
    if out.shape != (1, 16000):
        raise RuntimeError(f"8 kHz to 16 kHz of 8000 samples gave {tuple(out.shape)}")
    return "8 kHz to 16 kHz"


def espnet_asr() -> str:
    import torch

    from s3router.asr.train import routed_task

    task = routed_task()  # ESPnet as we use it: its own import is slow, and looks for downloads that nobody needs
    from espnet2.asr.ctc import CTC

    loss = CTC(odim=5, encoder_output_size=4)(
        torch.randn(1, 9, 4), torch.tensor([9]), torch.tensor([[1, 2]]), torch.tensor([2])
    )
    if not torch.isfinite(loss):
        raise RuntimeError("a CTC loss is not finite")
    return f"{task.__mro__[1].__name__} as {task.__name__}, CTC loss"


def s3prl_hub() -> str:
    from s3prl.nn import S3PRLUpstream

    names = S3PRLUpstream.available_names()
    if "hf_hubert_custom" not in names:
        raise RuntimeError("the s3prl hub does not know hf_hubert_custom")
    return f"{len(names)} upstreams in the hub"


def transformers_hubert() -> str:
    import torch
    from transformers import HubertConfig, HubertModel

    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    convolutions = {"conv_dim": (4, 4), "conv_kernel": (10, 3), "conv_stride": (5, 2), "num_feat_extract_layers": 2}
    positions = {"num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2}
    config = HubertConfig(**sizes, **convolutions, **positions, feat_extract_norm="layer", do_stable_layer_norm=True)
    with torch.no_grad():
        out = HubertModel(config).eval()(torch.zeros(1, 800)).last_hidden_state
    return f"HubertModel forward, {tuple(out.shape)}"


def safetensors_round_trip() -> str:
    import torch
    from safetensors.torch import load, save

    if not torch.equal(load(save({"x": torch.ones(3)}))["x"], torch.ones(3)):
        raise RuntimeError("a tensor came back changed")
    return "write and read"


def constriction_round_trip() -> str:
    import numpy as np
    from constriction import stream

    bits = np.array([0, 1, 0, 0, 1], np.int32)
    encoder = stream.queue.RangeEncoder()
    encoder.encode(bits, stream.model.Bernoulli(0.25, perfect=False))
    decoder = stream.queue.RangeDecoder(encoder.get_compressed())
    if not np.array_equal(decoder.decode(stream.model.Bernoulli(0.25, perfect=False), len(bits)), bits):
        raise RuntimeError("five bits came back changed")
    return "range coding and back"


def soundfile_flac() -> str:
    import io

    import numpy as np
    import soundfile

    buffer = io.BytesIO()
    soundfile.write(buffer, np.zeros(160, np.int16), 16000, format="FLAC")
    buffer.seek(0)
    if soundfile.read(buffer)[0].shape != (160,):
        raise RuntimeError("160 samples of FLAC did not come back")
    return f"FLAC, libsndfile {soundfile.__libsndfile_version__}"


def av_g722() -> str:
    import av
    import numpy as np

    encoder = av.CodecContext.create("g722", "w")
    encoder.sample_rate, encoder.layout, encoder.format = 16000, "mono", "s16"
    frame = av.AudioFrame.from_ndarray(np.zeros((1, 320), np.int16), format="s16", layout="mono")
    frame.sample_rate = 16000
    decoder = av.CodecContext.create("g722", "r")
    decoder.layout = "mono"
    packets = [*encoder.encode(frame), *encoder.encode(None)]
    samples = sum(out.samples for packet in packets for out in decoder.decode(packet))
    if samples != 320:
        raise RuntimeError(f"320 samples of G.722 came back as {samples}")
    return "G.722 encode and decode"


def kaldiio_ark() -> str:
    import io

    import kaldiio
    import numpy as np

    buffer = io.BytesIO()
    kaldiio.save_ark(buffer, {"a": np.ones((2, 3), np.float32)})
    buffer.seek(0)
    if dict(kaldiio.load_ark(buffer))["a"].shape != (2, 3):
        raise RuntimeError("a matrix did not come back from an ark")
    return "ark write and read"


def h5py_round_trip() -> str:
    import io

    import h5py
    import numpy as np

    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file["x"] = np.arange(3)
    with h5py.File(buffer, "r") as file:
        if file["x"][:].tolist() != [0, 1, 2]:
            raise RuntimeError("three numbers did not come back")
    return f"write and read, HDF5 {h5py.version.hdf5_version}"


def peft_layer() -> str:
    import peft
    import torch

    model = torch.nn.Sequential(torch.nn.Linear(4, 4))
    adapted = peft.get_peft_model(model, peft.IA3Config(target_modules=["0"], feedforward_modules=[]))
    if adapted(torch.ones(1, 4)).shape != (1, 4):
        raise RuntimeError("an adapted layer gives another shape")
    return "IA3 on a linear layer"


def jiwer_wer() -> str:
    import jiwer

    if jiwer.wer("a b c d", "a x c d") != 0.25:
        raise RuntimeError("one wrong word of four is not 0.25")
    return "word error rate"


def num2words_russian() -> str:
    from num2words import num2words

    return f"2 in Russian: {num2words(2, lang='ru')}"


def espeak_phonemes() -> str:
    from s3router.data.espeak import phonemize, version

    return f"espeak-ng {version()}: ja in Dutch is {phonemize('ja', 'nl')}"


def submitit_job() -> str:
    import tempfile

    import submitit

    with tempfile.TemporaryDirectory() as folder:
        executor = submitit.AutoExecutor(folder, cluster="debug")
        if executor.submit(sum, [1, 2]).result() != 3:
            raise RuntimeError("a job that adds 1 and 2 did not give 3")
    return "a job in this process"


def flashlight_kenlm() -> str:
    from flashlight.lib.text.decoder import LexiconFreeDecoder
    from flashlight.lib.text.decoder.kenlm import KenLM

    return f"{LexiconFreeDecoder.__name__}, {KenLM.__name__}"


def onnxruntime_relu() -> str:
    import numpy as np
    import onnx
    import onnxruntime

    value = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [2]) for name in "xy"]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "relu", value[:1], value[1:])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    if session.run(None, {"x": np.array([-1, 2], np.float32)})[0].tolist() != [0, 2]:
        raise RuntimeError("relu of -1 and 2 is not 0 and 2")
    return "a graph of one node"


def fastapi_application() -> str:
    import fastapi
    import prometheus_client
    import python_multipart
    import uvicorn

    app = fastapi.FastAPI()

    @app.post("/")
    def answer(text: str = fastapi.Form()) -> str:  # a form, which needs python-multipart
        return text

    config = uvicorn.Config(app)
    config.load()
    return f"a form, on uvicorn {uvicorn.__version__}, {prometheus_client.__name__}, {python_multipart.__name__}"


def datasets_table() -> str:
    import datasets

    table = datasets.Dataset.from_dict({"text": ["a", "b"]}).filter(lambda row: row["text"] == "b")
    if table["text"][:] != ["b"]:
        raise RuntimeError("a table of two rows is filtered wrongly")
    return "a table, filtered"


def lhotse_supervision() -> str:
    from lhotse import SupervisionSegment

    segment = SupervisionSegment("a", "a", 0.0, 1.0, text="one")
    if SupervisionSegment.from_dict(segment.to_dict()) != segment:
        raise RuntimeError("a supervision does not survive a round trip")
    return "a supervision as a dictionary, and back"


CHECKS: dict[str, Callable[[], str]] = {
    "torch": torch_bf16,
    "torchaudio": torchaudio_resample,
    "transformers": transformers_hubert,
    "safetensors": safetensors_round_trip,
    "constriction": constriction_round_trip,
    "s3prl": s3prl_hub,
    "espnet": espnet_asr,
    "soundfile": soundfile_flac,
    "av": av_g722,
    "kaldiio": kaldiio_ark,
    "h5py": h5py_round_trip,
    "peft": peft_layer,
    "jiwer": jiwer_wer,
    "num2words": num2words_russian,
    "submitit": submitit_job,
    "espeakng-loader": espeak_phonemes,
}
LM_CHECKS = {"flashlight-text": flashlight_kenlm}
ONNX_CHECKS = {"onnxruntime": onnxruntime_relu}
SERVE_CHECKS = {"fastapi": fastapi_application}
DATA_CHECKS = {"datasets": datasets_table, "lhotse": lhotse_supervision}
OPTIONAL = {"lm": LM_CHECKS, "onnx": ONNX_CHECKS, "serve": SERVE_CHECKS, "data": DATA_CHECKS}
EVERY = {**CHECKS, **LM_CHECKS, **ONNX_CHECKS, **SERVE_CHECKS, **DATA_CHECKS}
DISTRIBUTIONS = {"s3prl": "espnet-s3prl"}  # where the check is not named as the package


def read_pins(path: Path) -> dict[str, str]:
    """name -> exact version, from lines ``name==version``; comments are skipped."""
    pins = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        line = line.split("#")[0].strip()
        if not line:
            continue
        match = re.fullmatch(r"([A-Za-z0-9._-]+)==([^\s;]+)(?:\s*;.*)?", line)
        if not match:
            raise ValueError(f"{path}:{number}: expected name==version, found {line!r}")
        pins[match[1]] = match[2]
    return pins


def packages_of(extra: str) -> list[str]:
    """What an extra brings, its own requirements included."""
    path = Path(__file__).with_name(f"requirements-{extra}.txt")
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]


def wrong_versions(pins: dict[str, str], optional: set[str]) -> list[str]:
    """One line for every pinned distribution that is absent or has another version (local parts such as +cpu aside)."""
    problems = []
    for name, wanted in pins.items():
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            if name not in optional:
                problems.append(f"{name} is missing (pinned: {wanted})")
            continue
        if found.split("+")[0] != wanted:
            problems.append(f"{name} is {found} (pinned: {wanted})")
    return problems


def damaged() -> dict[str, Path]:
    """name -> metadata folder of distributions of which a file is missing, as an interrupted pip leaves them."""
    found, packages = {}, Path(sysconfig.get_path("purelib"))
    for folder in packages.glob("*.dist-info"):
        record = folder / "RECORD"
        rows = csv.reader(record.read_text(encoding="utf-8").splitlines()) if record.is_file() else ()
        files = [row[0] for row in rows if row and not row[0].endswith(".pyc")]
        if not files or not all((packages / file).exists() for file in files):
            found[folder.name.removesuffix(".dist-info")] = folder
    return found


def unmet() -> list[str]:
    """One line for each requirement of a package that another does not meet, by their metadata (``pip check``)."""
    done = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True, check=False)
    return [] if done.returncode == 0 else (done.stdout + done.stderr).strip().splitlines()


def run_check(name: str) -> tuple[bool, str]:
    """Run one check in a process of its own: (it works, its last line of output)."""
    command = [sys.executable, __file__, "--one", name]
    paths = [str(Path(__file__).resolve().parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}  # s3router of this clone, installed or not
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False, env=environment
        )
    except subprocess.TimeoutExpired:
        return False, f"no answer within {TIMEOUT_SECONDS} s"
    lines = (done.stdout if done.returncode == 0 else done.stdout + done.stderr).strip().splitlines()
    reason = lines[-1] if lines else "no output"
    return done.returncode == 0, reason if done.returncode >= 0 else f"killed by signal {-done.returncode}: {reason}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--constraints", type=Path, help="compare every version with this file, and run pip check")
    named = {"lm": "n-gram decoder", "onnx": "ONNX runtime", "serve": "HTTP server", "data": "libraries of datasets"}
    for extra, what in named.items():
        parser.add_argument(f"--with-{extra}", action="store_true", help=f"check the {what} too")
    parser.add_argument(
        "--repair", action="store_true", help="forget half-installed packages, so that pip installs them"
    )
    parser.add_argument("--one", choices=EVERY, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(EVERY[args.one]())
        return 0
    if args.repair:
        for name, folder in damaged().items():
            print(f"setup: {name} is only half there: it will be installed again")
            shutil.rmtree(folder)
        return 0

    if sys.version_info[:2] not in PYTHONS:
        found = ".".join(map(str, sys.version_info[:3]))
        print(f"check_install: CPython 3.12 or 3.13 is needed, {sys.executable} is {found}", file=sys.stderr)
        return 1
    wanted = {extra for extra in OPTIONAL if vars(args)[f"with_{extra}"]}
    optional = {package for extra in OPTIONAL.keys() - wanted for package in packages_of(extra)}
    problems = [*wrong_versions(read_pins(args.constraints), optional), *unmet()] if args.constraints else []
    names = [*CHECKS, *(name for extra, checks in OPTIONAL.items() if extra in wanted for name in checks)]
    # two side by side, for most of it is importing; more would need more memory
    for name, (works, detail) in zip(names, ThreadPool(2).imap(run_check, names), strict=True):
        try:
            version = importlib.metadata.version(DISTRIBUTIONS.get(name, name))
        except importlib.metadata.PackageNotFoundError:
            version = "not installed"
        print(f"  {'ok    ' if works else 'BROKEN'} {name} {version}: {detail}", flush=True)
        if not works:
            problems.append(f"{name} does not work: {detail}")
    for problem in problems:
        print(f"check_install: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
