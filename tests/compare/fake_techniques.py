"""Techniques of a user's own for the tests of the study: one that works, and ways to go wrong."""

from __future__ import annotations

import json
import os
import signal
import time

import numpy as np

from hornbook.compare.technique import HeldOut
from hornbook.errors import BudgetError


class Words:
    """Scores a label by how often it came with a text's words. Works."""

    name = "words"
    summary = "labels by words"
    needs_members = False

    def fit(self, train, validation, context):
        context.report("counting words", 0.5)
        print("a library that prints")
        self.n_labels = context.problem.n_labels
        self.table = {}
        for document, row in zip(train.documents, train.targets):
            for word in document.full.split():
                counts = self.table.setdefault(word, [0.0] * self.n_labels)
                for j in np.flatnonzero(row):
                    counts[j] += 1.0
        rows = np.arange(len(train), len(train) + len(validation))
        return HeldOut(rows, self.scores(validation.documents))

    def scores(self, documents):
        scores = np.zeros((len(documents), self.n_labels), np.float32)
        for i, document in enumerate(documents):
            for word in document.full.split():
                counts = np.array(self.table.get(word, [0.0] * self.n_labels))
                scores[i] += counts / max(counts.sum(), 1.0)
        return scores

    def save(self, folder):
        (folder / "words.json").write_text(json.dumps([self.n_labels, self.table]))

    @classmethod
    def load(cls, folder):
        words = cls()
        words.n_labels, words.table = json.loads((folder / "words.json").read_text())
        return words


class Seeded(Words):
    """Adds noise that its seed decides: repeats differ."""

    name = "seeded"

    def fit(self, train, validation, context):
        held_out = super().fit(train, validation, context)
        rng = np.random.default_rng(context.seed)
        for word in self.table:
            self.table[word] = list(np.array(self.table[word]) * rng.random(self.n_labels))
        return held_out


class Mixer(Words):
    """Needs the others' held-out scores."""

    name = "mixer"
    needs_members = True

    def fit(self, train, validation, context):
        held_out = super().fit(train, validation, context)
        members = context.members
        assert members, "no members"
        for member in members.values():
            assert member.probabilities.shape == member.held_out.scores.shape
            assert (member.model_folder / "technique.json").exists()
        self.table["members"] = sorted(members)
        return held_out

    def save(self, folder):
        (folder / "members.json").write_text(json.dumps(self.table.pop("members")))
        super().save(folder)


class Crash(Words):
    name = "crash"

    def fit(self, train, validation, context):
        raise ValueError("no good")


class Killed(Words):
    """As the system does when memory runs out."""

    name = "killed"

    def fit(self, train, validation, context):
        os.kill(os.getpid(), signal.SIGKILL)


class Quitter(Words):
    name = "quitter"

    def fit(self, train, validation, context):
        os._exit(3)


class TooLittle(Words):
    name = "too-little"

    def fit(self, train, validation, context):
        raise BudgetError("30 s are too little", hint="It needs about 90 s.")


class Sleeper(Words):
    """Fits for an hour, unless a file tells it to work."""

    name = "sleeper"

    def fit(self, train, validation, context):
        if not os.environ.get("SLEEPER_AWAKE"):
            context.report("sleeping")
            time.sleep(3600)
        return super().fit(train, validation, context)


class WrongShape(Words):
    name = "wrong-shape"

    def fit(self, train, validation, context):
        held_out = super().fit(train, validation, context)
        return HeldOut(held_out.rows, held_out.scores[:, :-1])


class Incomplete(Words):
    name = "incomplete"

    def fit(self, train, validation, context):
        held_out = super().fit(train, validation, context)
        return HeldOut(held_out.rows[1:], held_out.scores[1:])


class NoTechnique:
    def fit(self, train, validation, context):
        return None
