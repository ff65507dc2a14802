"""``heedmap inspect``: the attentions of a model."""

from __future__ import annotations

import json

import typer

from heedmap.cli.arguments import (
    AudioOption,
    BoxesOption,
    DeviceOption,
    DtypeOption,
    ImageOption,
    JsonOption,
    ModelArgument,
    TargetOption,
    TextOption,
    as_target,
    load_model,
    parse_target,
    read_inputs,
)
from heedmap.cli.exit_codes import guarded


@guarded
def inspect(
    context: typer.Context,
    model: ModelArgument,
    text: TextOption = None,
    image: ImageOption = None,
    boxes: BoxesOption = None,
    audio: AudioOption = None,
    target: TargetOption = None,
    as_json: JsonOption = False,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
) -> None:
    """List the attentions that heedmap finds in a model, and the streams between which they run."""
    chosen = parse_target(target)
    inputs = read_inputs(text, image, boxes, audio)
    flow = load_model(model, device, dtype).inspect(**inputs, target=as_target(chosen))
    if as_json:
        typer.echo(json.dumps(flow.to_dict(), indent=1))
        return
    from rich.console import Console

    from heedmap.flow import flow_table
    from heedmap.render.terminal import flow_rich

    console = Console()
    if console.is_terminal:
        console.print(flow_rich(flow))
    else:
        typer.echo(flow_table(flow))
