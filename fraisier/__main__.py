"""The entry of the command line. It answers `--version` before anything else is loaded."""

import sys


def main() -> None:
    """Run the command line with the process's arguments and exit with its code."""
    arguments = sys.argv[1:]
    if arguments == ["--version"]:
        # Scripts ask for the version often, so this path imports one tiny module and nothing else.
        from fraisier._version import __version__

        sys.stdout.write(f"fraisier {__version__}\n")
        sys.exit(0)
    cli = __import__("fraisier.cli.main", fromlist=["run"])
    sys.exit(cli.run(arguments))


if __name__ == "__main__":
    main()
