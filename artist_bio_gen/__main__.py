"""The command's entry point: takes signals before anything that takes time is imported."""

from artist_bio_gen.cli.signals import leave_while_starting


def main() -> None:
    leave_while_starting()
    from artist_bio_gen.cli.main import main as command

    command()


if __name__ == "__main__":
    main()
