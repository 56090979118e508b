"""What the command line says about a run's plan: sizes, settings, expected times, and what is left while it runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pocketrec.cli.output import print_json, stderr, stdout

if TYPE_CHECKING:
    from rich.console import Console

    from pocketrec.distill.config import RunConfig
    from pocketrec.run.plan import Plan
    from pocketrec.run.stages import Stage


class StageLines:
    """Prints a line before each stage, with the expected time of it and of all that is left."""

    def __init__(self) -> None:
        """Start without expectations; `plan` adds them."""
        self.console = stderr()
        self.plan: Plan | None = None
        self._told: set[str] = set()

    def expect(self, plan: Plan) -> None:
        """Take the plan of the run."""
        self.plan = plan

    def __call__(self, stage: Stage, skipped: bool) -> None:
        """Print the line of a stage that is about to run, or is skipped; that of the stage `data` only once."""
        if self.plan is None and skipped:
            return
        if stage.name not in self._told:
            mark = "[dim]done before[/dim]" if skipped else f"[green]running[/green]{self._expected(stage)}"
            self.console.print(f"[bold]{stage.name}[/bold] {stage.does} — {mark}", highlight=False, soft_wrap=True)
        self._told.add(stage.name)

    def _expected(self, stage: Stage) -> str:
        if self.plan is None or stage.name not in self.plan.expected:
            return ""
        return f", {about(self.plan.expected[stage.name])}; {about(self.plan.seconds_left())} to go in all"


def about(seconds: float) -> str:
    """Return a duration as people say it: "about 12 min"."""
    if seconds < 90:
        return f"about {max(1, round(seconds))} s"
    return f"about {round(seconds / 60)} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"


def show_config(config: RunConfig) -> None:
    """Print every setting of the run on stderr."""
    from rich.markup import escape

    from pocketrec.config import config_to_dict

    console = stderr()
    console.print("[bold]configuration[/bold]")
    for section, values in config_to_dict(config).items():
        shown = " ".join(f"{k}={json.dumps(v, separators=(',', ':'))}" for k, v in values.items())
        console.print(f"  [cyan]{section}[/cyan] {escape(shown)}", highlight=False)


def show_plan(plan: Plan, console: Console) -> None:
    """Print the data's size, the settings that follow from it, the student, and the expected time."""
    from pocketrec.run.plan import changed_settings

    facts = plan.facts
    texts = "with texts" if facts.text_bytes else "no texts"
    rows = {
        "data": f"{facts.users:,} users, {facts.items:,} items, {facts.events:,} events, {texts}",
        "student": f"about {plan.parameters / 1e6:.2f} million parameters; bundle about "
        f"{plan.expected_bytes / 1e6:.1f} MB",
        "because": "\n            ".join(plan.reasons),
        "settings": " ".join(changed_settings(plan.pipeline.config)),
        "time": f"{about(plan.seconds_left())} on this machine, as busy as it is now",
    }
    console.print("[bold]plan[/bold]")
    for name, text in rows.items():
        if text:
            console.print(f"  {name:10}{text}", highlight=False, markup=False, soft_wrap=True)


def show_stages(plan: Plan, as_json: bool) -> None:
    """Print the stages, their state and time, and the plan."""
    from pocketrec.cli.console import plain_table

    states = plan.pipeline.status()
    if as_json:
        stages: list[Mapping[str, Any]] = [
            {"name": s.name, "state": s.state, "seconds": s.seconds, "expected_seconds": plan.expected.get(s.name)}
            for s in states
        ]
        print_json({"stages": stages, "plan": plan.to_dict()})
        return
    show_plan(plan, stdout())
    rows = [
        (s.name, s.does, s.state, "" if s.seconds is None else f"{s.seconds:.1f} s", _expected(plan, s.name))
        for s in states
    ]
    stdout().print(plain_table("stages", ("stage", "does", "state", "took", "expected"), rows))


def _expected(plan: Plan, name: str) -> str:
    return about(plan.expected[name]) if name in plan.expected else "unknown"
