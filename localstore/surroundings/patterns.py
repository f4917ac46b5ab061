"""What keys, tokens and passwords look like in text, and where they stand.

Every pattern begins with a literal, does not begin inside a longer word, and repeats possessively
within bounds: no text, however hostile, costs more than a few looks at each of its characters.
Texts are one character per byte (latin-1), so that what is no ASCII passes through unharmed.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


class Secret(NamedTuple):
    """Where a secret stands in a text, from and to which character, and what kind it is."""

    start: int
    end: int
    kind: str


# ------------------------------------------------------------------ what a secret looks like
_PLACEHOLDER: Final = re.compile(
    r"(?i)^(?:x{3}|\*{3}|\.{3}|(?:your|my|the|some|an?)[-_. ]|example|sample|dummy|fake|"
    r"change|replace|insert|enter|todo|none|null|true|false|undefined|redacted|masked)|"
    r"\$[{(A-Z_]|%[s(]|^[<{\[]|[>}\]]$|<\||\{[a-z0-9_.]{0,80}+\}",
    re.ASCII,
)
_WORDS: Final = re.compile(
    r"(?:[A-Z]{0,20}+[a-z]{2,20}+){1,6}+\d{0,3}+|[A-Z]{1,20}+\d{0,3}+|[A-Za-z]?+\d{1,6}+[a-z]?+",
    re.ASCII,
)
_RANDOM_CHARS: Final = 16
_RANDOM_BITS: Final = 2.8  # per character; random hexadecimal of 16 characters has about 3.2
_PASSWORD_CHARS: Final = 6
_CODE: Final = "<>{}()[] "  # what an expression has and a key has not
_STRONG_SIGNS: Final = frozenset("!@#^&*+=~?;")


def looks_random(value: str) -> bool:
    """Whether a text is long and mixed as a key is, and no words, path, number or placeholder."""
    if len(value) < _RANDOM_CHARS or _PLACEHOLDER.search(value) or any(map(_CODE.count, value)):
        return False
    if not (_has_digit(value) and any(map(str.isalpha, value))):
        return False
    return not _is_words(value) and _bits_per_character(value) >= _RANDOM_BITS


def _is_words(value: str) -> bool:
    """Whether a value is words and small numbers, as names of models and variables are."""
    return all(_WORDS.fullmatch(part) for part in re.split(r"[^A-Za-z0-9]", value) if part)


def _bits_per_character(value: str) -> float:
    count = len(value)
    return -sum(n / count * math.log2(n / count) for n in Counter(value).values())


def looks_like_password(value: str) -> bool:
    """Whether a literal that is called a password is one, and no word or placeholder."""
    if len(value) < _PASSWORD_CHARS or " " in value or _PLACEHOLDER.search(value):
        return False
    return _has_digit(value) or (
        any(map(str.isalpha, value)) and not _STRONG_SIGNS.isdisjoint(value)
    )


# ------------------------------------------------------------------ keys that say what they are
class Kind:
    """A kind of secret: the literals without one of which it is not there, and its pattern.

    Its group `secret` is the secret, or all of the match where it has no such group.
    """

    def __init__(
        self,
        name: str,
        literals: Sequence[str],
        pattern: str,
        accept: Callable[[str], bool] = bool,
    ) -> None:
        self.name, self.literals, self.accept = name, tuple(literals), accept
        self.pattern = re.compile(pattern, re.ASCII)
        self._group: str | int = "secret" if "secret" in self.pattern.groupindex else 0

    def find(self, text: str) -> Iterator[Secret]:
        """Each secret of this kind in a text."""
        if any(literal in text for literal in self.literals):
            for match in self.pattern.finditer(text):
                if self.accept(match[self._group]):
                    yield Secret(match.start(self._group), match.end(self._group), self.name)


def _has_digit(value: str) -> bool:
    return any(map(str.isdigit, value))


def _is_literal(value: str) -> bool:
    """Whether a password in an address is one, and no place for one."""
    return not re.search(r"[{}$<>]|%[s(]|\*\*\*MASKED:", value)


def _is_random_in_query(value: str) -> bool:
    return looks_random(value.replace("%", ""))


_OUT: Final = r"(?<![A-Za-z0-9_\-])"  # not inside a longer word, base64 or a hash
_B64: Final = r"(?<![A-Za-z0-9/+=_\-])"
_END: Final = r"(?![A-Za-z0-9_\-])"
_TAIL: Final = r"[A-Za-z0-9_\-]"
_RECOVERY: Final = r"LS1(?:-[A-Z2-7]{4}){13,14}+"

KINDS: Final[tuple[Kind, ...]] = (
    Kind(
        "aws-access-key",
        ("AKIA", "ASIA", "ABIA", "ACCA"),
        rf"{_B64}A(?:KIA|SIA|BIA|CCA)[A-Z0-9]{{16}}(?![A-Za-z0-9/+=_\-])",
        _has_digit,
    ),
    Kind("github-token", ("gh",), rf"{_OUT}gh[pousr]_[A-Za-z0-9]{{36,255}}+{_END}"),
    Kind("github-token", ("github_pat_",), rf"{_OUT}github_pat_[A-Za-z0-9_]{{22,255}}+"),
    Kind(
        "gitlab-token",
        ("glpat-", "gldt-", "glrt-", "glptt-", "glcbt-"),
        rf"{_OUT}gl(?:pat|dt|rt|ptt|cbt)-[A-Za-z0-9_\-.]{{20,300}}+",
    ),
    Kind("slack-token", ("xox", "xapp-"), rf"{_OUT}(?:xox[abeoprs]|xapp)-[A-Za-z0-9\-]{{10,300}}+"),
    Kind(
        "slack-webhook",
        ("hooks.slack.com/",),
        r"hooks\.slack\.com/(?:services|workflows)/(?P<secret>[A-Za-z0-9/_]{20,200}+)",
    ),
    Kind("anthropic-key", ("sk-ant-",), rf"{_OUT}sk-ant-[A-Za-z0-9_\-]{{20,300}}+", looks_random),
    Kind("openai-key", ("sk-",), rf"{_OUT}sk-[A-Za-z0-9_\-]{{20,300}}+", looks_random),
    Kind("huggingface-token", ("hf_",), rf"{_OUT}(?:api_org|hf)_[A-Za-z0-9]{{30,60}}+{_END}"),
    Kind("google-api-key", ("AIza",), rf"{_B64}AIza{_TAIL}{{35}}{_END}"),
    Kind("google-oauth-token", ("ya29.",), rf"{_OUT}ya29\.{_TAIL}{{20,2000}}+"),
    Kind("google-client-secret", ("GOCSPX-",), rf"{_OUT}GOCSPX-{_TAIL}{{20,60}}+"),
    Kind(
        "stripe-key",
        ("k_live_", "k_test_", "whsec_"),
        rf"{_OUT}(?:[rsp]k_(?:live|test)|whsec)_[A-Za-z0-9]{{16,255}}+",
    ),
    Kind(
        "jwt",
        ("eyJ",),
        rf"(?<![A-Za-z0-9/+=_\-.])eyJ{_TAIL}{{10,8000}}+\.eyJ{_TAIL}{{10,8000}}+\.{_TAIL}{{10,8000}}+",
    ),
    Kind("npm-token", ("npm_",), rf"{_OUT}npm_[A-Za-z0-9]{{36}}{_END}"),
    Kind("pypi-token", ("pypi-AgE",), rf"{_OUT}pypi-AgE{_TAIL}{{50,1000}}+"),
    Kind("docker-token", ("dckr_pat_",), rf"{_OUT}dckr_pat_{_TAIL}{{20,100}}+"),
    Kind("sendgrid-key", ("SG.",), rf"{_OUT}SG\.{_TAIL}{{16,64}}+\.{_TAIL}{{16,64}}+"),
    Kind("databricks-token", ("dapi",), rf"{_OUT}dapi[0-9a-f]{{32}}(?:-\d)?+{_END}"),
    Kind(
        "azure-storage-key",
        ("AccountKey=",),
        r"AccountKey=(?P<secret>[A-Za-z0-9+/]{40,100}+={0,2}+)",
    ),
    Kind("age-key", ("AGE-SECRET-KEY-1",), rf"{_OUT}AGE-SECRET-KEY-1[A-Z0-9]{{58}}{_END}"),
    Kind("wandb-key", ("wandb_v1_",), rf"{_OUT}wandb_v1_{_TAIL}{{40,200}}+"),
    Kind("localstore-recovery-code", ("LS1-",), rf"{_OUT}{_RECOVERY}"),
    Kind("localstore-ticket", ("TFNUS",), rf"{_B64}TFNUS[A-Za-z0-9+/_\-]{{80,9999}}+={{0,2}}+"),
    Kind(
        "authorization",
        ("earer ", "asic ", "oken "),
        r"(?<![A-Za-z])(?:[Bb]earer|[Bb]asic|[Tt]oken) {1,4}+"
        r"(?P<secret>[A-Za-z0-9_\-.~+/=]{16,4000}+)",
        looks_random,
    ),
    Kind(
        "url-password",
        ("://",),
        r"://[^\s/@:'\"<>\\]{0,256}+:"
        r"(?P<secret>[^\s/@'\"<>\\]{1,256}+(?:@[^\s/@'\"<>\\]{1,256}+){0,3})@",
        _is_literal,
    ),
    Kind("url-token", ("://",), r"://(?P<secret>[A-Za-z0-9_\-]{16,256}+)@", looks_random),
    Kind(
        "url-token",
        ("sig=", "ignature=", "key=", "oken=", "redential="),
        r"[?&](?:[Xx]-(?:[Aa]mz|[Gg]oog)-)?+(?:[Ss]ig|[Ss]ignature|key|[Tt]oken|[Cc]redential)="
        r"(?P<secret>[A-Za-z0-9%_\-.~+/=]{16,4000}+)",
        _is_random_in_query,
    ),
)

# ------------------------------------------------------------------ values with a telling name
_PASSWORD_NAMES: Final = ("password", "passwd", "passphrase", "pwd", "secret")
_KEY_NAMES: Final = (
    r"(?:api|access|secret|private|account|auth|signing|encryption|service|license)[_\-]?+key"
)
_NAMES: Final = rf"password|passwd|passphrase|pwd|secret|token|{_KEY_NAMES}|login\(key"
_SEPARATOR: Final = (
    r"(?:"
    r"\\?+[\"'`][ ]{0,4}+,"  # setdefault("API_KEY", …
    r"|(?:\\?+[\"'`]\]?+)?+[ \t]{0,20}+(?:"
    r":[ ]{0,4}+[A-Za-z_][A-Za-z_.\[\]| ]{0,40}+=(?!=)"  # token: str = …
    r"|:=|=>|[=:](?![=:])"
    r"))"
)
_ASSIGNED: Final = re.compile(
    rf"(?i)(?P<name>{_NAMES}){_SEPARATOR}[ \t]{{0,20}}+\(?+(?:"
    r"[bru]{0,2}+\\?+[\"'`](?P<quoted>[^\s\"'`\\]{6,4096}+)(?=\\?[\"'`])"
    r"|(?P<bare>[A-Za-z0-9_\-+/=~!@#^&*?]{8,4096}+)(?=[\s;,#&)]|\Z)"
    r")",
    re.ASCII,
)
_LINE_END: Final = re.compile(r"[ \t\r]{0,9}+(?:\n|\Z)")
_ASSIGNED_LITERALS: Final = (*_PASSWORD_NAMES, "token", "key")


def _assigned(text: str) -> Iterator[Secret]:
    lowered = text.lower()
    if not any(literal in lowered for literal in _ASSIGNED_LITERALS):
        return
    for match in _ASSIGNED.finditer(text):
        kind = kind_of_name(match["name"])
        group = "quoted" if match["quoted"] is not None else "bare"
        value = match[group]
        random = kind not in ("password", "secret")
        good = looks_random(value) if random else looks_like_password(value)
        if kind == "secret" or (group == "bare" and not random):
            good = good and not _is_words(value)
        if group == "bare" and not random:  # `password=other[1], …` is code, no file of settings
            good = good and _LINE_END.match(text, match.end()) is not None
        if good:
            yield Secret(match.start(group), match.end(group), kind)


def kind_of_name(name: str) -> str:
    """What kind of secret a name such as `WANDB_API_KEY` announces; empty: none."""
    match = _SECRET_NAME.search(name)
    if match is None:
        return ""
    word = match[1].lower()
    if word in ("secret", "token"):
        return word
    return "password" if word in _PASSWORD_NAMES else "api-key"


_SECRET_NAME: Final = re.compile(rf"(?i)({_NAMES})\Z", re.ASCII)

# ------------------------------------------------------------------ blocks of private keys
_BEGIN: Final = re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}?PRIVATE KEY(?: BLOCK)?+-----")
_FINISH: Final = re.compile(r"-----END [A-Z0-9 ]{0,40}?PRIVATE KEY(?: BLOCK)?+-----")
_BODY: Final = re.compile(
    r"[ \t+\-\"'#*>|]{0,99}+"
    r"(?P<body>[A-Za-z0-9+/=]{1,4096}+|(?:Proc-Type|DEK-Info|Comment|Version):[^\n]{0,200}+)"
    r"(?:\\n|[\"',+\\; \t\r)]){0,20}+",
    re.ASCII,
)
_RUN: Final = re.compile(r"[A-Za-z0-9+/=]{40}")
_BODY_CHARS: Final = 24  # a first line of a block has more; a word of code has less


def private_keys(text: str) -> Iterator[Secret]:
    """What stands between BEGIN and END of private keys; also where a patch shows only an end."""
    if "PRIVATE KEY" not in text:
        return
    at = 0
    while (begin := _BEGIN.search(text, at)) is not None:
        line_end = _line_end(text, begin.end())
        finish = _FINISH.search(text, begin.end(), line_end)
        at = finish.start() if finish else line_end
        if _RUN.search(text, begin.end(), at):  # all of it in one line, as JSON has it
            yield Secret(begin.end(), at, "private-key")
        if not finish:
            yield from _body_lines(text, line_end + 1)
    for finish in _FINISH.finditer(text):
        yield from _body_before(text, finish.start())


def _line_end(text: str, at: int) -> int:
    end = text.find("\n", at)
    return len(text) if end < 0 else end


def _body_lines(text: str, at: int) -> Iterator[Secret]:
    """Lines from `at` on that can be the body of a block."""
    inside = False
    while at < len(text):
        end = _line_end(text, at)
        match = _BODY.fullmatch(text, at, end)
        if match is not None:
            if not inside and len(match["body"]) < _BODY_CHARS:
                return
            inside = True
            yield Secret(match.start("body"), match.end("body"), "private-key")
        elif text[at:end].strip(" \t\r+-\"'#*>|"):
            return
        at = end + 1


def _body_before(text: str, at: int) -> list[Secret]:
    """The lines of a body that stand directly before the line of `at`; the last may be short."""
    found: list[Secret] = []
    end = text.rfind("\n", 0, at)
    while end > 0:
        start = text.rfind("\n", 0, end) + 1
        match = _BODY.fullmatch(text, start, end)
        long = match is not None and len(match["body"]) >= _BODY_CHARS
        if match is None or (found and not long):
            break
        found.append(Secret(match.start("body"), match.end("body"), "private-key"))
        end = start - 1
    is_body = len(found) > 1 or any(one.end - one.start >= _BODY_CHARS for one in found)
    return found if is_body else []


def find_secrets(text: str) -> list[Secret]:
    """All secrets in a text, in their order, none overlapping another."""
    found = [secret for kind in KINDS for secret in kind.find(text)]
    found += [*private_keys(text), *_assigned(text)]
    chosen: list[Secret] = []
    for secret in sorted(found, key=lambda one: (one.start, -one.end)):
        if not chosen or secret.start >= chosen[-1].end:
            chosen.append(secret)
        elif secret.end > chosen[-1].end:
            chosen[-1] = chosen[-1]._replace(end=secret.end)
    return chosen
