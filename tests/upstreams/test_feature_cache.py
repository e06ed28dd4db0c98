from __future__ import annotations

import copy
import fcntl
import multiprocessing
import os
import shutil
import signal
import time

import pytest
import torch

from s3router.errors import CheckpointError, ConfigError
from s3router.upstreams.feature_cache import _RECORD_BYTES, FeatureCache

CHANNELS = 6


def key(number: int) -> bytes:
    return number.to_bytes(16, "big")


def features(number: int, frames: int = 5) -> torch.Tensor:
    """Features that tell which utterance they belong to."""
    return (number + torch.arange(frames * CHANNELS).view(frames, CHANNELS) / 64).to(torch.bfloat16)


def check(cache: FeatureCache, numbers) -> None:
    for number in numbers:
        found = cache.get(key(number))
        assert found is not None, number
        assert torch.equal(found, features(number, len(found))), number


def test_what_goes_in_comes_out(tmp_path):
    cache = FeatureCache(tmp_path / "a" / "b", CHANNELS)
    cache.add({key(1): features(1), key(2): features(2, 9).float()})
    cache.add({key(3): features(3, 1)})
    assert len(cache) == 3
    assert key(4) not in cache
    assert cache.get(key(4)) is None
    assert cache.data_bytes == (5 + 9 + 1) * CHANNELS * 2 == os.path.getsize(cache.folder / "features.bf16")
    for reader in (cache, FeatureCache(cache.folder, CHANNELS), copy.deepcopy(cache)):
        check(reader, (1, 2, 3))
        assert reader.get(key(2)).shape == (9, CHANNELS)


def test_a_reader_sees_what_others_add(tmp_path):
    reader, writer = FeatureCache(tmp_path, CHANNELS), FeatureCache(tmp_path, CHANNELS)
    for number in range(4):
        writer.add({key(number): features(number)})
        check(reader, range(number + 1))
    reader.add({key(2): features(2), key(9): features(9)})  # 2 is there already
    assert writer.data_bytes < reader.data_bytes == os.path.getsize(tmp_path / "features.bf16")
    check(writer, (0, 1, 2, 3, 9))


def _write(folder, numbers) -> None:
    cache = FeatureCache(folder, CHANNELS)
    for number in numbers:
        cache.add(
            {key(number): features(number, 1 + number % 7), key(number + 1): features(number + 1, 1 + (number + 1) % 7)}
        )


def test_processes_that_write_the_same_store(tmp_path):
    """Forked writers with overlapping keys, in different orders: each utterance is stored once, and whole."""
    FeatureCache(tmp_path, CHANNELS)
    context = multiprocessing.get_context("fork")
    orders = [list(range(60)), list(range(59, -1, -1)), list(range(30, 90)), list(range(0, 90, 2))]
    writers = [context.Process(target=_write, args=(tmp_path, order)) for order in orders]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    cache = FeatureCache(tmp_path, CHANNELS)
    assert len(cache) == 91
    check(cache, range(91))
    assert os.path.getsize(tmp_path / "index.bin") == 91 * _RECORD_BYTES
    assert cache.data_bytes == sum(1 + n % 7 for n in range(91)) * CHANNELS * 2


def _die_writing(folder, after) -> None:
    """Add two utterances, but kill -9 oneself when ``after`` bytes are written."""
    real, written = os.pwrite, 0

    def dying(descriptor, data, offset):
        nonlocal written
        if written + len(data) > after:
            real(descriptor, data[: after - written], offset)
            os.kill(os.getpid(), signal.SIGKILL)
        written += len(data)
        return real(descriptor, data, offset)

    os.pwrite = dying
    FeatureCache(folder, CHANNELS).add({key(7): features(7), key(8): features(8)})


@pytest.mark.parametrize("after", [0, 50, 120, 130, 120 + _RECORD_BYTES + 3])
def test_a_crash_in_mid_write_leaves_a_readable_store(tmp_path, after):
    """kill -9 after that many bytes: in the data (120 bytes), between data and index, in the second record."""
    FeatureCache(tmp_path, CHANNELS).add({key(1): features(1)})
    reader = FeatureCache(tmp_path, CHANNELS)
    writer = multiprocessing.get_context("fork").Process(target=_die_writing, args=(tmp_path, after))
    writer.start()
    writer.join(60)
    assert writer.exitcode == -signal.SIGKILL
    whole = max(0, (after - 120) // _RECORD_BYTES)
    for cache in (reader, FeatureCache(tmp_path, CHANNELS)):
        assert (key(7) in cache, key(8) in cache) == (whole > 0, whole > 1)
        check(cache, (1,))
        cache.add({key(20 + whole): features(20 + whole)})
    check(FeatureCache(tmp_path, CHANNELS), (1, 20 + whole))
    check(reader, (1, 20 + whole))


def test_damaged_data_are_computed_anew(tmp_path, caplog):
    writer = FeatureCache(tmp_path, CHANNELS)
    writer.add({key(1): features(1), key(2): features(2)})
    with open(tmp_path / "features.bf16", "r+b") as stream:
        stream.seek(3)
        stream.write(b"\xff\xff")
    cache = FeatureCache(tmp_path, CHANNELS)
    assert cache.get(key(1)) is None
    assert "damaged data" in caplog.text
    check(cache, (2,))
    cache.add({key(1): features(1)})
    check(cache, (1, 2))
    check(FeatureCache(tmp_path, CHANNELS), (1, 2))


def test_what_was_cut_short_is_stored_anew(tmp_path, caplog):
    """As after a copy of the folder that was broken off."""
    FeatureCache(tmp_path, CHANNELS).add({key(n): features(n) for n in range(3)})
    os.truncate(tmp_path / "features.bf16", 5 * CHANNELS * 2 + 7)
    cache = FeatureCache(tmp_path, CHANNELS)
    check(cache, (0,))
    assert [cache.get(key(n)) for n in (1, 2)] == [None, None]
    cache.add({key(n): features(n) for n in range(3)})
    assert "features.bf16 was cut short" in caplog.text
    for reader in (cache, FeatureCache(tmp_path, CHANNELS)):
        check(reader, range(3))


def test_a_folder_that_was_taken_away_is_no_error(tmp_path):
    cache = FeatureCache(tmp_path / "a", CHANNELS)
    cache.add({key(1): features(1)})
    shutil.rmtree(tmp_path / "a")
    assert cache.get(key(2)) is None


def test_a_damaged_record_is_left_out(tmp_path, caplog):
    FeatureCache(tmp_path, CHANNELS).add({key(n): features(n) for n in range(3)})
    with open(tmp_path / "index.bin", "r+b") as stream:
        stream.seek(_RECORD_BYTES + 5)
        stream.write(b"\xff")
    cache = FeatureCache(tmp_path, CHANNELS)
    assert "damaged record" in caplog.text
    assert key(1) not in cache
    check(cache, (0, 2))


def test_the_size_limit(tmp_path, caplog):
    size = features(0).numel() * 2
    cache = FeatureCache(tmp_path, CHANNELS, max_bytes=3 * size)
    for number in range(6):
        cache.add({key(number): features(number)})
    assert cache.full
    assert len(cache) == 3
    assert os.path.getsize(tmp_path / "features.bf16") == 3 * size
    check(cache, range(3))
    assert caplog.text.count("is reached; the 3 utterances in it are used") == 1  # said once
    larger = FeatureCache(tmp_path, CHANNELS, max_bytes=4 * size)
    larger.add({key(5): features(5)})
    check(larger, (0, 1, 2, 5))


def test_a_full_disk_stops_storing_but_not_training(tmp_path, monkeypatch, caplog):
    cache = FeatureCache(tmp_path, CHANNELS)
    cache.add({key(1): features(1)})

    def no_room(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", no_room)
    cache.add({key(2): features(2)})
    cache.add({key(3): features(3)})
    assert caplog.text.count("No space left") == 1
    check(cache, (1,))


def test_folders_that_cannot_be_used(tmp_path):
    FeatureCache(tmp_path / "store", CHANNELS)
    with pytest.raises(CheckpointError, match=r"expected .*'channels': 7.*found .*'channels': 6"):
        FeatureCache(tmp_path / "store", 7)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="can be written to"):
        FeatureCache(tmp_path / "file" / "store", CHANNELS)


def test_a_damaged_description_says_what_to_do(tmp_path):
    FeatureCache(tmp_path, 4)
    (tmp_path / "meta.json").write_text("")
    with pytest.raises(CheckpointError, match=r"found no JSON in meta\.json\. Delete the folder"):
        FeatureCache(tmp_path, 4)


def test_a_writer_waits_for_the_lock(tmp_path):
    cache = FeatureCache(tmp_path, CHANNELS)
    context = multiprocessing.get_context("fork")
    writer = context.Process(target=_write, args=(tmp_path, [1]))
    with open(tmp_path / "lock", "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        writer.start()
        time.sleep(0.2)
        assert key(1) not in cache
        fcntl.flock(lock, fcntl.LOCK_UN)
    writer.join(60)
    assert writer.exitcode == 0
    check(cache, (1, 2))
