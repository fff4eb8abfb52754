"""`python -m benchmarks.page viewers|paced|replay|browser`: see benchmarks/README.md."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from benchmarks.page import light_viewers


def main() -> None:
    """Run the measurement that is asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.page")
    commands = parser.add_subparsers(dest="command", required=True)
    viewers = commands.add_parser("viewers", help="what viewers cost a scan")
    viewers.add_argument("--viewers", type=int, default=20)
    viewers.add_argument("--rounds", type=int, default=15, help="of four turns: without, 2x with")
    viewers.add_argument("--seconds", type=float, default=1.0, help="of a turn")
    viewers.add_argument("--scan", type=int, default=256)
    viewers.add_argument("--detector", type=int, default=256)
    viewers.add_argument("--rate", type=int, default=0, help="frames a second; 0: no pause")
    viewers.add_argument("--memory", action="store_true", help="no camera process, own processors")
    viewers.add_argument("--thumbnails", action="store_true", help="all images, as a browser does")
    paced = commands.add_parser("paced", help="whether a paced camera's frames come late")
    paced.add_argument("--viewers", type=int, default=20)
    paced.add_argument("--rate", type=int, default=4000, help="frames a second")
    paced.add_argument("--rounds", type=int, default=3, help="of four turns")
    paced.add_argument("--seconds", type=float, default=4.0, help="of a turn")
    paced.add_argument("--scan", type=int, default=128)
    paced.add_argument("--detector", type=int, default=256)
    paced.add_argument("--thumbnails", action="store_true")
    replay = commands.add_parser("replay", help="what a replay costs a running scan")
    replay.add_argument("--rounds", type=int, default=3, help="of four turns")
    replay.add_argument("--seconds", type=float, default=2.0, help="of a turn")
    replay.add_argument("--replay", type=float, default=20.0, help="seconds that the replay takes")
    replay.add_argument("--rate", type=int, default=0, help="frames a second; 0: no pause")
    replay.add_argument("--memory", action="store_true", help="no camera process, own processors")
    browser = commands.add_parser("browser", help="how fast Chromium draws")
    browser.add_argument("--side", type=int, default=1024)
    browser.add_argument("--rate", type=float, default=20.0)
    browser.add_argument("--seconds", type=float, default=10.0)
    looking = commands.add_parser("look")
    looking.add_argument("port", type=int)
    looking.add_argument("viewers", type=int)
    looking.add_argument("--thumbnails", action="store_true")
    serving = commands.add_parser("daemon")
    serving.add_argument("config", type=Path)
    args = parser.parse_args()
    if args.command == "viewers":
        from benchmarks.page.cost import viewers_cost

        viewers_cost(args)
    elif args.command == "paced":
        from benchmarks.page.paced import paced as paced_run

        paced_run(args)
    elif args.command == "replay":
        from benchmarks.page.replay_cost import replay_cost

        replay_cost(args)
    elif args.command == "browser":
        from benchmarks.page.browser import browser_speed

        asyncio.run(browser_speed(args.side, args.rate, args.seconds))
    elif args.command == "daemon":
        from benchmarks.page.memory_camera import run

        run(args.config)
    else:
        light_viewers.look(args.port, args.viewers, thumbnails=args.thumbnails)


if __name__ == "__main__":
    main()
