"""mypy on its own source, again and again, without a cache: most of its code is compiled to C."""

from pathlib import Path

import mypy.api

SOURCE = Path(mypy.api.__file__).parent

if __name__ == "__main__":
    while True:
        mypy.api.run(["--no-incremental", "--follow-imports=silent", "--cache-dir=/dev/null", str(SOURCE / "nodes.py")])
