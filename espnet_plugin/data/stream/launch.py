"""Starts a producer that the kernel ends with the training: ``python -m ... PARENT LINE``.

In a process of its own, since what runs between fork and exec of a training, which has threads,
should be nothing.
"""

from __future__ import annotations

import os
import sys

from espnet_plugin.corpora.processes import die_with_parent

if __name__ == "__main__":
    die_with_parent(int(sys.argv[1]))
    os.execvp("bash", ["bash", "-c", sys.argv[2]])
