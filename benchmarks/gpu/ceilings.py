"""Section a: what the card can do, measured: copies and matrix products on random data."""

from __future__ import annotations

import torch
from common import Section


def main() -> None:
    """Run the section."""
    section = Section("a", "Ceilings")
    name = torch.cuda.get_device_name() if section.cuda else "CPU"
    section.row("machine", device=name, torch=torch.__version__, threads=torch.get_num_threads())
    section.attempt("copy", lambda: copy_rate(section))
    for kind in ("bf16", "tf32", "fp32", "fp16"):
        section.attempt(kind, lambda kind=kind: product_rate(section, kind))
    section.attempt("launch", lambda: launch_time(section))
    section.write()


def copy_rate(section: Section) -> None:
    """Device-to-device copy, bytes read and bytes written counted."""
    count = 1 << (22 if section.tiny else 31)
    source = torch.randint(-128, 127, (count,), dtype=torch.int8, device=section.device)
    target = torch.empty_like(source)
    seconds = section.seconds(lambda: target.copy_(source), repeats=9)
    section.row("ceilings", what="copy", rate=2 * count / seconds, unit="byte/s", size=count)


def product_rate(section: Section, kind: str) -> None:
    """A large square product; float32 without and with TF32."""
    size = 256 if section.tiny else 8192
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(kind, torch.float32)
    torch.backends.cuda.matmul.allow_tf32 = kind == "tf32"
    a, b = (torch.randn(size, size, device=section.device).to(dtype) for _ in range(2))
    out = torch.empty_like(a)
    seconds = section.seconds(lambda: torch.mm(a, b, out=out), repeats=9)
    torch.backends.cuda.matmul.allow_tf32 = False
    section.row("ceilings", what=kind, rate=2 * size**3 / seconds, unit="FLOP/s", size=size)


def launch_time(section: Section) -> None:
    """What Python and torch need to launch one small kernel."""
    x = torch.zeros(16, device=section.device)

    def many() -> None:
        for _ in range(1000):
            x.add_(1.0)

    section.row(
        "ceilings", what="launch", rate=1000 / section.seconds(many), unit="launches/s", size=16
    )


if __name__ == "__main__":
    main()
