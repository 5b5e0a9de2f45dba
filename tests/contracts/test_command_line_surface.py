"""The command line's commands and options, as a list: to change it is to decide to."""

from __future__ import annotations

import subprocess
import sys

import psutil
import typer

from hornbook.cli.main import app

SURFACE = {
    "": "--help --install-completion --show-completion --version",
    "compare": "--budget --dry-run --help --json --label --label-separator --out --overwrite "
    "--quiet --repeats --resume --seed --technique --techniques --text --title --total data",
    "predict": "--file --help --json --jsonl --technique --text --title --top run texts",
    "run": "--adapter --aggregation --answer --beams --calibrate --column --content-free "
    "--context --context-file --file --help --hypothesis --json --label --option --seed "
    "--sentences --several --system --temperature --tokens --top --whole model task texts",
    "tune": "--column --data --dry-run --epochs --help --json --method --model --out --quiet "
    "--resume --search --seed --set --steps --strict --time --trials task",
    "evaluate": "--against --column --data --help --json --limit --on --out --quiet --task run",
    "judge": "--ask --by --criteria --help --human --json --out --show-prompt a b",
    "verify": "--help --json model",
    "share": "--help --json --name --public --to --yes run",
    "models": "--help --json",
    "runs": "--help --json folder",
    "export": "--help --json --numbers --out --overwrite --to model",
    "quantize": "--bits --group --help --json --out --overwrite --text --tokens model",
    "bench": "--help",
    "bench generate": "--help --json --precision --prompt --streams --tokens model",
    "bench device": "--help --json",
    "data": "--help",
    "data list": "--help --json",
    "data stats": "--help --json --text source",
    "data clean": "--any --help --json --out --overwrite --raw --text source",
    "data shard": "--help --jobs --json --out --quiet --seed --shard-tokens --text --tokenizer "
    "--validation --vocab-size sources",
    "data peek": "--context --help --json --rows --seed path",
    "data check": "--column --help --json --model --rows --template file",
    "data select": "--column --help --json --out --quiet file n run",
    "data show": "--help --json --label --label-separator --text --title name",
    "data audit": "--help --json --label --label-separator --seed --text --title name",
    "train": "--config --context --counting --data --depth --dry-run --epochs --help --json "
    "--out --preset --quiet --resume --sanity --seed --set --source --steps --target --text --time "
    "--tokenizer --vocab-size family",
    "finetune": "--column --curve --data --dry-run --epochs --help --json --method --model --out "
    "--quiet --resume --seed --set --show-masks --steps --strict --time task",
    "align": "--column --curve --data --dry-run --epochs --help --json --method --model --out "
    "--quiet --resume --seed --set --show-masks --steps --strict --time task",
    "generate": "--beams --draft --help --json --json-schema --logprobs --min-p --no-slide "
    "--precision --repetition-penalty --returns --seed --stop --temperature --tokens --top-k "
    "--top-p model prompt",
    "serve": "--api-key-file --context --help --host --longest --mask --max-tokens --per-minute "
    "--port --precision --queue --quiet --refuse --schema --seconds --slots --texts models",
    "chat": "--context --frequency-penalty --help --json --min-p --precision --repetition-penalty "
    "--seed --show-prompt --stop --system --temperature --tokens --top-k --top-p model",
    "tokenizer": "--help",
    "tokenizer train": "--algorithm --data --help --json --out --overwrite --text --vocab-size",
    "tokenizer compare": "--help --json --text --tokenizer --vocab-size source",
    "tokenizer count": "--help --json --text --tokenizer source",
    "tokenizer show": "--help --json --tokenizer text",
    "tokenizer adapt": "--data --from --help --json --out --overwrite --text --vocab-size",
    "tokenizer audit": "--add --help --json --out --overwrite --text --tokenizer --top source",
    "doctor": "--help --json",
    "cache": "--help",
    "cache path": "--help",
    "cache ls": "--help",
    "cache rm": "--help --yes name",
    "plan": "--help",
    "plan train": "--batch --card --checkpointing --context --devices --help --json --memory "
    "--micro-batch --optimizer --precision --price --set --sharding --tokens --utilisation model",
    "plan memory": "--batch --bits --context --help --json --params --preset --train model",
    "launch": "--config --dry-run --help --machine-rank --machines --main-address --main-port "
    "--threads n",
}
SURFACE |= {f"launch {name}": SURFACE[name] for name in ("train", "finetune", "align")}


def surface(command, name: str = "") -> dict[str, str]:
    context = command.make_context("hornbook", [], resilient_parsing=True)
    words = []
    for parameter in command.get_params(context):
        long = [option for option in parameter.opts if option.startswith("--")]
        words.append(long[0] if long else parameter.name)
    found = {name: " ".join(sorted(words))}
    for below in getattr(command, "commands", {}):
        found |= surface(command.commands[below], f"{name} {below}".strip())
    return found


def test_commands_and_options_are_the_ones_listed():
    assert surface(typer.main.get_command(app)) == SURFACE


def seconds(*arguments: str) -> float:
    """Of the processor, in a process of its own: what an idle machine would make one wait."""

    def once() -> float:
        before = psutil.Process().cpu_times()
        subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
        after = psutil.Process().cpu_times()
        children = after.children_user + after.children_system
        return children - before.children_user - before.children_system

    return min(once() for _ in range(3))


def test_help_comes_at_once():
    """Less than 0.4 s, beyond what the interpreter itself takes."""
    code = "import sys; sys.argv = ['hornbook', '--help']; from hornbook.cli.main import run; run()"
    assert seconds("-c", code) - seconds("-c", "pass") < 0.4
