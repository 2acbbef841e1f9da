"""Where `dcoder` starts: finds the command, runs it, and turns every failure into its message and exit code."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

import click

from shared.cli.failures import Failed, Missing, Misused
from shared.cli.output import print_failure, say
from shared.errors import Problem
from shared.host.home import find_home

COMMANDS: Mapping[str, tuple[str, str]] = {
    "up": ("lifecycle", "Start the stack, and stay in front until Ctrl-C."),
    "down": ("lifecycle", "Stop the stack. Data stays unless --wipe."),
    "status": ("lifecycle", "What runs, and where."),
    "doctor": ("doctor", "Check every part, and say how to repair it."),
    "logs": ("logs", "Show what the processes wrote."),
    "test": ("testing", "Run every check and test of the project."),
    "bench": ("benches", "Measure what the platform saves."),
    "generate": ("testing", "Write the files that are derived from the code."),
    "functions": ("functions", "List, run, add or deploy functions."),
    "tenant": ("tenants", "Add, list, export or remove tenants."),
    "key": ("keys", "Create, list, rotate or revoke virtual keys."),
    "quota": ("quotas", "Budgets and rates of tenants, keys, tags and models."),
    "price": ("prices", "What models cost a tenant, where that is not the published price."),
    "ingest": ("documents", "Upload documents and wait until they are searchable."),
    "ask": ("documents", "Ask the documents a question."),
    "usage": ("accounts", "What was used, and what it cost."),
    "audit": ("accounts", "Verify the audit log."),
    "deploy": ("deploy", "Render the platform for a Knative cluster, and deploy it there."),
    "image": ("image", "Build the image that all functions run in."),
}


class Commands(click.Group):
    """The commands by name. A module is imported when its command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"shared.cli.{COMMANDS[cmd_name][0]}")
        found: click.Command = getattr(module, f"{cmd_name}_command")
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_text) for name, (_, help_text) in COMMANDS.items()])


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option("0.1.0", prog_name="dcoder")
def dcoder() -> None:
    """D.Coder: a multi-tenant LLM platform on your own machine.

    Exit codes: 0 done, 1 failed, 2 wrong command line, 3 something needed is missing.
    """


def misused(misuse: click.ClickException) -> Misused:
    """What is wrong with the command line, and the help of the command that was meant."""
    context = misuse.ctx if isinstance(misuse, click.UsageError) else None
    place = context.command_path if context else "dcoder"
    fix = f"{place} --help"
    if isinstance(misuse, click.NoSuchOption) and misuse.option_name == "--json":
        return Misused(f"{place} needs a command before --json", fix=fix)
    return Misused(misuse.format_message(), fix=fix)


def unusable_home(defect: Exception) -> Missing | None:
    """The failure to tell when the state directory itself refused to be read or written."""
    home = find_home().path
    if not isinstance(defect, OSError) or not Path(str(defect.filename or "")).is_relative_to(home):
        return None
    return Missing(
        f"the state directory {str(home)!r} cannot be used",
        why=str(defect),
        fix="make it a directory that you can write to, or choose another: DCODER_HOME=~/dcoder-state dcoder up",
    )


def defective(defect: Exception) -> Failed:
    import traceback

    traceback.print_exception(defect)
    return Failed(
        f"{type(defect).__name__}: {defect}",
        why="a defect in dcoder",
        fix="report it with the lines above; dcoder logs",
    )


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    as_json = "--json" in given
    try:
        dcoder.main(given, prog_name="dcoder", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as help_wanted:
        say(help_wanted.format_message())
        return 2
    except click.ClickException as misuse:
        return print_failure(misused(misuse), as_json=as_json)
    except Failed as failure:
        return print_failure(failure, as_json=as_json)
    except Problem as problem:
        return print_failure(Failed(problem.detail), as_json=as_json)
    except (click.Abort, KeyboardInterrupt):
        return print_failure(Failed("interrupted"), as_json=as_json)
    except SystemExit as left:
        return left.code if isinstance(left.code, int) else 1
    except Exception as defect:  # noqa: BLE001  the edge: a defect still ends with one message, and one document
        return print_failure(unusable_home(defect) or defective(defect), as_json=as_json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
