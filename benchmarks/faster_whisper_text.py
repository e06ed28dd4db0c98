"""Transcripts of a wav.scp by faster-whisper, as a Kaldi text file for ``s3router score``.

It needs faster-whisper alone (an environment of its own: ``pip install faster-whisper``), and no s3router.

    python faster_whisper_text.py whisper-fr-fast fr dump/fr/test/wav.scp fr.text
    s3router score --ref data/fr/test/text --hyp fr.text --normalize prompts --lang fr
"""

from __future__ import annotations

import argparse


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="folder of a converted model, or a name that faster-whisper downloads")
    parser.add_argument("language", help="code, such as fr")
    parser.add_argument("scp", help="lines 'utterance path'; no pipes")
    parser.add_argument("output", help="lines 'utterance words'")
    parser.add_argument("--beam-size", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    from faster_whisper import WhisperModel

    model = WhisperModel(args.model, compute_type="int8", cpu_threads=args.threads)
    with open(args.scp, encoding="utf-8") as scp, open(args.output, "w", encoding="utf-8") as output:
        for line in scp:
            utt, path = line.rstrip("\n").split(maxsplit=1)
            segments, _ = model.transcribe(path, language=args.language, beam_size=args.beam_size)
            print(utt, *(segment.text.strip() for segment in segments), file=output)


if __name__ == "__main__":
    main()
