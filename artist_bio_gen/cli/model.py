"""`artist-bio-gen model`: the local models, by hand."""

from __future__ import annotations

from pathlib import Path

import click

from artist_bio_gen.cli.options import settings, settings_options


def _progress(line: str) -> None:
    click.echo(line, err=True)


def _folder(ctx: click.Context) -> Path:
    from artist_bio_gen.generator.catalogue import models_dir

    return models_dir(settings(ctx).data_dir)


@click.group("model")
def model_group() -> None:
    """List, fetch and find the local models."""


@model_group.command("list")
@settings_options("data_dir")
@click.pass_context
def list_models(ctx: click.Context) -> None:
    """Show the models known by name, which of them are there, and how to get the others."""
    from artist_bio_gen.generator.catalogue import CATALOGUE, report, state

    folder = _folder(ctx)
    for model in CATALOGUE:
        click.echo(report(model, state(model, folder), folder))


@model_group.command()
@settings_options("data_dir")
@click.argument("name")
@click.pass_context
def pull(ctx: click.Context, name: str) -> None:
    """Get the official weights of NAME from the model hub, and print where they are.

    The hub's address and token are taken from the environment (HF_ENDPOINT, HF_TOKEN).
    """
    from artist_bio_gen.generator import catalogue

    click.echo(catalogue.pull(catalogue.named(name), _folder(ctx), _progress))


@model_group.command()
@settings_options("data_dir", "local_model")
@click.argument("name", required=False)
@click.pass_context
def path(ctx: click.Context, name: str | None) -> None:
    """Make the weights of a model ready, and print where they are.

    NAME is one of "model list", or a GGUF file. Without it, that of --local-model; without
    that, the first whose weights are there.
    """
    from artist_bio_gen.generator.catalogue import find_weights

    wanted = name or settings(ctx).local_model
    click.echo(find_weights(wanted, _folder(ctx), _progress))
