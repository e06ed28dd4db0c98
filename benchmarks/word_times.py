"""Times of words by whisper_base: against transformers' times of tokens, against known pauses, and what they cost.

Recordings: two English sentences by espeak-ng each, with a second of silence before each of them, in a window of 30 s.
transformers (`return_token_timestamps`) normalises the attention over the whole window, where OpenAI's code and ours
do over the frames of the recording, and leaves out the row in which the first token is predicted. So its first token
has no end of its own, and is not compared. On a busy machine only processor time means something.

    python benchmarks/word_times.py --threads 1
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time

from common import add_common, settle, write

SENTENCES = (
    "The mountains are cold tomorrow.",
    "We have three new messages in the evening.",
    "Please call back at seven.",
    "Nobody knows where the old river begins.",
    "The next train leaves in ten minutes from platform two.",
    "Somebody left an umbrella on the table.",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_common(parser, "word_times", dtype=False)
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    settle(args)

    from s3router.upstreams.whisper_recogniser import load_recogniser

    recogniser = load_recogniser("whisper_base")
    named = recogniser.model.generation_config.alignment_heads
    recordings = [recording(*pair) for pair in itertools.pairwise(SENTENCES)]
    rows = {}
    for heads, given in (("named", named), ("upper half", [[n, h] for n in range(3, 6) for h in range(8)])):
        recogniser.model.generation_config.alignment_heads = given
        rows[heads] = compared(recogniser, recordings)
    recogniser.model.generation_config.alignment_heads = named
    seconds = {timed: [] for timed in (False, True)}
    for _ in range(args.runs):
        for wave, _ in recordings:
            for timed in seconds:
                started = time.process_time()
                heard(recogniser, wave, timed)
                seconds[timed].append(time.process_time() - started)
    plain, timed = (statistics.median(seconds[timed]) for timed in (False, True))
    write(args, {"heads": rows, "seconds": seconds}, table(rows, plain, timed))


def recording(*sentences: str):
    """Samples at 16 kHz, and where each sentence begins in them, in seconds."""
    import numpy as np

    from s3router.data.audio import SAMPLE_RATE, resample
    from s3router.data.espeak import synthesize

    parts, begins = [], []
    for sentence in sentences:
        samples, rate = synthesize(sentence, "en-us")
        speech = np.trim_zeros(resample(np.asarray(samples, np.float32), rate, SAMPLE_RATE))
        parts.append(np.zeros(SAMPLE_RATE, np.float32))
        begins.append(sum(map(len, parts)) / SAMPLE_RATE)
        parts.append(speech)
    return np.concatenate(parts), begins


def heard(recogniser, wave, timed: bool = True):
    """What is heard, and its words where they are wanted."""
    import torch

    from s3router.seq2seq.decode import Listening

    how, samples = Listening("en", 6.0, window_step=30.0), torch.from_numpy(wave)
    (found,) = how.transcribe(recogniser, [samples], timed)
    return found, how.words(recogniser, samples, found) if timed else None


def compared(recogniser, recordings) -> dict[str, list[float]]:
    """Differences in seconds: of tokens' ends from transformers', and of sentences' first words from the truth."""
    ends, begins = [], []
    for wave, truth in recordings:
        found, words = heard(recogniser, wave)
        theirs = by_transformers(recogniser, wave)
        assert theirs[0][: len(found.tokens)] == found.tokens, "transformers hears another text"
        pairs = zip(theirs[1], found.times[1:], strict=False)
        ends += [abs(a - b) for a, b in itertools.islice(pairs, 1, len(found.tokens))]
        first = [words[0], next(word for before, word in itertools.pairwise(words) if before.word.endswith("."))]
        begins += [word.start - begin for word, begin in zip(first, truth, strict=True)]
    return {"token_ends": ends, "sentence_begins": begins}


def by_transformers(recogniser, wave):
    """Tokens and the times that transformers' generate has for them, without the prompt's."""
    import torch

    from s3router.seq2seq.generate import window_features
    from s3router.upstreams.whisper import WINDOW

    model, frames = recogniser.model, len(wave) // 160
    mask = torch.zeros(1, WINDOW // 160, dtype=torch.long)
    mask[:, :frames] = 1
    model.set_attn_implementation("eager")  # which gives back the attention
    settings = {"language": "en", "task": "transcribe", "num_beams": 1, "do_sample": False, "max_new_tokens": 200}
    features = window_features(recogniser, [torch.from_numpy(wave)], WINDOW)
    found = model.generate(features, attention_mask=mask, return_token_timestamps=True, **settings)
    model.set_attn_implementation("sdpa")
    skip = len(recogniser.prompt("en")) if found["sequences"][0, 0] == recogniser.prompt("en")[0] else 0
    return found["sequences"][0, skip:].tolist(), found["token_timestamps"][0, skip:].tolist()


def table(rows: dict[str, dict[str, list[float]]], plain: float, timed: float) -> str:
    """Seconds."""
    lines = [
        "Seconds. Ends of tokens: differences from transformers' times; first words: how much later than the speech.",
        "",
        "| heads | ends of tokens | largest | mean | first words of sentences | earliest | latest |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for heads, found in rows.items():
        ends, begins = found["token_ends"], found["sentence_begins"]
        cells = [len(ends), f"{max(ends):.2f}", f"{statistics.mean(ends):.3f}", len(begins)]
        lines.append(f"| {' | '.join(map(str, [heads, *cells, f'{min(begins):.2f}', f'{max(begins):.2f}']))} |")
    cost = f"{plain:.2f} s of processor time without times and {timed:.2f} s with them ({timed / plain - 1:+.0%})"
    return "\n".join([*lines, "", f"A recording takes {cost}, medians."])


if __name__ == "__main__":
    main()
