"""``python -m espnet_plugin <command>``: the same as ``espnet-progressive <command>``."""

import sys

from espnet_plugin.bin.main import main

if __name__ == "__main__":
    sys.exit(main())
