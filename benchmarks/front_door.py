"""How long until the first prompt: `import layerscope` and `layerscope --help`, as processes.

The floor, measured in the same run, is a Python that does nothing.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from _common import median_seconds, save

COMMANDS = {
    "python_alone_s": [sys.executable, "-c", "pass"],
    "import_layerscope_s": [sys.executable, "-c", "import layerscope"],
    "help_s": [str(Path(sys.executable).with_name("layerscope")), "--help"],
}


def main() -> None:
    repeats = 3 if "--quick" in sys.argv else 15
    figures = {
        name: round(
            median_seconds(
                lambda command=command: subprocess.run(command, capture_output=True, check=True),
                repeats,
            ),
            3,
        )
        for name, command in COMMANDS.items()
    }
    figures["import_over_floor_s"] = round(
        figures["import_layerscope_s"] - figures["python_alone_s"], 3
    )
    print(figures)
    if "--quick" not in sys.argv:
        save("front_door", figures)


if __name__ == "__main__":
    main()
