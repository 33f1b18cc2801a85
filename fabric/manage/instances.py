"""
The commands about instances of any project.
"""

from __future__ import annotations

from fabric.manage.command import Command, argument, ask, done, pairs
from fabric.manage.table import printed

VERBS = (
    ("pause", "PauseInstance", "have a guest stand still, in its host's memory"),
    ("unpause", "UnpauseInstance", "have a paused guest go on"),
    ("suspend", "SuspendInstance", "have a guest's memory on its host's disk"),
    ("resume", "ResumeInstance", "have a suspended guest go on where it was"),
    ("rescue", "RescueInstance", "boot a guest from a new disk of its image, its own disk as the second"),
    ("unrescue", "UnrescueInstance", "boot a rescued guest from its own disk again"),
)


def instance_commands() -> list[Command]:
    """
    What operators do to guests.
    """
    name = argument("instance", metavar="INSTANCE")
    return [
        Command(
            "instance migrate",
            "move an instance to another host, while it runs or stopped",
            (name, argument("--to", dest="host", default="", help="that host")),
            ask("MigrateInstance", "instance", "host"),
            pairs,
        ),
        *(Command(f"instance {verb}", help, (name,), ask(action, "instance"), done) for verb, action, help in VERBS),
        Command(
            "instance statistics",
            "what a guest used since it was booted",
            (name,),
            ask("DescribeInstanceUse", "instance"),
            pairs,
        ),
        Command(
            "instance console",
            "the last 64 KiB of a guest's serial console",
            (name,),
            ask("GetInstanceConsole", "instance"),
            lambda result: printed(str(result["output"])),
        ),
    ]
