"""Guards: what may neither be asked nor answered. All of them are options; each counts its cases.

- `PersonalData` puts "[EMAIL]" and the like for addresses, numbers of phones, cards and accounts.
- `Phrases` refuses a question, and ends an answer, that holds one of a list of phrases.
- `longest` cuts an answer by characters.
- A schema is a grammar that every answer is made to follow (`serving.asking`), and a check that it
  is whole at the end.

An answer comes in pieces, and what a guard looks for may lie across two. So a guarded answer is
held back by as many characters as the longest thing that is looked for.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hornbook.errors import ConfigError

Count = Callable[[str, int], None]  # (which guard, how many cases)

_EMAIL = r"(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,4}"
_ACCOUNT = r"(?<![\w])[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?!\w)"
_CARD = r"(?<![\d.])\d(?:[ -]?\d){12,18}(?![\d])"
_PHONE = (
    r"(?<![\w.])(?<!\d )(?:\+|00)\d{1,3}(?:[ ./-]?\(?\d\)?){6,13}(?!\d)"  # +44 (0)20 7946 0958
    r"|(?<![\w.-])\(?\d{3}\)?[ .-]\d{3}[ .-]\d{4}(?![\w-])"  # (202) 555-0143
)
_SECURITY = r"(?<![\w-])\d{3}-\d{2}-\d{4}(?![\w-])"
_BYTE = r"(?:25[0-5]|2[0-4]\d|1?\d?\d)"
_ADDRESS = rf"(?<![\w.])(?:{_BYTE}\.){{3}}{_BYTE}(?!\.?\w)"


def _luhn(text: str) -> bool:
    """Whether a card's last digit is right. Source: ISO/IEC 7812-1, annex B."""
    digits = [int(c) for c in text if c.isdigit()]
    twice = (sum(divmod(2 * d, 10)) for d in digits[-2::-2])
    return (sum(digits[-1::-2]) + sum(twice)) % 10 == 0


def _mod_97(text: str) -> bool:
    """Whether an account's check digits are right. Source: ISO 13616-1."""
    compact = text.replace(" ", "")
    return int("".join(str(int(c, 36)) for c in compact[4:] + compact[:4])) % 97 == 1


def _any(text: str) -> bool:
    return True


_KINDS: tuple[tuple[str, re.Pattern[str], Callable[[str], bool]], ...] = (
    ("EMAIL", re.compile(_EMAIL), _any),
    ("ACCOUNT", re.compile(_ACCOUNT), _mod_97),
    ("CARD", re.compile(_CARD, re.ASCII), _luhn),
    ("SECURITY NUMBER", re.compile(_SECURITY, re.ASCII), _any),
    ("ADDRESS", re.compile(_ADDRESS, re.ASCII), _any),
    ("PHONE", re.compile(_PHONE, re.ASCII), _any),
)


def mask(text: str) -> tuple[str, int]:
    """Put a word in brackets for each piece of personal data, and say how many there were."""
    n = 0

    def masked(name: str, check: Callable[[str], bool]) -> Callable[[re.Match[str]], str]:
        def replace(match: re.Match[str]) -> str:
            nonlocal n
            if not check(match[0]):
                return match[0]
            n += 1
            return f"[{name}]"

        return replace

    for name, pattern, check in _KINDS:
        text = pattern.sub(masked(name, check), text)
    return text, n


def _folded(text: str) -> str:
    """Letters alone, small and in one form, one space between words: what phrases are sought in."""
    compatible = unicodedata.normalize("NFKC", text).casefold()
    visible = (c for c in compatible if unicodedata.category(c) != "Cf")
    return " " + " ".join(re.findall(r"\w+", "".join(visible))) + " "


@dataclass(frozen=True)
class Guards:
    """Which guards are up. phrases: whole words, in any case and spacing."""

    personal_data: bool = False
    phrases: tuple[str, ...] = ()
    longest: int | None = None

    @property
    def held_back(self) -> int:
        """Characters of an answer that are kept until more has come."""
        phrase = 2 * max(map(len, self.phrases), default=0)
        return max(phrase, 96 if self.personal_data else 0)

    @property
    def change_answers(self) -> bool:
        return self.personal_data or bool(self.phrases) or self.longest is not None

    def refused(self, text: str) -> bool:
        """Whether a text holds one of the phrases."""
        if not self.phrases:
            return False
        folded = _folded(text)
        return any(_folded(phrase) in folded for phrase in self.phrases)

    def asked(self, text: str, count: Count) -> str | None:
        """A question as the model may see it; None where it is refused."""
        if self.refused(text):
            count("phrases", 1)
            return None
        if self.personal_data:
            text, n = mask(text)
            count("personal_data", n)
        return text

    def answer(self, count: Count) -> Guarded:
        return Guarded(self, count)


class Guarded:
    """An answer on its way out. `finish`: why it was ended here, if it was."""

    def __init__(self, guards: Guards, count: Count) -> None:
        self._guards, self._count = guards, count
        self._kept = ""  # not yet said
        self._said = ""  # the end of what has been said, masked or not: phrases may begin there
        self._room = guards.longest
        self.finish: str | None = None

    def feed(self, piece: str, *, last: bool = False) -> str:
        """What may be said now. Afterwards look at `finish`: set, the answer is over."""
        if self.finish:
            return ""
        self._kept += piece
        guards = self._guards
        if guards.refused(self._said + self._kept):
            self._count("phrases", 1)
            self.finish, self._kept = "content_filter", ""
            return ""
        ready = len(self._kept) if last else len(self._kept) - guards.held_back
        if not last and guards.personal_data:
            ready = self._before_data(ready)
        if ready <= 0:
            return ""
        said, self._kept = self._kept[:ready], self._kept[ready:]
        self._said = (self._said + said)[-guards.held_back :] if guards.held_back else ""
        if guards.personal_data:
            said, n = mask(said)
            self._count("personal_data", n)
        if self._room is not None:
            if len(said) > self._room:
                self._count("longest", 1)
                self.finish, said = "length", said[: self._room]
            self._room -= len(said)
        return said

    def _before_data(self, ready: int) -> int:
        """Move a cut back to a space that lies in nothing that looks like data."""
        spans = [m.span() for _, pattern, _ in _KINDS for m in pattern.finditer(self._kept)]
        while ready > 0:
            inside = [start for start, end in spans if start < ready <= end]
            if inside:
                ready = min(inside)
            elif self._kept[ready - 1 : ready].isspace() or len(self._kept) > 4096:
                return ready
            else:
                ready -= 1
        return 0


def read_phrases(path: Path) -> tuple[str, ...]:
    """Read a list of phrases, one a line; # begins a comment. Raises ConfigError."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}", hint="One phrase a line.") from error
    found = tuple(_phrases(lines))
    if not found:
        raise ConfigError(f"{path} holds no phrase", hint="One phrase a line.")
    return found


def _phrases(lines: Sequence[str]) -> Iterator[str]:
    for line in lines:
        phrase = line.strip()
        if phrase and not phrase.startswith("#") and _folded(phrase).strip():
            yield phrase
