"""What every program of this folder is told: DIRECTION URL TOKEN, and options of its own."""

import argparse


def parse(description: str, **options: list[str]) -> argparse.Namespace:
    """`options` are named choices, the first of which is the default."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("direction", choices=["publish", "watch"])
    parser.add_argument("url", help="of the room's WHIP or WHEP endpoint")
    parser.add_argument("token")
    for name, choices in options.items():
        parser.add_argument(f"--{name}", choices=choices, default=choices[0])
    return parser.parse_args()
