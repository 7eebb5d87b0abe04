"""The entry of the command line. It answers `--version` before anything else is loaded."""

import importlib
import sys

from fraisier._version import __version__

_INTERRUPTED = 130


def main() -> None:
    """Run the command line with the process's arguments and exit with its code."""
    arguments = sys.argv[1:]
    if arguments == ["--version"]:
        sys.stdout.write(f"fraisier {__version__}\n")
        sys.exit(0)
    code = _INTERRUPTED
    try:
        ending = importlib.import_module("fraisier.cli.ending")
        ending.heed()
        try:
            code = ending.load_module("fraisier.cli.main").run(arguments)
        finally:
            ending.ending.close()
    except KeyboardInterrupt:  # while the program was still being loaded
        pass
    sys.exit(code)


if __name__ == "__main__":
    main()
