"""Declares the command that serves metrics."""

from __future__ import annotations

import asyncclick as click

from fraisier.cli.command import Leaf
from fraisier.cli.params import GivenType, flag, option

COMMANDS = {
    "metrics": Leaf(
        "metrics",
        run="fraisier.cli.run.metrics:metrics",
        help="Serve what the store holds to Prometheus: everything that was ever deployed with this store, by whichever "
        "process, and what happens from now on.\n\nIt only reads. It runs until Ctrl-C (exit code 130) or SIGTERM (0). Needs "
        "prometheus_client: pip install 'fraisier[metrics]'.",
        examples=[
            "fraisier metrics",
            "fraisier metrics --address 0.0.0.0 --port 9101",
            "fraisier metrics --once > /var/lib/node_exporter/fraisier.prom",
        ],
        params=[
            option(
                "--port",
                help="the port to listen on (default 8001; 0: any that is free)",
                type=click.IntRange(0, 65535),
                default=8001,
                metavar="PORT",
            ),
            option(
                "--address",
                help="the address to listen on (default 127.0.0.1: this machine alone; 0.0.0.0 or :: for everybody)",
                type=GivenType(),
                default="127.0.0.1",
                metavar="ADDRESS",
            ),
            flag("--once", help="print the metrics once and end, for a textfile collector"),
        ],
    ),
}
