"""`hornbook share`: what of a run would go to the hub; and, when told so, sends it."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hornbook.errors import ConfigError, nearest

if TYPE_CHECKING:
    from hornbook.recipes.sharing import Parcel


_LINES = 60  # of a card that are shown


def command(
    run: Annotated[Path, typer.Argument(help="A run's folder, or a saved model's.")],
    to: Annotated[str, typer.Option(help="Where to: hub.")] = "hub",
    name: Annotated[
        str | None, typer.Option(help="owner/name of the repository to write to.")
    ] = None,
    public: Annotated[
        bool, typer.Option("--public", help="For all to see; by default for you alone.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Send it. Without this nothing leaves the machine.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what would be shared of a run: weights, tokenizer, configs and the card. --yes sends it.

    Data, predictions and checkpoints stay. A file that holds what looks like a secret stops it, and
    paths of this machine are shortened.
    """
    from hornbook.interop.upload import check_name, upload
    from hornbook.recipes.sharing import pack

    if to != "hub":
        raise ConfigError(f"there is no place '{to}' to share to", hint=nearest(to, ["hub"]))
    if name is not None:
        check_name(name)
    elif yes:
        raise ConfigError("--yes needs to know where to", hint="Add --name owner/name.")
    parcel = pack(run)
    if as_json:
        print(json.dumps(_as_json(parcel, name, public, yes), indent=2, ensure_ascii=False))
    else:
        _show(parcel, name, public)
    if not yes:
        if not as_json:
            print("Nothing was sent. To send it: --name owner/name --yes" if not name else
                  "Nothing was sent. To send it: --yes")  # fmt: skip
        return
    assert name is not None
    with tempfile.TemporaryDirectory() as folder:
        parcel.write(Path(folder))
        message = f"{run.name}: model, tokenizer and card"
        address = upload(Path(folder), name, private=not public, message=message)
    print(f"Sent: {address}", file=sys.stderr if as_json else sys.stdout)


def _show(parcel: Parcel, name: str | None, public: bool) -> None:
    from hornbook.cli.tables import size

    seen = "for all to see" if public else "private"
    print(f"To {name or 'owner/name'} ({seen}) would go, {size(parcel.n_bytes)}:")
    for one in parcel.sent:
        changed = "  paths shortened" if one.changed is not None else ""
        print(f"  {one.name:<36} {size(one.n_bytes):>8}{changed}")
    if parcel.left:
        print("Here stay:")
        for what, why in parcel.left.items():
            print(f"  {what:<36} {why}")
    for note in parcel.notes:
        print(f"- {note}")
    front, body = _card_of(parcel.card)
    print(f"The card, behind {front} lines of YAML for the hub:" if front else "The card:")
    for line in body[:_LINES]:
        print(f"  | {line}")
    if len(body) > _LINES:
        print(f"  | … {len(body) - _LINES} more lines, in {parcel.run / 'README.md'}")


def _card_of(text: str) -> tuple[int, list[str]]:
    """How many lines of YAML a card begins with, and the lines behind."""
    lines = text.splitlines()
    if lines[:1] == ["---"] and "---" in lines[1:]:
        n = lines.index("---", 1) + 1
        return n, lines[n:]
    return 0, lines


def _as_json(parcel: Parcel, name: str | None, public: bool, yes: bool) -> dict[str, object]:
    return {
        "to": name,
        "private": not public,
        "sent": yes,
        "bytes": parcel.n_bytes,
        "files": [
            {"name": o.name, "bytes": o.n_bytes, "changed": o.changed is not None}
            for o in parcel.sent
        ],
        "left": dict(parcel.left),
        "notes": parcel.notes,
        "card": parcel.card,
    }
