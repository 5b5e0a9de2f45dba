"""A folder to the Hugging Face hub, when somebody asked for it."""

from __future__ import annotations

import re
from pathlib import Path

from hornbook import files
from hornbook.errors import ConfigError, UnavailableError


def check_name(name: str) -> str:
    """A name of the hub, "owner/name". Raises ConfigError for another form."""
    if not re.fullmatch(r"[\w.-]{1,96}/[\w.-]{1,96}", name) or ".." in name or "--" in name:
        raise ConfigError(
            f"'{name}' is no name of the hub", hint="Write owner/name, as: --name ada/sms-spam"
        )
    return name


def upload(folder: Path, name: str, *, private: bool, message: str) -> str:
    """Make the repository where there is none, and put the folder's files into it; its address.

    The token is the one that `hf auth login` keeps. Raises UnavailableError when offline, when
    huggingface_hub is not installed, or when the hub refuses.
    """
    if files.offline():
        raise UnavailableError(
            f"{name} was not sent: HORNBOOK_OFFLINE forbids the network",
            hint="Unset HORNBOOK_OFFLINE (and HF_HUB_OFFLINE) to share.",
        )
    try:
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError
    except ImportError as error:
        raise UnavailableError(
            "sharing needs huggingface_hub, which is not installed",
            hint='pip install "hornbook[hub]"',
        ) from error
    api = HfApi()
    try:
        api.create_repo(name, private=private, exist_ok=True)
        done = api.upload_folder(repo_id=name, folder_path=folder, commit_message=message)
    except LocalTokenNotFoundError as error:
        raise UnavailableError(
            f"{name} was not sent: nobody is logged in to the hub", hint="hf auth login"
        ) from error
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise UnavailableError(
            f"{name} was not sent: {str(error).splitlines()[0]}",
            hint="Is the name yours, the token one that may write (`hf auth login`), the network "
            "there?",
        ) from error
    return str(getattr(done, "commit_url", done))
