"""Compile every Triton kernel for a Hopper GPU without one: registers, spills, shared memory.

    python benchmarks/gpu/compile_kernels.py [--capability 90]

Triton brings its own assembler; what it reports is read from the binary's resource section.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

KINDS = {"bf16": "*bf16", "fp32": "*fp32", "fp16": "*fp16"}


@dataclass(frozen=True)
class Resources:
    """What one compiled kernel takes, per thread and per program."""

    kernel: str
    registers: int
    stack_bytes: int
    spill_bytes: int
    shared_bytes: int


def specimens() -> list[tuple[str, Any, dict[str, str], dict[str, Any], int]]:
    """(name, kernel, types of its arguments, compile-time arguments, warps) as we launch them."""
    import triton.language as tl

    from espnet_plugin.lattice import triton_recursion
    from espnet_plugin.losses.engines import triton_hidden, triton_rows

    found = []
    for kind, pointer in KINDS.items():
        rows = {"ACC": tl.float32, "BLOCK": 4096}
        found.append(
            (f"arc_scores {kind}", triton_rows._arc_scores_kernel, {"logits_ptr": pointer}, rows, 8)
        )
        slopes = {"logits_ptr": pointer, "slope_ptr": pointer}
        found.append((f"slopes {kind}", triton_rows._slopes_kernel, slopes, rows, 8))
        for dropout in (False, True):
            fixed = {"ACC": tl.float32, "DROPOUT": dropout, "BLOCK": 256}
            what = f"{kind}{', dropout' if dropout else ''}"
            types = {"encoder_ptr": pointer, "prediction_ptr": pointer, "out_ptr": pointer}
            found.append((f"hidden {what}", triton_hidden._hidden_kernel, types, fixed, 4))
            for by_frame in (True, False):
                types = {"own_ptr": pointer, "other_ptr": pointer, "back_ptr": pointer}
                found.append(
                    (
                        f"backward by {'frame' if by_frame else 'label'} {what}",
                        triton_hidden._backward_kernel,
                        types,
                        {**fixed, **triton_hidden._TILE, "BY_FRAME": by_frame},
                        4,
                    )
                )
    found.append(("recursion", triton_recursion._recursion_kernel, {}, {"BLOCK": 128}, 2))
    return found


#: Arguments that no specimen names.
TYPES = {
    "labels_ptr": "*i64", "frame_row_ptr": "*i64", "label_row_ptr": "*i64", "slot_ptr": "*i32",
    "frame_draws_ptr": "*i32", "label_draws_ptr": "*i32", "own_draws_ptr": "*i32",
    "other_draws_ptr": "*i32", "scale": "fp32",
}  # fmt: skip


def compile_one(
    name: str,
    kernel: Any,
    types: dict[str, str],
    fixed: dict[str, Any],
    warps: int,
    capability: int,
) -> Resources:
    """Compile for the capability and read the report.

    Raises:
        RuntimeError: the kernel does not compile.
    """
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    signature = {}
    for argument in kernel.arg_names:
        if argument in fixed:
            signature[argument] = "constexpr"
        else:
            default = "*fp32" if "ptr" in argument or argument.endswith("_out") else "i32"
            signature[argument] = types.get(argument, TYPES.get(argument, default))
    source = ASTSource(fn=kernel, signature=signature, constexprs=fixed)
    compiled = triton.compile(
        source, target=GPUTarget("cuda", capability, 32), options={"num_warps": warps}
    )
    usage = resource_usage(compiled.asm["cubin"])
    return Resources(
        name, usage["REG"], usage["STACK"], usage["LOCAL"], int(compiled.metadata.shared)
    )


def resource_usage(cubin: bytes) -> dict[str, int]:
    """Registers, stack and local memory of the binary's kernel, by cuobjdump."""
    import triton

    tools = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [str(tools / "cuobjdump"), "--dump-resource-usage", file.name]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {key: int(value) for key, value in re.findall(r"(REG|STACK|LOCAL):(\d+)", text)}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--capability", type=int, default=90)
    args = parser.parse_args()
    print("| kernel | registers | stack bytes | local bytes | shared bytes |\n|" + " --- |" * 5)
    for specimen in specimens():
        found = compile_one(*specimen, args.capability)
        print(
            f"| {found.kernel} | {found.registers} | {found.stack_bytes} | {found.spill_bytes} | "
            f"{found.shared_bytes} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
