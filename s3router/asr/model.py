"""The CTC model: ESPnet's, with bfloat16 arithmetic, error counts of the whole validation set, and checkpoints of what
trains.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from espnet2.asr.espnet_model import ESPnetASRModel

from s3router.asr.ctc_decode import collapse
from s3router.data.tokens import TokenIds
from s3router.scoring.error_counts import ErrorCounts
from s3router.training.parameters import check_fit, trained_names

logger = logging.getLogger(__name__)

AMP_DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}


class RoutedCTCModel(ESPnetASRModel):
    """CTC on an upstream's features.

    Args (besides ESPnet's):
        amp_dtype: ``bfloat16`` runs the upstream under autocast on any device; head and loss are float32 always.
        head_dropout: probability, on the features before the output layer.
        token_type: how tokens join to text in validation: ``char``, ``phn``, or ``bpe``.

    `state_dict` holds only what trains (`s3router.training.parameters.trained_names`); `load_state_dict` wants
    exactly that.
    """

    UPSTREAM = "frontend.upstream"

    def __init__(self, *args, amp_dtype="bfloat16", head_dropout=0.0, token_type="char", bpemodel=None, **kwargs):
        super().__init__(*args, report_cer=False, report_wer=False, **{"ctc_weight": 1.0, **kwargs})
        self.amp_dtype = AMP_DTYPES[amp_dtype]
        self.head_dropout = head_dropout
        self.tokens = TokenIds(self.token_list, token_type, bpemodel)
        self.ctc.reduce = False
        self.errors = ErrorCounts()
        self._utt_ids: list[str] = []
        self._reported: set[str] = set()
        self.register_state_dict_post_hook(_keep_trained)

    def forward(self, speech, speech_lengths, text, text_lengths, **kwargs):
        """As in ESPnet: (loss (1,), stats, weight (1,)); speech (batch, samples), text (batch, tokens)."""
        self._utt_ids = list(kwargs.get("utt_id", ()))
        loss, stats, weight = super().forward(speech, speech_lengths, text, text_lengths, **kwargs)
        return loss, {key: value for key, value in stats.items() if value is not None}, weight

    def hold_upstream(self, held: bool) -> None:
        """Let the head train alone (``held``), or everything that the method trains."""
        self.frontend.upstream.upstream.held = held

    @contextlib.contextmanager
    def exactly(self) -> Iterator[None]:
        """Compute as decoding does while the block runs: in float32, and without cached features.

        Those are rounded to bfloat16. Either rounding gives another best token to some frames in a thousand.
        """
        amp_dtype, self.amp_dtype = self.amp_dtype, torch.float32
        try:
            with self.frontend.upstream.upstream.without_cache():
                yield
        finally:
            self.amp_dtype = amp_dtype

    def _extract_feats(self, speech, speech_lengths):
        bf16 = self.amp_dtype == torch.bfloat16
        with torch.autocast(speech.device.type, torch.bfloat16) if bf16 else contextlib.nullcontext():
            feats, lengths = super()._extract_feats(speech, speech_lengths)
        return feats.float(), lengths

    def _calc_ctc_loss(self, encoder_out, encoder_out_lens, ys_pad, ys_pad_lens):
        hidden = F.dropout(encoder_out, self.head_dropout, self.training)
        losses = self.ctc(hidden, encoder_out_lens, ys_pad, ys_pad_lens)  # (batch,), each over the batch size
        self._report_unusable(losses.detach(), encoder_out_lens, ys_pad, ys_pad_lens)
        if not self.training:
            self._count_errors(encoder_out, encoder_out_lens, ys_pad, ys_pad_lens)
        return losses.sum(), None

    def _report_unusable(self, losses, lengths, ys_pad, ys_lens) -> None:
        """Say once which utterances give no loss; CTC itself makes theirs zero in silence."""
        repeats = ((ys_pad[:, 1:] == ys_pad[:, :-1]) & (ys_pad[:, 1:] != self.ignore_id)).sum(1)
        too_long = ys_lens + repeats > lengths
        unusable = too_long | ~torch.isfinite(losses)
        if not unusable.any():
            return
        for index in unusable.nonzero().flatten().tolist():
            utt = self._utt_ids[index] if index < len(self._utt_ids) else f"#{index}"
            if utt in self._reported:
                continue
            self._reported.add(utt)
            if too_long[index]:
                logger.warning(
                    "%s: %d tokens (%d frames needed) do not fit its %d frames; it gives no loss: check its transcript",
                    utt,
                    int(ys_lens[index]),
                    int(ys_lens[index] + repeats[index]),
                    int(lengths[index]),
                )
            else:
                logger.warning(
                    "%s: its loss is %s: check the recording, or lower the learning rate", utt, losses[index]
                )

    def _count_errors(self, encoder_out, lengths, ys_pad, ys_lens) -> None:
        best = self.ctc.argmax(encoder_out).tolist()
        for ids, length, reference, size in zip(best, lengths.tolist(), ys_pad.tolist(), ys_lens.tolist(), strict=True):
            hypothesis = self.tokens.decode(collapse(ids[:length], self.blank_id))
            self.errors.add(hypothesis, self.tokens.decode(reference[:size]), self.tokens.token_type == "phn")

    def load_state_dict(self, state_dict, strict: bool = True, assign: bool = False):
        """Load the trained part.

        Raises:
            CheckpointError: tensors missing, unexpected, or of another shape.
        """
        check_fit(self.state_dict(), state_dict)
        return super().load_state_dict(state_dict, strict=False, assign=assign)


def _keep_trained(model, state_dict, prefix, local_metadata) -> None:
    kept = {prefix + name for name in trained_names(model)}
    for key in [key for key in state_dict if key.startswith(prefix) and key not in kept]:
        del state_dict[key]
