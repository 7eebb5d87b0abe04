"""Declares the commands to begin with, and those about Fraisier itself."""

from __future__ import annotations

import asyncclick as click

from fraisier.cli.command import Leaf
from fraisier.cli.params import argument, flag

_PROVIDERS = "fraisier.cli.run.providers"

COMMANDS = {
    "init": Leaf(
        "init",
        run="fraisier.cli.run.init:init",
        help="Write an annotated fraises.yaml.\n\nIt validates as it is, and deploys to this machine once the two marked "
        "lines are yours. A file that exists is left alone.",
        examples=["fraisier init", "fraisier init deploy/fraises.yaml"],
        params=[argument("PATH", required=False)],
    ),
    "validate": Leaf(
        "validate",
        run="fraisier.cli.run.validate:validate",
        help="Check the configuration without touching any target.\n\nPrints every problem at once, each with its file, line "
        "and column, what was expected, and what you may have meant. Exits with 2 when there are any.",
        examples=["fraisier validate", "fraisier -c staging.yaml validate --json"],
    ),
    "demo": Leaf(
        "demo",
        run="fraisier.cli.run.demo:demo",
        help="Show a rollout in waves, a bad version, and how it is rolled back, with small services on this machine.\n\n"
        "Everything happens in a temporary directory and is cleaned up at the end.",
        examples=["fraisier demo", "fraisier demo --keep"],
        params=[flag("--keep", help="leave the directory there, to look at and play with")],
    ),
    "completion": Leaf(
        "completion",
        run="fraisier.cli.run.completion:completion",
        help="Print the script that completes commands, options, fraises and environments.",
        examples=[
            "source <(fraisier completion bash)              # in ~/.bashrc",
            "source <(fraisier completion zsh)               # in ~/.zshrc, after compinit",
            "fraisier completion fish > ~/.config/fish/completions/fraisier.fish",
        ],
        params=[
            click.Argument(["shell"], metavar="bash|zsh|fish", type=click.Choice(["bash", "zsh", "fish"]))
        ],
    ),
    "providers": Leaf(
        "providers",
        run=f"{_PROVIDERS}:providers",
        help="List the providers: the kinds of targets that Fraisier can deploy to.",
        examples=["fraisier providers"],
    ),
    "provider-info": Leaf(
        "provider-info",
        run=f"{_PROVIDERS}:provider_info",
        help="Show what one provider does: its steps, and the configuration keys that it reads.",
        examples=["fraisier provider-info local"],
        params=[argument("TYPE")],
    ),
    "_names": Leaf(
        "_names",
        run="fraisier.cli.run.listing:names",
        help="Print the names of the fraises, or of the environments of one; for completion scripts.",
        params=[argument("FRAISE", required=False)],
        hidden=True,
    ),
}
