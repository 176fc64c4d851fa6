"""The options of how an answer is made, for every command that asks a model. None: as the run's spec says."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

MaxNewTokens = Annotated[Optional[int], typer.Option(help="Cap of an answer, in tokens.", min=1)]
Temperature = Annotated[Optional[float], typer.Option(help="0 is greedy.", min=0.0, max=5.0)]
TopP = Annotated[Optional[float], typer.Option(help="Nucleus; 1 is off.", min=0.0, max=1.0)]
TopK = Annotated[Optional[int], typer.Option(help="0 is off.", min=0)]
RepetitionPenalty = Annotated[Optional[float], typer.Option(help="1 is off.", min=0.5)]
Seed = Annotated[Optional[int], typer.Option(help="For sampling.", min=0)]
