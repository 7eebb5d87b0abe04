"""The command line: parse, one call, render, exit code. Nothing is imported here, so that help stays quick."""
