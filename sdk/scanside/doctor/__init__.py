"""What is installed, what works, and what to do about the rest: what a site gets wrong, each with its remedy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from scanside.doctor.accelerator import check_accelerators
from scanside.doctor.bundles import check_bundles
from scanside.doctor.check import Check, Status
from scanside.doctor.machine import check_machine
from scanside.doctor.pipelines import check_pipeline
from scanside.doctor.plans import check_plans
from scanside.doctor.running import check_gadgetron_node, check_server
from scanside.doctor.software import check_software
from scanside.errors import ScansideError

if TYPE_CHECKING:
    from scanside_gadgetron.settings import ServerConfig

__all__ = ["Check", "Status", "examine"]


def examine(config: Path | None = None) -> list[Check]:
    """Look at everything, from the interpreter to the clock.

    Args:
        config: the server's settings (``scanside serve --config``), whose ports, folders and pipelines are looked at;
            None for the defaults.
    """
    settings, checks = _settings(config)
    server = check_server(settings)
    # The last word is that of the live page, where there is one.
    running = server[-1].status == "ok"
    return [
        *check_software(),
        *check_accelerators(),
        *checks,
        check_gadgetron_node(),
        *server,
        *check_bundles(),
        *check_plans(),
        *check_machine(settings, running=running),
    ]


def _settings(path: Path | None) -> tuple[ServerConfig, list[Check]]:
    """The server's settings, and what is to be said of them."""
    from scanside_gadgetron.settings import ServerConfig, Settings

    own = Settings.from_environment()
    if path is None:
        return ServerConfig.load(None, own), []
    name = "server's settings"
    try:
        config = ServerConfig.load(path, own)
    except ScansideError as error:
        advice = "put it right: the server does not start with it"
        return ServerConfig.load(None, own), [Check(name, "problem", str(error), advice)]
    asked = (config.pipeline, *config.prepare)
    remarks = [remark.rsplit(": ", 1) for remark in config.remarks()]
    told = [Check(f"{name}, {found.split(': ')[0]}", "missing", found, advice) for found, advice in remarks]
    pipelines = [check_pipeline(one, config.pipelines) for one in asked]
    return config, [Check(name, "ok", str(path)), *told, *pipelines]
