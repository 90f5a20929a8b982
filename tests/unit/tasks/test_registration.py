"""Registration: before or after ESPnet, without ESPnet, and without paying for ESPnet."""

from __future__ import annotations

import subprocess
import sys

import pytest

CHECK = """
from espnet2.tasks import abs_task, asr
assert "progressive_transducer" in asr.model_choices.classes
assert "progressive_conformer" in asr.encoder_choices.classes
assert "feedforward_prediction" in asr.decoder_choices.classes
assert "progressive" in asr.specaug_choices.classes
assert "nadam" in abs_task.optim_classes
assert {"onecyclelinear", "constantlineardecay"} <= set(abs_task.scheduler_classes)
text = asr.ASRTask.get_parser().format_help()
assert "progressive_transducer" in text and "onecyclelinear" in text and "nadam" in text
"""


def run(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.parametrize(
    "imports",
    ["import espnet_plugin\nimport espnet2.tasks.asr", "import espnet2.tasks.asr, espnet_plugin"],
)
def test_either_import_order_registers(imports):
    run(imports + CHECK)


def test_importing_the_plugin_or_its_losses_does_not_import_espnet():
    run(
        "import sys, espnet_plugin, espnet_plugin.losses, espnet_plugin.search\n"
        "assert not [m for m in sys.modules if m.split('.')[0] in ('espnet', 'espnet2')]"
    )


def test_without_espnet_the_plugin_still_imports():
    run(
        "import sys\n"
        "class Block:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] == 'espnet2':\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Block())\n"
        "import espnet_plugin, espnet_plugin.losses\n"
        "try:\n"
        "    espnet_plugin.register()\n"
        "except ImportError as error:\n"
        "    print(error)\n"
        "else:\n"
        "    raise SystemExit('register() should have failed')\n"
    )
