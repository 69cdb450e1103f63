"""`daypass policy …`: check, show and try policies before a vendor meets them, and change those in use.

The table of the verbs; each group of them has a file of its own. All judge with the very code of the live path, on the
live catalog of a database or on a snapshot of it. None changes a file or a database.
"""

from __future__ import annotations

import typer

from proxy.cli import policy_backtest, policy_check, policy_diff, policy_show, policy_suggest

app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich", help="Check, show and try policies.")


app.command("check")(policy_check.check)
app.command("list")(policy_show.list_)
app.command("show")(policy_show.show)
app.command("explain")(policy_show.explain)
app.command("test")(policy_check.run)
app.command("diff")(policy_diff.diff)
app.command("backtest")(policy_backtest.backtest)
app.command("suggest")(policy_suggest.suggest)
app.command("snapshot")(policy_show.snapshot)
