"""`repa`: an encoder block learns to tell a teacher's codes (arXiv 2410.06940, 2211.00508).

L = L_stage + weight / n * sum over frames, mean over books, of -log softmax(P(h))[code]

h [T, D] is the output of one block, P a projector that no file of the model has, n what the stage's
own loss is divided by. Codes are a teacher's frames, product-quantised: `espnet-progressive
teacher` writes them once (`nn/quantiser.py`), so that no teacher is in memory while training. It
saw whole utterances as they are; the student sees them masked and stretched.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from espnet_plugin.corpora.text_lines import read_lines
from espnet_plugin.nn.accelerators.base import Accelerator, Host, read_about

#: Files of a folder of codes: lines `utterance HEX`, a byte for each book of each frame; and what
#: made them.
CODES, ABOUT = "codes", "codes.json"
#: Lengths of a student's and a teacher's utterance differ by time stretching only.
MOST_STRETCHED = 1.5


class Repa(Accelerator):
    """A term of the loss that compares a block with a teacher.

    Args:
        codes: folder that `espnet-progressive teacher` wrote.
        weight: of the term; 0 leaves it out.
        block: which one, counted from 1.
        hidden: units of the projector's inner layer.

    Raises:
        ValueError: for other values, or a folder without codes.
    """

    losses = ("ctc", "viterbi", "full_sum", "lf_mmi")

    def __init__(self, codes: str, weight: float = 0.5, block: int = 4, hidden: int = 1024) -> None:
        if weight < 0 or type(block) is not int or block < 1 or hidden < 1:
            raise ValueError(
                f"weight must not be negative, block and hidden are at least 1; got {weight}, "
                f"{block}, {hidden}"
            )
        self._folder, self._weight = Path(codes), float(weight)
        self._block, self._hidden = block, hidden
        self._codes: dict[str, bytes] = {}
        self._seen: tuple[Tensor, Tensor] | None = None
        self._checked = True

    def attach(self, host: Host) -> None:
        """Reads the codes and listens to the block."""
        if not self._weight:
            return
        about = read_about(self._folder / ABOUT, "teacher")
        if self._block > len(host.blocks):
            raise ValueError(f"block {self._block}: the encoder has {len(host.blocks)} blocks")
        _check_frames(host.model, about, self._folder)
        self._codes = read_codes(self._folder)
        self._checked = host.require_utterances(self._codes, self._folder / CODES, "code them all")
        self._books, self._sizes = int(about["books"]), int(about["codes"])
        device = next(host.model.parameters()).device
        with torch.random.fork_rng(devices=[]):  # the model's own numbers stay as they are
            torch.manual_seed(host.seed)
            size = _output_size(host.model)
            inner, outer = (size, self._hidden), (self._hidden, self._books * self._sizes)
            self.private = nn.Sequential(nn.Linear(*inner), nn.SiLU(), nn.Linear(*outer)).to(device)
        host.blocks[self._block - 1].register_forward_hook(self._listen)

    def _listen(self, block: nn.Module, inputs: Any, output: Any) -> None:
        if block.training and torch.is_grad_enabled():
            frames, mask = output
            self._seen = (frames[0] if isinstance(frames, tuple) else frames), mask

    def loss_term(self, batch: Mapping[str, Any], weight: Tensor) -> Tensor | None:
        """See the module's equation."""
        if not self._weight:
            return None
        assert self._seen is not None and self.private is not None
        (frames, mask), self._seen = self._seen, None
        logits: Tensor = self.private(frames.float())
        logits = logits.view(*logits.shape[:2], self._books, self._sizes)  # [B, T, books, codes]
        lengths = mask.flatten(1).sum(1).tolist()
        names = list(batch["utt_id"])
        names *= len(lengths) // len(names)  # view after view, where utterances have several
        target = torch.full((*logits.shape[:2], self._books), -1)  # [B, T, books]
        for row, (name, length) in enumerate(zip(names, lengths, strict=True)):
            target[row, :length] = self.codes_of(name, int(length))
        losses = nn.functional.cross_entropy(
            logits.permute(0, 3, 1, 2), target.to(logits.device), ignore_index=-1, reduction="sum"
        )
        return self._weight * losses / self._books / weight

    def codes_of(self, name: str, length: int) -> Tensor:
        """Codes [T, books] of an utterance, stretched to `length` frames as it was.

        Raises:
            ValueError: the teacher's frames are no stretched copy of the student's.
        """
        found = self._codes.get(name)
        if found is None:
            if self._checked:
                raise ValueError(f"{self._folder / CODES}: no codes of {name}")
            return torch.zeros(length, self._books, dtype=torch.long)
        codes = torch.frombuffer(bytearray(found), dtype=torch.uint8).view(-1, self._books)
        if not 1 / MOST_STRETCHED <= (length + 1) / (len(codes) + 1) <= MOST_STRETCHED:
            raise ValueError(
                f"{self._folder / CODES}: {name} has {len(codes)} frames, the model {length}; "
                "the teacher needs the same frame rate and the same recordings"
            )
        return codes[stretched(len(codes), length)].long()


def stretched(teacher: int, student: int) -> Tensor:
    """For each of a student's frames the teacher's frame at the same time, [student]."""
    centres = (torch.arange(student, dtype=torch.float64) + 0.5) * teacher / student
    return centres.floor().long().clamp(max=teacher - 1)


def read_codes(folder: Path) -> dict[str, bytes]:
    """Utterance -> its codes, frame after frame.

    Raises:
        ValueError: the file is missing or a line of it is cut off.
    """
    books, found = int(read_about(folder / ABOUT, "teacher")["books"]), {}
    for line in read_lines(folder / CODES):
        name, _, text = line.partition(" ")
        try:
            found[name] = bytes.fromhex(text)
        except ValueError as error:
            raise ValueError(f"{folder / CODES}: {name}: no hexadecimal numbers") from error
        if not found[name] or len(found[name]) % books:
            raise ValueError(f"{folder / CODES}: {name}: cut off; make the codes again")
    return found


def _check_frames(model: nn.Module, about: Mapping[str, Any], folder: Path) -> None:
    subsampling: Callable[[], Any] | None = getattr(model, "subsampling", None)
    if subsampling is None:
        raise ValueError("it works with model progressive_transducer alone")
    if getattr(model.criterion, "chunking", None) is not None:
        raise ValueError(
            "it compares whole utterances; set loss_conf: {chunk_size: 0} in this stage, or leave "
            "it out here"
        )
    if subsampling().factor != about["subsampling"]:
        raise ValueError(
            f"{folder / ABOUT}: a teacher's frame is {about['subsampling']} feature frames, a "
            f"frame of this model {subsampling().factor}; take a teacher of the same frame rate"
        )


def _output_size(model: nn.Module) -> int:
    size: Callable[[], int] = model.encoder.output_size  # type: ignore[union-attr, assignment]
    return size()
