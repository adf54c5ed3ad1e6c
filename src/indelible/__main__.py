"""``python -m indelible`` is the ``indelible`` command."""

import sys


def main() -> None:
    """Run the command line; ends the process."""
    try:
        from indelible.cli.main import run
    except ModuleNotFoundError as missing:
        if missing.name is None or missing.name.partition(".")[0] == "indelible":
            raise
        print(
            f"server_not_installed: the command needs {missing.name}, which is not here\n"
            'try: pip install "indelible[server]"; to check receipts and logs, "indelible[verify]"',
            file=sys.stderr,
        )
        sys.exit(3)
    try:
        code = run(sys.argv[1:])
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)


if __name__ == "__main__":
    main()
