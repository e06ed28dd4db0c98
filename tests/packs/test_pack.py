"""Packs to files and back, and everything that must be refused."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from s3router.errors import ConfigError, PackError
from s3router.masks import attach, load_masks, masks_of
from s3router.masks.config import MaskConfig
from s3router.packs import MaskPack, read_pack, summary, write_pack
from s3router.packs.adapters import adapted, by_target, resident
from s3router.packs.bits import BitMasks
from s3router.packs.container import kind_of, looks_like_pack, read_container, write_container
from s3router.packs.contents import FORMAT_VERSION
from tests.packs import conftest
from tests.packs.reference_reader import adapted as reference_adapted
from tests.packs.reference_reader import read as reference_read

CODECS = ("bits", "coded", "gaps")


@pytest.fixture(params=CODECS)
def file(request, pack, backbone, tmp_path) -> Path:
    write_pack(tmp_path / "es.pack", pack, request.param, backbone)
    return tmp_path / "es.pack"


def change(pack: MaskPack, **fields) -> MaskPack:
    return dataclasses.replace(pack, **fields)


def change_meta(pack: MaskPack, **fields) -> MaskPack:
    return change(pack, meta=dataclasses.replace(pack.meta, **fields))


def rewrite(path: Path, edit, version: int | None = None) -> None:
    """Edit the description and tensors of a pack, and write it with a right checksum."""
    tensors, description, found, _ = read_container(path, FORMAT_VERSION)
    edit(tensors, description)
    write_container(path, tensors, version or found, description)


@pytest.mark.parametrize("codec", CODECS)
def test_everything_comes_back(pack, backbone, tmp_path, codec, assert_same):
    path = tmp_path / "es.pack"
    assert write_pack(path, pack, codec, backbone) == path.stat().st_size
    assert_same(read_pack(path, backbone), pack)
    first = path.read_bytes()
    write_pack(path, pack, codec, backbone)  # replaces, with the same bytes
    assert path.read_bytes() == first
    assert os.listdir(tmp_path) == ["es.pack"]


def test_a_reader_written_from_the_specification_agrees(file, pack, backbone):
    weights = {name: weight.flatten().tolist() for name, weight in backbone.state_dict().items()}
    description, masks, tensors = reference_read(file, weights)
    assert masks == {name: mask.int().tolist() for name, mask in pack.masks.items()}
    assert description["tokens"] == list(pack.tokens)
    assert tensors["featurizer.weights"][:2] == ("BF16", [3])


def test_any_safetensors_reader_opens_it(file, pack):
    with safe_open(file, "pt") as tensors:
        assert torch.equal(tensors.get_tensor("head.weight"), pack.head["weight"])
        assert torch.equal(tensors.get_tensor("featurizer.weights"), pack.featurizer["weights"])


def test_bits_need_no_backbone_and_coded_ones_do(pack, backbone, tmp_path, assert_same):
    write_pack(tmp_path / "bits", pack)
    assert_same(read_pack(tmp_path / "bits"), pack)
    with pytest.raises(ConfigError, match="needs the backbone"):
        write_pack(tmp_path / "coded", pack, "coded")
    write_pack(tmp_path / "coded", pack, "coded", backbone)
    with pytest.raises(PackError, match="coded relative to their backbone"):
        read_pack(tmp_path / "coded")


@pytest.mark.parametrize("codec", CODECS)
def test_masks_stay_bits_until_they_are_looked_up(pack, backbone, tmp_path, codec):
    write_pack(tmp_path / "p", pack, codec, backbone)
    masks = read_pack(tmp_path / "p", backbone).masks
    for name, mask in pack.masks.items():
        assert masks.bits[name].nbytes == -(-mask.numel() // 8)
        assert masks.removed(name) == int((~mask).sum())
        masks[name].fill_(True)  # a mask of its own
        assert torch.equal(masks[name], mask)
    assert BitMasks.of(masks) is masks
    assert BitMasks.of(pack.masks).digest() == masks.digest()


def test_masks_may_be_attached_to_the_backbone(file, pack, backbone_of, assert_same):
    masked = backbone_of(0)
    attach(masked, MaskConfig(targets=("layers.*",)))
    assert_same(read_pack(file, masked), pack)
    load_masks(masked, pack.masks)
    assert all(torch.equal(mask, pack.masks[name]) for name, mask in masks_of(masked).items())


def test_half_precision_of_the_same_values_is_the_same_backbone(pack, backbone_of, tmp_path, assert_same):
    half = backbone_of(0).half()
    wide = backbone_of(0).half().float()
    from s3router.packs.fingerprint import weights_hash

    pack = change_meta(pack, fingerprint=weights_hash(wide))
    write_pack(tmp_path / "p", pack, "coded", wide)
    assert_same(read_pack(tmp_path / "p", half), pack)


def test_another_backbone_is_refused(file, backbone_of, pack):
    with pytest.raises(PackError, match=f"another backbone.*{pack.meta.fingerprint}"):
        read_pack(file, backbone_of(1))
    with pytest.raises(PackError, match="another backbone"):
        read_pack(file, backbone_of(0), fingerprint="0" * 32)


def test_names_and_shapes_are_held_against_the_backbone(file, pack):
    other = torch.nn.ModuleDict({"layers": torch.nn.ModuleList([torch.nn.Linear(3, 3)])})
    with pytest.raises(PackError, match=r"the backbone has no layers\.0\.fc1\.weight \[27, 13\]"):
        read_pack(file, other, fingerprint=pack.meta.fingerprint)


def test_no_route_is_called_auto(pack, tmp_path):
    with pytest.raises(PackError, match="route 'auto': this name lets the recording choose its route"):
        write_pack(tmp_path / "auto.pack", change(pack, route="auto"))


def test_what_kind_a_file_is_of_is_asked_of_any_content(tmp_path):
    deep = b"[" * 500_000
    (tmp_path / "deep.pack").write_bytes(len(deep).to_bytes(8, "little") + deep)
    assert kind_of(tmp_path / "deep.pack") is None


def test_a_newer_format_is_refused(file, backbone):
    rewrite(file, lambda tensors, description: None, version=3)
    with pytest.raises(PackError, match=r"pack format 3, and this s3router reads up to 2\. Install a newer"):
        read_pack(file, backbone)


def test_every_flipped_bit_is_noticed(file, backbone, tmp_path):
    content = file.read_bytes()
    for place in range(0, len(content), 13):
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        (tmp_path / "damaged").write_bytes(damaged)
        with pytest.raises(PackError):
            read_pack(tmp_path / "damaged", backbone)


@pytest.mark.parametrize("length", [0, 7, 8, 100, 1000, -1])
def test_cut_short(file, backbone, length):
    file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(PackError, match="Copy or download"):
        read_pack(file, backbone)


def test_longer_than_it_says(file, backbone):
    file.write_bytes(file.read_bytes() + b"\0")
    with pytest.raises(PackError):
        read_pack(file, backbone)


def set_mask(**values):
    def edit(tensors, description):
        description["masks"]["layers.0.fc1.weight"].update(values)

    return edit


def drop(name):
    return lambda tensors, description: tensors.pop(name)


def put(name, like):
    def edit(tensors, description):
        tensors[name] = tensors[like]

    return edit


def set_pack(**values):
    return lambda tensors, description: description.update(values)


def set_meta(**values):
    return lambda tensors, description: description["meta"].update(values)


def set_tensor(name, array):
    return lambda tensors, description: tensors.update({name: ("F32", array)})


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (set_mask(removed=1), "not those that were written"),
        (set_mask(removed=-1), "weights removed of 351"),
        (set_mask(removed=True), "weights removed"),
        (set_mask(shape=[13, 27]), "the backbone has no"),
        (set_mask(shape=[1 << 40, 13]), "not that of a matrix"),
        (set_mask(shape=[27]), "not that of a matrix"),
        (set_mask(more=1), "unknown more|coding is not of this format"),
        (drop("head.weight"), "no output layer"),
        (put("masks.other", "head.bias"), "does not belong"),
        (put("head.bias", "head.weight"), r"head\.bias is \[7, 13\]"),
        (put("elsewhere", "head.weight"), "does not belong"),
        (set_pack(tokens=["a", "a"]), "one occurs twice"),
        (set_pack(tokens=["a"]), "1 tokens"),
        (set_pack(tokens=[]), "list of tokens or labels is empty"),
        (set_tensor("featurizer.weights", np.ones((), np.float32)), "not one number per hidden state"),
        (set_meta(metrics={"dev": {"wer": 10**400}}), "values other than numbers"),
        (set_pack(route="../x"), "route '../x'"),
        (set_pack(codec="zip"), "unknown codec 'zip'"),
        (set_pack(meta={}), "meta: lacks"),
        (set_pack(unknown=1), "has unknown"),
        (set_pack(masks={}), "does not belong|more code than masks|bytes or more, and not"),
    ],
)
def test_what_no_writer_makes_is_refused_though_the_checksum_is_right(file, backbone, edit, message):
    rewrite(file, edit)
    with pytest.raises(PackError, match=message):
        read_pack(file, backbone)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"unit": "layer"}, "not of this format"),
        ({"edges": [3, 2], "p": [1, 1, 1]}, "bins are damaged"),
        ({"edges": [1024], "p": [1, 1]}, "bins are damaged"),
        ({"edges": [], "p": [1, 2]}, "bins are damaged"),
        ({"edges": [], "p": [65536]}, "probabilities are damaged"),
        ({"edges": [], "p": [0.5]}, "probabilities are damaged"),
        ({"unit": "row", "edges": [5], "p": [1, 2]}, "probabilities are damaged"),
        ({"edges": [], "p": [30000]}, "damaged"),  # decodes, to something else
    ],
)
def test_settings_of_the_coder_are_checked(pack, backbone, tmp_path, values, message):
    write_pack(tmp_path / "p", pack, "coded", backbone)
    rewrite(tmp_path / "p", set_mask(**values))
    with pytest.raises(PackError, match=message):
        read_pack(tmp_path / "p", backbone)


def test_numbers_that_are_none(file):
    text = file.read_bytes()
    for old, new in ((b'\\"seed\\":0', b'\\"seed\\":NaN'), (b'\\"seed\\":0', b'\\"seed\\":1e999')):
        size = int.from_bytes(text[:8], "little")
        header = text[8 : 8 + size].rstrip().replace(old, new)
        changed = len(header).to_bytes(8, "little") + header + text[8 + size :]
        refixed(file, changed)
        with pytest.raises(PackError, match="not a finite number"):
            read_pack(file)


def refixed(path: Path, content: bytes) -> None:
    content = bytearray(content)
    content[37:101] = b"0" * 64
    content[37:101] = hashlib.blake2b(content, digest_size=32).hexdigest().encode()
    path.write_bytes(content)


def add_entry(path: Path, name: str, entry: dict) -> None:
    """One tensor more in the header."""
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = content[8 : 8 + size].rstrip()[:-1] + f',"{name}":{json.dumps(entry)}}}'.encode()
    refixed(path, len(header).to_bytes(8, "little") + header + content[8 + size :])


def test_duplicate_keys_are_refused(file):
    size = int.from_bytes(file.read_bytes()[:8], "little")
    add_entry(file, "head.bias", json.loads(file.read_bytes()[8 : 8 + size])["head.bias"])
    with pytest.raises(PackError, match="a key comes twice"):
        read_pack(file)


def test_an_empty_tensor_with_sides_that_numpy_cannot_have(file):
    add_entry(file, "head.x", {"dtype": "F32", "shape": [0, 1 << 32, 1 << 32], "data_offsets": [0, 0]})
    with pytest.raises(PackError, match="its shape or place is damaged"):
        read_pack(file)


def test_a_learning_rate_that_is_none_is_shown_as_it_is(pack, tmp_path):
    write_pack(tmp_path / "p", change_meta(pack, training={"score_lr": "high"}))
    assert "| high |" in summary.table([summary.figures(tmp_path / "p")])


def test_a_stranger_s_pack_cannot_command_the_terminal(pack, tmp_path):
    meta = {"corpus": "a\x1b[2Jb", "metrics": {"t\r\n": {"wer": 0.5}}}
    write_pack(tmp_path / "p", change(change_meta(pack, **meta), tokens=("\x9b", *pack.tokens[1:])))
    found = summary.figures(tmp_path / "p")
    text = summary.page(found) + summary.table([found])
    assert "a\\x1b[2Jb" in text
    assert all(c.isprintable() or c == "\n" for c in text)
    rewrite(tmp_path / "p", lambda tensors, description: description["masks"].update({"\x1b[2J": {}}))
    with pytest.raises(PackError) as refused:
        read_pack(tmp_path / "p")
    assert str(refused.value).isprintable()


def test_other_files_and_places(tmp_path):
    for path, message in ((tmp_path / "none", "no such pack"), (tmp_path, "not a file|Is a directory")):
        with pytest.raises(PackError, match=message):
            read_pack(path)
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(2)}, tmp_path / "other")
    with pytest.raises(PackError, match="not a mask pack"):
        read_pack(tmp_path / "other")
    os.mkfifo(tmp_path / "pipe.pack")  # into which nobody writes
    with pytest.raises(PackError, match="not a file"):
        read_pack(tmp_path / "pipe.pack")
    assert not looks_like_pack(tmp_path / "pipe.pack")


def test_what_is_half_copied_is_not_read_to_its_end(pack, tmp_path, monkeypatch):
    write_pack(tmp_path / "p", pack)
    content = (tmp_path / "p").read_bytes()
    (tmp_path / "half").write_bytes(content[:-100])
    monkeypatch.setattr("s3router.packs.container._check_sum", None)
    with pytest.raises(PackError, match="cut short: 100 bytes are missing"):
        read_pack(tmp_path / "half")


def test_what_cannot_be_written(pack, backbone, backbone_of, tmp_path):
    path = tmp_path / "p"
    cases = [
        (change(pack, head={"weight": torch.full((7, 2), torch.nan)}), "NaN"),
        (change(pack, head={}), "no output layer"),
        (change(pack, tokens=("a", "b")), "2 tokens"),
        (change(pack, masks={"x": torch.ones(3, dtype=torch.bool)}), "bool matrices"),
        (change(pack, masks={"x": torch.ones(2, 2)}), "bool matrices"),
        (change(pack, head={"weight": torch.ones(7, 2, dtype=torch.int64)}), "torch.int64"),
        (change(pack, route="a/b"), "route 'a/b'"),
        (change(pack, tokens=(*pack.tokens[:-1], "a\nb")), "line break"),
        (change_meta(pack, labels=("yes", "no")), "both a token list and class labels"),
        (change_meta(pack, metrics={"test": {"wer": float("nan")}}), "values other than numbers"),
        (change_meta(pack, fingerprint="abc"), "32 hexadecimal digits"),
        (change_meta(pack, training={"score_lr": float("nan")}), "not written: Out of range float"),
        (change_meta(pack, training={"train_dir": tmp_path}), "not written: .* is not JSON serializable"),
        (change_meta(pack, licence=os.fsdecode(b"\xff")), "not written: 'utf-8' codec can't encode"),
    ]
    for wrong, message in cases:
        with pytest.raises(PackError, match=message):
            write_pack(path, wrong)
    with pytest.raises(PackError, match="another backbone"):
        write_pack(path, pack, "bits", backbone_of(1))
    with pytest.raises(ConfigError, match="unknown pack codec 'zip'"):
        write_pack(path, pack, "zip", backbone)
    assert os.listdir(tmp_path) == []
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        write_pack(tmp_path / "file" / "es.pack", pack)
    assert os.listdir(tmp_path) == ["file"]
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path / "pipe", tmp_path):
        with pytest.raises(PackError, match="not a file"):
            write_pack(place, pack)
    assert (tmp_path / "pipe").is_fifo()


def test_a_pack_for_classification_and_one_without_masks(pack, tmp_path, assert_same):
    labels = change_meta(pack, labels=("yes", "no"))
    for other in (
        change(labels, tokens=None, head={"weight": torch.ones(2, 13)}, bpe_model=None),
        change(pack, masks={}, delta={}, featurizer={}, bpe_model=None),
    ):
        write_pack(tmp_path / "p", other)
        assert_same(read_pack(tmp_path / "p"), other)


def test_reading_packs_imports_neither_engine(pack, tmp_path):
    write_pack(file := tmp_path / "es.pack", pack)
    code = "import sys; from s3router.packs import summary"
    code += f"; print(summary.page(summary.figures({str(file)!r})))"
    code += "; sys.exit(bool(set(sys.modules) & {'espnet2', 's3prl', 'transformers'}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "route es" in done.stdout


@pytest.fixture(params=conftest.ADAPTERS)
def adapter_pack(request, pack, backbone) -> MaskPack:
    """Of each method, beside masks."""
    return conftest.with_adapter(pack, backbone, request.param)


@pytest.mark.parametrize("codec", CODECS)
def test_adapters_come_back(adapter_pack, backbone, tmp_path, codec, assert_same):
    path = tmp_path / "es.pack"
    write_pack(path, adapter_pack, codec, backbone)
    assert_same(read_pack(path, backbone), adapter_pack)
    assert read_container(path, FORMAT_VERSION)[2] == 2
    if codec == "bits":
        write_pack(tmp_path / "other", adapter_pack)
        assert (tmp_path / "other").read_bytes() == path.read_bytes()
        assert_same(read_pack(path), adapter_pack)


def test_a_reader_of_masks_alone_refuses_adapters(adapter_pack, tmp_path):
    """An older s3router reads up to format 1, and must not serve the backbone without the adapter."""
    write_pack(tmp_path / "es.pack", adapter_pack)
    with pytest.raises(PackError, match=r"pack format 2, and this s3router reads up to 1\. Install a newer"):
        read_container(tmp_path / "es.pack", 1)


def test_packs_without_adapters_have_the_bytes_that_they_had(pack, tmp_path):
    """Written by s3router before there were adapters."""
    keep = {"a.weight": torch.arange(35).reshape(5, 7) % 3 > 0}
    meta = dataclasses.replace(pack.meta, fingerprint="0" * 32, versions={"s3router": "0"})
    head = {"weight": torch.arange(7.0)[:, None] / 8}
    same = MaskPack("es", keep, {"a.bias": torch.arange(5.0)}, {}, head, pack.tokens, meta)
    write_pack(tmp_path / "p", same)
    assert hashlib.blake2b((tmp_path / "p").read_bytes(), digest_size=8).hexdigest() == "4a9ec48f752d2822"


@pytest.mark.parametrize("method", [method for method in conftest.ADAPTERS if method != "houlsby"])
def test_the_specified_reader_adapts_weights_alike(pack, backbone, tmp_path, method):
    found = conftest.with_adapter(pack, backbone, method)
    write_pack(tmp_path / "p", found)
    description, _, tensors = reference_read(tmp_path / "p")
    for name, parts in by_target(found.adapter, found.meta.adapter).items():
        weight = backbone.state_dict()[name]
        ours = adapted(found.meta.adapter, weight, resident(found.meta.adapter, name, weight.shape, parts))
        theirs = torch.tensor(reference_adapted(description, tensors, name, weight.tolist()))
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
        assert not torch.allclose(ours, weight, atol=1e-2)


def test_adapters_for_another_backbone_are_refused(adapter_pack, backbone_of, tmp_path):
    write_pack(tmp_path / "p", adapter_pack)
    with pytest.raises(PackError, match="another backbone"):
        read_pack(tmp_path / "p", backbone_of(1))
    with pytest.raises(PackError, match="another backbone"):
        write_pack(tmp_path / "q", adapter_pack, "bits", backbone_of(1))
    wider = conftest.Backbone(width=14)
    with pytest.raises(PackError, match=r"p: .*(should be|no linear layer|the backbone has no)"):
        read_pack(tmp_path / "p", wider, fingerprint=adapter_pack.meta.fingerprint)
    bare = dataclasses.replace(adapter_pack, masks={}, delta={})
    write_pack(tmp_path / "p", bare)
    if bare.meta.adapter["method"] == "sparse_delta":
        wider = conftest.Backbone(width=1)  # fewer weights than values
    with pytest.raises(PackError, match=r"p: adapter .*(should be|27 values for 3 weights)"):
        read_pack(tmp_path / "p", wider, fingerprint=adapter_pack.meta.fingerprint)


FIRST = "layers.0.fc1.weight"


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (set_meta(adapter={}), "its content is of format 1, and it says 2"),
        (set_meta(adapter={"method": "magic"}), "unknown method 'magic' \\(known: lora"),
        (set_meta(adapter={"method": "lora"}), "has the settings scale"),
        (set_meta(adapter={"method": "lora", "scale": "2"}), "scale 2 is no finite number"),
        (set_meta(adapter={"method": "houlsby"}), "no tensors of the name"),
        (set_meta(adapter=[]), "adapter: expected a mapping"),
        (lambda tensors, description: description["meta"].pop("adapter"), "meta: lacks \\['adapter'\\]"),
        (drop(f"adapter.{FIRST}.lora_A"), f"adapter lora of {FIRST}: lora_A is missing"),
        (put(f"adapter.{FIRST}.x", "head.bias"), "no tensors of the name"),
        (put("adapter.x.lora_A", "head.weight"), "lora_B is missing"),
        (put("adapter", "head.weight"), "does not belong"),
        (put("adapter.", "head.weight"), "does not belong"),
        (set_tensor(f"adapter.{FIRST}.lora_A", np.ones((3, 13), np.float32)), "should be \\[27, 3\\]"),
        (set_tensor(f"adapter.{FIRST}.lora_A", np.ones((2, 12), np.float32)), "should be \\[2, 13\\]"),
        (set_tensor(f"adapter.{FIRST}.lora_A", np.full((2, 13), np.nan, np.float32)), "lora_A holds NaN"),
        (lambda t, _: t.update({f"adapter.{FIRST}.lora_A": ("U8", np.ones((2, 13), np.uint8))}), "does not belong"),
    ],
)
def test_adapters_that_no_writer_makes_are_refused(pack, backbone, tmp_path, edit, message):
    path = tmp_path / "es.pack"
    write_pack(path, conftest.with_adapter(pack, backbone, "lora"))
    rewrite(path, edit, version=2)
    with pytest.raises(PackError, match=message):
        read_pack(path, backbone)


def test_an_adapter_in_a_file_of_the_first_format_is_refused(adapter_pack, tmp_path):
    path = tmp_path / "es.pack"
    write_pack(path, adapter_pack)
    rewrite(path, lambda tensors, description: None, version=1)
    with pytest.raises(PackError, match="has unknown \\['adapter'\\]"):
        read_pack(path)
    write_pack(path, adapter_pack)
    rewrite(path, lambda tensors, description: description["meta"].pop("adapter"), version=1)
    with pytest.raises(PackError, match=r"tensor 'adapter\..*does not belong"):
        read_pack(path)


def test_adapters_that_cannot_be_written(pack, backbone, tmp_path):
    good = conftest.with_adapter(pack, backbone, "lora")
    name = f"{FIRST}.lora_A"
    for wrong, message in (
        (change(good, adapter={}), "it has no tensors"),
        (change(pack, adapter=good.adapter), "no method"),
        (change_meta(good, adapter={"method": "lora", "scale": float("nan")}), "scale nan is no finite number"),
        (change(good, adapter=good.adapter | {name: good.adapter[name] * torch.inf}), "lora_A holds NaN or infinite"),
        (change(good, adapter=good.adapter | {name: good.adapter[name].double()}), "torch.float64"),
        (change(good, adapter=good.adapter | {name: good.adapter[name][:, 1:]}), r"should be \[2, 13\]"),
    ):
        with pytest.raises(PackError, match=message):
            write_pack(tmp_path / "p", wrong, "bits", backbone)
    assert os.listdir(tmp_path) == []


def test_the_page_and_the_table_say_the_method_and_its_bytes(adapter_pack, pack, tmp_path):
    write_pack(tmp_path / "a", change(adapter_pack, masks={}))
    write_pack(tmp_path / "b", change_meta(pack, training={"method": "router"}))
    a, b = (summary.figures(tmp_path / name) for name in "ab")
    size = sum(tensor.nbytes for tensor in adapter_pack.adapter.values())
    assert a["bytes"]["adapter"] == size
    assert sum(a["bytes"].values()) == (tmp_path / "a").stat().st_size
    assert a["adapter"].items() >= adapter_pack.meta.adapter.items()
    assert a["format_version"] == 2
    page = summary.page(a)
    assert f"adapter      {adapter_pack.meta.adapter['method']}" in page
    assert f", {size:,} bytes" in page
    assert "adapter" not in summary.page(b)
    assert b["adapter"] == {}
    rows = summary.table([a, b]).splitlines()
    assert rows[2].startswith(f"| a | es | {adapter_pack.meta.adapter['method']} | bits | ")
    assert rows[3].startswith("| b | es | router | bits | 0.100 | ")
    assert f" | 54 | {size:,} | " in rows[2]
    assert " | 54 | 0 | " in rows[3]
    json.dumps([a, b])
