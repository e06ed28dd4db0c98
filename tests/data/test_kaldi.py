from __future__ import annotations

import numpy as np
import pytest

from s3router.data.audio import duration, read_audio, write_audio
from s3router.data.kaldi import DataDir, Utterance
from s3router.data.recordings import find_recordings
from s3router.errors import DataError
from s3router.scoring.files import read_text


def problems(path, **options) -> str:
    with pytest.raises(DataError) as caught:
        DataDir.read(path, **options)
    return str(caught.value)


def test_reads_the_fixture(five):
    data = DataDir.read(five)
    assert [u.utt for u in data.utts] == sorted(u.utt for u in data.utts)
    assert data.utts[2].text == "è in uso"
    assert {u.speaker for u in data.utts} == {"it_carlo"}
    assert data.seconds == pytest.approx(4.51, abs=0.01)


def test_durations_are_measured_where_unknown(five):
    (five / "utt2dur").unlink()
    data = DataDir.read(five)
    with pytest.raises(DataError, match="no duration known for 5 utterances"):
        _ = data.seconds
    assert data.with_durations().seconds == pytest.approx(4.51, abs=0.01)


def test_written_directories_read_back(five, tmp_path):
    data = DataDir.read(five)
    DataDir(five, data.utts[::-1]).write(tmp_path / "out")
    assert DataDir.read(tmp_path / "out").utts == data.utts
    assert (tmp_path / "out/spk2utt").read_text().split() == ["it_carlo", *(u.utt for u in data.utts)]
    assert not list((tmp_path / "out").glob(".*"))


def cut_in_two(five, *segments: str) -> list[Utterance]:
    (five / "segments").write_text("".join(f"{line}\n" for line in segments))
    (five / "text").write_text("seg-a premere zero\nseg-b per l'aiuto\n")
    (five / "utt2spk").unlink()
    (five / "utt2dur").unlink()
    return DataDir.read(five).utts


def test_segments_become_stretches(five):
    recording = DataDir.read(five).utts[0]
    a, b = cut_in_two(five, f"seg-a {recording.utt} 0.0 0.8", f"seg-b {recording.utt} 0.8 1.6")
    assert a == Utterance("seg-a", f"{recording.source}#t=0.00000,0.80000", "premere zero", "seg-a", 0.8)
    assert b.duration == 0.8
    assert DataDir.read(DataDir(five, [a]).write(five).path).utts == [a], "written, they stay stretches"


def test_a_segment_that_ends_at_minus_one_goes_to_the_end_of_its_recording(five):
    recording = DataDir.read(five).utts[0]
    a, b = cut_in_two(five, f"seg-a {recording.utt} 0.4 -1", f"seg-b {recording.utt} 0.6 -1.00")
    seconds = duration(recording.source)
    assert (a.duration, b.duration) == pytest.approx((seconds - 0.4, seconds - 0.6))
    assert len(read_audio(b.source)) == pytest.approx((seconds - 0.6) * 16_000, abs=2)


def test_no_file(tmp_path):
    assert "wav.scp: no such file; a data directory needs wav.scp and text" in problems(tmp_path)
    assert problems(tmp_path, need_text=False).endswith("wav.scp: no such file; a data directory needs wav.scp")


def test_without_transcripts(five):
    (five / "text").unlink()
    assert len(DataDir.read(five, need_text=False).utts) == 5


def test_missing_recording(change):
    message = problems(change("wav.scp", "vm-Cust2.flac", "vm-Cust3.flac"))
    assert "wav.scp: it_carlo-vm-Cust2: the recording" in message
    assert "vm-Cust3.flac is missing; correct the path" in message


def test_missing_archive(five, change):
    source = DataDir.read(five).utts[1].source
    assert "the archive /nowhere/a.ark is missing" in problems(change("wav.scp", source, "/nowhere/a.ark:12"))


def test_a_line_without_a_file(five, change):
    source = DataDir.read(five).utts[1].source
    message = problems(change("wav.scp", f" {source}", ""))
    assert message.count("\n") == 1
    assert "wav.scp:2: it_carlo-digits_tomorrow has no file" in message


def test_one_id_on_two_lines(five):
    line = (five / "wav.scp").read_text().splitlines()[4]
    with open(five / "wav.scp", "a") as file:
        file.write(line + "\n")
    assert "wav.scp:6: it_carlo-vm-goodbye appears on two lines; ids must be unique" in problems(five)


def test_a_transcript_without_audio(five):
    with open(five / "text", "a") as file:
        file.write("zzz ciao\n")
    assert "text: zzz: a transcript without audio (not in wav.scp)" in problems(five)


def test_audio_without_a_transcript(change):
    message = problems(change("text", "it_carlo-digits_tomorrow domani\n", ""))
    assert "wav.scp: it_carlo-digits_tomorrow: audio without a transcript (not in text)" in message


def test_an_empty_transcript(change):
    assert "it_carlo-digits_tomorrow: the transcript is empty" in problems(
        change("text", "tomorrow domani", "tomorrow")
    )


def test_unsorted(change):
    message = problems(change("text", "it_carlo-is-in-use", "it_carlo-a"))
    assert "text:3: not sorted (it_carlo-a after it_carlo-digits_tomorrow); LC_ALL=C sort -o" in message


def test_speakers_that_do_not_match(change):
    message = problems(change("utt2spk", "it_carlo-is-in-use", "it_carlo-is-in-usf"))
    assert "an utterance without a speaker" in message
    assert "a speaker for an utterance without audio" in message


def test_files_of_windows(five):
    """A byte order mark, which is not seen, and line ends of two characters."""
    data = DataDir.read(five)
    for name in ("wav.scp", "text", "utt2spk"):
        content = (five / name).read_bytes().replace(b"\n", b" \r\n")
        (five / name).write_bytes(b"\xef\xbb\xbf" + content)
    assert DataDir.read(five).utts == data.utts
    assert list(read_text(five / "text")) == [u.utt for u in data.utts]
    assert [u.utt for u in find_recordings([five / "wav.scp"])] == [u.utt for u in data.utts]


def test_latin1(five):
    (five / "text").write_bytes((five / "text").read_text().encode("latin1"))
    message = problems(five)
    assert message.startswith(f"{five}: 1 problem:")  # no transcript is missing because of it
    assert f"{five}/text: line 3 is not UTF-8" in message


@pytest.mark.parametrize("value", ["nan", "inf", "-1", "x"])
def test_durations_that_are_none(change, value):
    broken = change("utt2dur", "1.600", value)
    assert f"{value!r} is not a number of seconds" in problems(broken)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("s nobody 0 1", "recording nobody is not in wav.scp"),
        ("s it_carlo-vm-goodbye 1 0.5", "starts at 1.0 s and ends at 0.5 s"),
        ("s it_carlo-vm-goodbye 0 0.5 B", "a channel (B) cannot be chosen here"),
        ("s it_carlo-vm-goodbye 100 -1", "starts at 100.0 s of a recording of"),
        ("s it_carlo-vm-goodbye 1", "expected 'utterance recording start end'"),
    ],
)
def test_broken_segments(five, line, expected):
    (five / "segments").write_text(line + "\n")
    assert expected in problems(five)


def test_all_problems_come_at_once(five, change):
    change("text", "it_carlo-digits_tomorrow domani\n", "")
    change("wav.scp", "vm-Cust2.flac", "vm-Cust3.flac")
    assert problems(five).startswith(f"{five}: 2 problems:")


def test_many_problems_are_counted(five):
    with open(five / "text", "a") as file:
        file.writelines(f"z{i:03d} ciao\n" for i in range(50))
    assert problems(five).endswith("… and 30 more")


def corpus(count: int) -> DataDir:
    return DataDir("corpus", [Utterance(f"u{i:03d}", f"{i}.wav", "a", "s", 1 + i % 7) for i in range(count)])


def test_subsets_are_nested_and_near_what_was_asked():
    data = corpus(300)
    ids = {m: [u.utt for u in data.subset(m).utts] for m in (1, 2, 5, 10)}
    for smaller, larger in ((1, 2), (2, 5), (5, 10)):
        assert set(ids[smaller]) < set(ids[larger])
    for minutes in ids:
        assert abs(data.subset(minutes).seconds - 60 * minutes) <= 3.5  # half of the longest
    assert ids[1][:3] == ["u041", "u060", "u071"], "the choice is part of every published result"
    reordered = DataDir("corpus", data.utts[::-1])
    assert reordered.subset(2).utts == data.subset(2).utts


def test_a_subset_larger_than_the_whole_is_refused():
    with pytest.raises(DataError, match=r"corpus: 50 minutes wanted, it has 1\.92"):
        corpus(30).subset(50)


def test_an_id_twice_is_not_written(tmp_path):
    """What was there before stays."""
    write_audio(tmp_path / "a.wav", np.full(800, 0.1), 16000)
    one = Utterance("a", str(tmp_path / "a.wav"), "x")
    DataDir(tmp_path / "d", [one]).write(tmp_path / "d")
    with pytest.raises(DataError, match=r"d: not written: 1 utterances have an id that another one has, first a"):
        DataDir(tmp_path / "d", [one, one]).write(tmp_path / "d")
    assert [utt.utt for utt in DataDir.read(tmp_path / "d").utts] == ["a"]
