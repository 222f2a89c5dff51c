"""`vigil drift`: what windows say of the inputs, why, and what they are held against."""

import typer

from services.cli.baseline import app as baseline

app = typer.Typer(help="Drift of what the model is fed.", no_args_is_help=True)
app.add_typer(baseline, name="baseline")
