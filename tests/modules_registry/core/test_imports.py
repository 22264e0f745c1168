"""The gate runs wherever a file comes in, so it brings nothing heavy along."""

import subprocess
import sys

FORBIDDEN = ("torch", "transformers", "peft", "safetensors", "django", "yaml")


def test_the_core_and_the_storage_need_the_standard_library_and_numpy_alone():
    program = (
        "import sys, modules_registry.storage; "
        "from modules_registry.core import base_shapes, compatibility, gate, sketch; "
        f"print([name for name in {FORBIDDEN!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
