"""`hornbook cache`: where downloads are kept, how large they are, and removing them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from hornbook import files
from hornbook.errors import UnknownNameError, nearest

app = typer.Typer(
    help="See and clear what was downloaded.", no_args_is_help=True, rich_markup_mode=None
)


@app.command("path")
def path_command() -> None:
    """Print the cache folder."""
    print(files.home())


@app.command("ls")
def ls_command() -> None:
    """List what is in the cache, with sizes."""
    from hornbook.cli.tables import size

    found = entries()
    for name, path in found.items():
        print(f"{size(_size(path)):>8}  {name}")
    if not found:
        print(f"{files.home()} is empty")


@app.command("rm")
def rm_command(
    name: Annotated[str, typer.Argument(help="An entry of `hornbook cache ls`, or 'all'.")],
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
) -> None:
    """Remove an entry from the cache; it is downloaded again when needed."""
    found = entries()
    if name != "all" and name not in found:
        raise UnknownNameError(
            f"the cache has no entry '{name}'",
            hint=nearest(name, found) if found else f"{files.home()} is empty.",
        )
    for entry in list(found) if name == "all" else [name]:
        if yes or typer.confirm(f"Remove {found[entry]}?"):
            remove(found[entry])
            print(f"removed {found[entry]}")


def entries() -> dict[str, Path]:
    """What can be removed, by name: the contents of each folder in the cache ("data/reuters")."""
    home = files.home()
    folders = [folder for folder in sorted(home.glob("*")) if folder.is_dir()]
    return {
        path.relative_to(home).as_posix(): path
        for folder in folders
        for path in sorted(folder.iterdir())
    }


def remove(path: Path) -> None:
    """Remove a file, a link, or a folder with all that is in it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _size(path: Path) -> int:
    return files.folder_size(path) if path.is_dir() else path.stat().st_size
