"""Completion in the shells: what is stored is data, and inserted so quoted that Enter never runs any of it.

click's own scripts put a key into the command line as it is, `evil$(touch x)` too, split it at colons and take the
completion of file names away. These replace them, through click's interface for other shells
(https://click.palletsprojects.com/en/stable/shell-completion/). Zsh and fish quote what they insert themselves; bash
inserts what it is told.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from click.shell_completion import CompletionItem, ShellComplete, add_completion_class

from slothstate.cli.formatting import escaped
from slothstate.hints import Final, NamedTuple

__all__: list[str] = []

_PIECES: Final = r"""
    \\ (?P<escaped> .?)
  | ' (?P<single> {single}*) (?P<single_end> '?)
  | " (?P<double> (?: [^"\\] | \\. )* \\?) (?P<double_end> "?)
  | (?P<space> [ \t\n]+)
  | (?P<plain> .)
"""

_IN_SHELL: Final = re.compile(_PIECES.format(single=r"[^']"), re.VERBOSE | re.DOTALL)

_IN_FISH: Final = re.compile(_PIECES.format(single=r"(?: [^'\\] | \\. )"), re.VERBOSE | re.DOTALL)

_ESCAPED_IN_DOUBLE: Final = re.compile(r'\\([\\"$`\n])')

_ESCAPED_IN_FISH_SINGLE: Final = re.compile(r"\\([\\'])")

# What a shell makes something else of, or ends the command with.
_LIVE: Final = frozenset("$`*?[]{}~!()<>|&;#^")

_ENDING: Final = frozenset("()<>|&;\n")


class Word(NamedTuple):
    """A word as it was typed: with its quotes, what it stands for, and the quote that is open at its end."""

    typed: str = ""
    value: str = ""
    quote: str = ""
    is_live: bool = False
    """Whether the shell makes something else of it, which only the shell knows."""


def words(line: str, *, fish: bool = False) -> list[Word]:
    """Return the words of a command, the last one unfinished; none if the cursor is in no argument of it."""
    found = [Word()]
    for piece in (_IN_FISH if fish else _IN_SHELL).finditer(line):
        typed, value, quote, is_live = found[-1]
        kind = piece.lastgroup or ""
        if kind == "space":
            if typed:
                found.append(Word())
            continue
        if kind == "plain":
            if piece[0] in _ENDING:
                return []
            value += piece[0]
            is_live = is_live or piece[0] in _LIVE
        elif kind == "escaped":
            value += piece["escaped"]
        elif kind.startswith("single"):
            content = piece["single"]
            value += _ESCAPED_IN_FISH_SINGLE.sub(r"\1", content) if fish else content
            quote = "" if piece["single_end"] else "'"
        else:
            content = piece["double"]
            value += _ESCAPED_IN_DOUBLE.sub(r"\1", content)
            is_live = is_live or re.search(r"[$`]", re.sub(r"\\.", "", content, flags=re.DOTALL)) is not None
            quote = "" if piece["double_end"] else '"'
        found[-1] = Word(typed + piece[0], value, quote, is_live)
    return found


def quoted(text: str, quote: str) -> str:
    """Return a text as bash reads it back after what was typed before, inside the quote that is open there."""
    if quote == "'":
        return text.replace("'", "'\\''")
    if quote == '"':
        # An exclamation mark recalls a command of the history, also in double quotes, where nothing escapes it.
        return re.sub(r'([\\"$`])', r"\\\1", text).replace("!", "\"'!'\"")
    return re.sub(r"([^\w@%+=:,./-])", r"\\\1", text)


class _Completion(ShellComplete):
    """What all shells share: the line up to the cursor in, one line for each way to go on out."""

    def get_completion_args(self) -> tuple[list[str], str]:
        self.words = words(os.environ.get("COMP_WORDS", ""), fish=self.name == "fish")
        values = [word.value for word in self.words]
        return values[1:-1], values[-1] if values else ""

    def complete(self) -> str:
        arguments, incomplete = self.get_completion_args()
        if len(self.words) < 2:
            return ""
        found = self.get_completions(arguments, incomplete)
        safe = (item for item in found if self._is_safe(item, arguments, incomplete))
        return "\n".join(line for item in safe for line in self.lines(item))

    @staticmethod
    def _is_safe(item: CompletionItem, arguments: list[str], incomplete: str) -> bool:
        """Whether this is a value that can be typed, and is not taken for an option."""
        is_option = item.value.startswith("-") and not incomplete.startswith("-") and "--" not in arguments
        return item.type == "plain" and not is_option and escaped(item.value) == item.value

    def lines(self, item: CompletionItem) -> Iterator[str]:
        """Yield a line for the shell's script; none where what was typed would stay, and be more than text."""
        if not self.words[-1].is_live:
            yield self.format_completion(item)

    def format_completion(self, item: CompletionItem) -> str:
        return f"{item.value}\t{item.help}" if item.help else str(item.value)


class _Bash(_Completion):
    name = "bash"

    # $2 is what bash replaces: the end of the word, from its quote or from a character of COMP_WORDBREAKS on.
    source_template = """\
%(complete_func)s() {
    local line
    COMPREPLY=()
    while IFS= read -r line; do
        [[ $line == plain,* ]] && COMPREPLY+=("${line#plain,}")
    done < <(env COMP_WORDS="${COMP_LINE:0:COMP_POINT}" COMP_TEXT="$2" %(complete_var)s=bash_complete "$1" 2>/dev/null)
}
complete -o bashdefault -o default -F %(complete_func)s %(prog_name)s
"""

    def lines(self, item: CompletionItem) -> Iterator[str]:
        typed = self.words[-1].typed
        replaced = os.environ.get("COMP_TEXT", typed)
        if typed.endswith(replaced):
            kept = [Word(), *words(typed[: len(typed) - len(replaced)])][-1]
            if not kept.is_live and item.value.startswith(kept.value):
                yield f"plain,{quoted(item.value[len(kept.value) :], kept.quote)}"


class _Zsh(_Completion):
    name = "zsh"

    source_template = """\
#compdef %(prog_name)s
%(complete_func)s() {
    local line
    local -a values shown
    local -x COMP_WORDS="${(j: :)words[1,CURRENT]}" %(complete_var)s=zsh_complete
    for line in "${(@f)$("${words[1]}" 2>/dev/null)}"; do
        [[ -n $line ]] || continue
        values+=("${line%%%%$'\\t'*}")
        shown+=("${line/$'\\t'/  -- }")
    done
    if (( $#values )); then
        compadd -l -d shown -a values
    else
        _files
    fi
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    %(complete_func)s "$@"
else
    compdef %(complete_func)s %(prog_name)s
fi
"""


class _Fish(_Completion):
    name = "fish"

    def lines(self, item: CompletionItem) -> Iterator[str]:
        # Fish leaves a tilde in front unquoted, which then means a home directory.
        return iter(()) if item.value.startswith("~") else super().lines(item)

    source_template = """\
function %(complete_func)s
    set -lx COMP_WORDS (commandline -cp | string collect)
    set -lx %(complete_var)s fish_complete
    set -l found (%(prog_name)s 2>/dev/null | string match -r '.+')
    if test (count $found) -gt 0
        printf '%%s\\n' $found
    else
        __fish_complete_path (commandline -ct)
    end
end
complete --no-files --command %(prog_name)s --arguments '(%(complete_func)s)'
"""


for _shell in (_Bash, _Zsh, _Fish):
    add_completion_class(_shell)
