"""A producer of random features and letters, which can misbehave."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

from espnet_plugin.data.stream.records import Record, encode, write_record

LETTERS = "ABC"
WIDTH = 8


def record(seed: int, number: int, samples: bool = False) -> Record:
    """What the producer says as a function of seed and number."""
    rng = np.random.default_rng([seed, number])
    text = "".join(rng.choice(list(LETTERS), int(rng.integers(1, 4))))
    frames = int(rng.integers(30, 50))
    if samples:
        noise = rng.standard_normal(160 * frames) * 3000
        return Record(number, f"u{number:05d}", text, noise.astype(np.int16), 16000)
    values = rng.standard_normal((frames, WIDTH)).astype(np.float32)
    return Record(number, f"u{number:05d}", text, values)


def main() -> int:
    """Write records for ever, or until the fault."""
    parser = argparse.ArgumentParser()
    for name in ("seed", "skip"):
        parser.add_argument(f"--{name}", type=int, default=0)
    parser.add_argument("--step", type=int, default=1)
    parser.add_argument("--samples", action="store_true")
    parser.add_argument("--pause", type=float, default=0.0, help="seconds before each record")
    parser.add_argument("--fault", choices=["die", "end", "cut", "damage", "stall", "print"])
    parser.add_argument("--at", type=int, default=-1, help="number of the record of the fault")
    parser.add_argument("--unless", type=Path, help="no fault where this file exists")
    parser.add_argument("--drift", action="store_true", help="a start says something of its own")
    parser.add_argument("--deaf", action="store_true", help="does not pass over anything")
    args = parser.parse_args()
    number = 0 if args.deaf else args.skip
    seed = args.seed + (args.skip if args.drift else 0)
    print(f"speaking from {number}", file=sys.stderr)
    out = sys.stdout.buffer
    while True:
        made = record(seed, number, args.samples)
        if number == args.at and not (args.unless and args.unless.exists()):
            print(f"about to {args.fault}", file=sys.stderr, flush=True)
            if args.fault == "die":
                return 7
            if args.fault == "end":
                return 0
            if args.fault == "stall":
                time.sleep(600)
            content = encode(made)
            if args.fault == "cut":
                out.write(content[: len(content) // 2])
                return 0
            if args.fault == "damage":
                out.write(content[:-1] + bytes([content[-1] ^ 1]))
            if args.fault == "print":
                out.write(b"a message that does not belong here, long enough to be a header")
        time.sleep(args.pause)
        try:
            write_record(out, made)
        except BrokenPipeError:
            return 0
        number += args.step


if __name__ == "__main__":
    sys.exit(main())
