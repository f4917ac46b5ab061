"""Secrets in code are masked, and nothing else is."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
from typing import TYPE_CHECKING, Any, Final

import pytest

from localstore.surroundings import patterns
from localstore.surroundings.masking import (
    MARK_PATTERN,
    mask,
    mask_arguments,
    mask_text,
    mask_url,
    mask_value,
    mask_variables,
)
from tests.house.sources import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

# Assembled here, so that no scanner takes this file for a leak.
B62: Final = "AbCdEf0123456789AbCdEf0123456789AbCdEf01"
HEX40: Final = hashlib.sha1(b"wandb", usedforsecurity=False).hexdigest()
JWT: Final = ".".join(
    base64.urlsafe_b64encode(part).decode().rstrip("=")
    for part in (b'{"alg":"HS256","typ":"JWT"}', b'{"sub":"1234567890"}', bytes(range(32)))
)
SECRETS: Final = {
    "aws-access-key": "AKIA" + "IOSFODNN7EXAMPLE",
    "github-token": "ghp_" + B62[:36],
    "gitlab-token": "glpat-" + B62[:20],
    "slack-token": "xoxb-123456789012-" + B62[:24],
    "anthropic-key": "sk-ant-api03-" + B62,
    "openai-key": "sk-proj-" + B62,
    "huggingface-token": "hf_" + B62[:34],
    "google-api-key": "AIza" + B62[:35],
    "stripe-key": "sk_live_" + B62[:24],
    "npm-token": "npm_" + B62[:36],
    "wandb-key": "wandb_v1_" + B62 + B62,
    "databricks-token": "dapi" + HEX40[:32],
    "jwt": JWT,
    "localstore-recovery-code": "LS1-" + "-".join(["A2B3", "C4D5"] * 7),
    "localstore-ticket": base64.b64encode(b"LSTK" + bytes(range(90))).decode(),
    "age-key": "AGE-SECRET-KEY-1" + "QZ" * 29,
}
KEY_LINES: Final = [base64.b64encode(bytes([at] * 48)).decode() for at in range(3)]
PRIVATE_KEY: Final = "\n".join(
    [
        "-----BEGIN OPENSSH PRIVATE KEY-----",
        *KEY_LINES,
        "c2hvcnQ=",
        "-----END OPENSSH PRIVATE KEY-----",
    ]
)


def masked(text: str, path: str = "train.py") -> str:
    """The text as it is kept; checks what always holds."""
    content, marks = mask(path, text.encode())
    clean = content.decode()
    assert clean.count("\n") == text.count("\n")
    assert len(marks) == len(MARK_PATTERN.findall(clean))
    for one in marks:
        assert one["file"] == path
        assert f"MASKED:{one['kind']}" in clean.split("\n")[one["line"] - 1]
    return clean


# ------------------------------------------------------------------ what must go
@pytest.mark.parametrize(("kind", "value"), SECRETS.items(), ids=SECRETS)
@pytest.mark.parametrize(
    "around",
    ['client("{}")', "x = {}", "{}", "key: {}\n", "+    f('{}')", '{{"a": "{}"}}', "[{},1]"],
)
def test_a_key_is_masked_wherever_it_stands(kind: str, value: str, around: str) -> None:
    text = f"first\n{around.format(value)}\nlast"
    assert masked(text) == f"first\n{around.format(f'***MASKED:{kind}***')}\nlast"


@pytest.mark.parametrize(
    "line",
    [
        'password = "hunter22"',
        "passwd='tr0ub4dor&3'",
        'PASSWORD: str = "S3cret!x"',
        "db_password: S3cretPassw0rd",
        "DB_PWD=S3cretPassw0rd",
        '"password": "correct7horse",',
        f'api_key = "{HEX40}"',
        f'os.environ["WANDB_API_KEY"] = "{HEX40}"',
        f'os.environ.setdefault("WANDB_API_KEY", "{HEX40}")',
        f"export WANDB_API_KEY={HEX40}",
        f"WANDB_API_KEY={HEX40} python train.py",
        f"wandb.login(key='{HEX40}')",
        f"token: {B62}",
        f'auth_token := "{B62}"',
        f"AWS_SECRET_ACCESS_KEY={B62}",
        f'"  \\"api_key\\": \\"{B62}\\",\\n",',
        f'headers = {{"Authorization": "Bearer {B62}"}}',
        f"curl -H 'Authorization: Basic {B62}'",
        f"'postgres://ada:s3cret@db.example/x?a={B62}'"[:38] + "'",
        f"https://{B62}@github.com/a/b",
        "mongodb://ada:p@ss@w0rd@host/db",
        f"https://x.blob.example/c?sv=1&sig={B62}%3D",
        f"https://hooks.slack.com/services/T0000/B0000/{B62}",
        "redis://:s3cretword@host:6379",
    ],
)
def test_a_value_with_a_telling_name_is_masked(line: str) -> None:
    assert "***MASKED:" in masked(line)
    for part in ("hunter22", "tr0ub4dor", "3cret", "horse", HEX40, B62, "w0rd"):
        assert part not in masked(line)


def test_a_private_key_keeps_its_lines_and_loses_their_content() -> None:
    mark = "***MASKED:private-key***"
    begin, *_, finish = PRIVATE_KEY.split("\n")
    assert masked(f"a\n{PRIVATE_KEY}\nb").split("\n") == ["a", begin, *[mark] * 4, finish, "b"]


@pytest.mark.parametrize("prefix", ["    ", "+", "-", " ", '    "', "# ", "| "])
def test_a_private_key_is_masked_behind_prefixes(prefix: str) -> None:
    text = "\n".join(
        prefix + line + ('\\n"' if '"' in prefix else "") for line in PRIVATE_KEY.split("\n")
    )
    clean = masked(text)
    assert clean.count("MASKED:private-key") == 4
    assert all(line.startswith(prefix) for line in clean.split("\n"))
    assert KEY_LINES[1] not in clean


def test_the_end_of_a_private_key_that_a_patch_shows_is_masked() -> None:
    shown = "@@ -9,4 +9,5 @@\n " + "\n ".join(PRIVATE_KEY.split("\n")[2:]) + "\n+x = 1\n"
    clean = masked(shown, "diff.patch")
    assert clean.count("MASKED:private-key") == 3
    assert clean.endswith("\n+x = 1\n")


def test_a_private_key_in_one_line_of_json_is_masked() -> None:
    text = json.dumps({"private": PRIVATE_KEY, "other": "kept"})
    clean = masked(text)
    assert json.loads(clean)["other"] == "kept"
    assert not any(line in clean for line in KEY_LINES)


def test_a_notebook_with_a_key_stays_a_notebook() -> None:
    source = [f'api_key = "{B62}"\n', "x = 1\n"]
    image = base64.b64encode(bytes(range(256)) * 40).decode()
    document: dict[str, Any] = {"cells": [{"source": source, "outputs": [{"image/png": image}]}]}
    clean = json.loads(masked(json.dumps(document, indent=1), "a.ipynb"))
    assert clean["cells"][0]["source"][0] == 'api_key = "***MASKED:api-key***"\n'
    assert clean["cells"][0]["outputs"] == [{"image/png": image}]


def test_a_ticket_is_masked_whole() -> None:
    content, marks = mask("x.ticket", b"LSTK\x01\x00" + bytes(range(99)))
    assert content == b"***MASKED:localstore-ticket***"
    assert marks == [{"file": "x.ticket", "line": 1, "kind": "localstore-ticket"}]


def test_a_binary_file_loses_private_keys_and_keeps_its_length() -> None:
    content = b"\x7fELF\0\0" + PRIVATE_KEY.encode() + b"\0" + SECRETS["github-token"].encode()
    clean, marks = mask("tool", content)
    assert len(clean) == len(content)
    assert KEY_LINES[0].encode() not in clean
    assert clean.endswith(SECRETS["github-token"].encode())
    assert {one["kind"] for one in marks} == {"private-key"}


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_text_of_two_bytes_a_character_is_masked(encoding: str) -> None:
    text = f"\ufeffä = 1\nx = '{SECRETS['github-token']}'\n"
    clean, marks = mask("x.ps1", text.encode(encoding))
    assert clean.decode(encoding) == "\ufeffä = 1\nx = '***MASKED:github-token***'\n"
    assert marks[0]["line"] == 2


def test_several_in_one_line_are_all_masked() -> None:
    line = f"f('{SECRETS['github-token']}', '{SECRETS['openai-key']}', password='hunter22')"
    assert masked(line) == (
        "f('***MASKED:github-token***', '***MASKED:openai-key***',"
        " password='***MASKED:password***')"
    )


def test_what_was_found_is_not_returned() -> None:
    _, marks = mask("x.py", f"a\nb = '{SECRETS['github-token']}'".encode())
    assert marks == [{"file": "x.py", "line": 2, "kind": "github-token"}]


def test_masking_twice_is_masking_once() -> None:
    text = "\n".join([*SECRETS.values(), PRIVATE_KEY, f"token = '{B62}'", "https://a:b1@c/"])
    once = masked(text)
    assert mask("train.py", once.encode()) == (once.encode(), [])


# ------------------------------------------------------------------ what must stay
@pytest.mark.parametrize(
    "line",
    [
        f'commit = "{HEX40}"',
        f"sha256:{hashlib.sha256(b'x').hexdigest()}",
        f"numpy==1.0 --hash=sha256:{hashlib.sha256(b'x').hexdigest()}",
        f'"integrity": "sha512-{base64.b64encode(hashlib.sha512(b"x").digest()).decode()}"',
        f'content-hash = "{hashlib.sha256(b"y").hexdigest()}"',
        f'cache_key = "{HEX40}"',
        f'token_hash = "{HEX40}"',
        'run_id = "123e4567-e89b-12d3-a456-426614174000"',
        'tokenizer = AutoTokenizer.from_pretrained("bert-base-uncased")',
        'pad_token = "<|endoftext|>"',
        'eos_token="</s>", unk_token="[UNK]"',
        'model_token = "meta-llama-3-8b-instruct"',
        "token = tokens[index_of_the_1st_token]",
        "max_token=2048",
        "num_token: int = 4096",
        "password = getpass.getpass()",
        "client(password=args.password2, user=u)",
        'api_key=os.getenv("OPENAI_API_KEY")',
        'api_key = "your-api-key-here-1234"',
        'api_key="<YOUR_API_KEY_1234567>"',
        "api_key: ${OPENAI_API_KEY_2}",
        'secret = b"ls1/secret"',
        "secret: my-app-secret-2",
        'def f(token: str = "", password: str | None = None): ...',
        'if token == "AbCdEf0123456789AbCdEf0123": pass',
        '"password": "Enter your password, 8 characters",',
        'url = f"https://{user}:{password}@host/"',
        "http://localhost:8080/a@b",
        "git@github.com:ada/train.git",
        "ssh://git@github.com/ada/train.git",
        '<div class="sk-toggleable__content fitted sk-estimator-doc-link-1">',
        'if text.startswith("-----BEGIN PRIVATE KEY-----"):\n    pass\n',
        "x = ASIA_PACIFIC_REGION_OF_2024",
        "eyJust.a.sentence",
        "lr = 3e-4; hidden = [1024, 2048]; seed = 20240101123456789",
    ],
)
def test_ordinary_code_is_not_masked(line: str) -> None:
    assert masked(line) == line


def test_a_picture_in_base64_is_not_masked() -> None:
    # Long enough that every short prefix of a key is in it somewhere.
    blob = b"".join(hashlib.sha512(bytes([at % 256, at // 256])).digest() for at in range(20_000))
    text = base64.b64encode(blob).decode()
    assert any(prefix in text for prefix in ("eyJ", "AKIA", "SG"))
    assert masked(f'"image/png": "{text}"\n') == f'"image/png": "{text}"\n'


def test_little_of_this_projects_own_code_looks_like_a_secret() -> None:
    kept = sorted((ROOT / "localstore").rglob("*.py"))
    marks = [mark for path in kept for mark in mask(path.name, path.read_bytes())[1]]
    assert marks == []


def test_bytes_that_are_no_text_of_any_kind_pass_unchanged() -> None:
    content = bytes(range(1, 256)) * 3
    assert mask("x", content) == (content, [])


def test_contents_of_binary_files_in_a_patch_are_left_whole() -> None:
    binary = "GIT binary patch\nliteral 9\nz" + SECRETS["github-token"] + "\n\n"
    text = f"diff --git a/x b/x\n{binary}diff --git a/y b/y\n+{SECRETS['github-token']}\n"
    clean = masked(text, "diff.patch")
    assert clean == f"diff --git a/x b/x\n{binary}diff --git a/y b/y\n+***MASKED:github-token***\n"


# ------------------------------------------------------------------ cost
def every_pattern() -> Iterator[tuple[str, re.Pattern[str]]]:
    for kind in patterns.KINDS:
        yield kind.name, kind.pattern
    for name, value in vars(patterns).items():
        if isinstance(value, re.Pattern):
            yield name, value


def repeats(parsed: Any) -> Iterator[tuple[str, int, int]]:
    """Operator, least and most of every repetition in a parsed pattern."""
    for operator, argument in parsed:
        if str(operator) in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
            yield str(operator), argument[0], argument[1]
        stack = [argument]
        while stack:
            one = stack.pop()
            if isinstance(one, re._parser.SubPattern):  # type: ignore[attr-defined]  # no stub
                yield from repeats(one)
            elif isinstance(one, list | tuple):
                stack += one


@pytest.mark.parametrize(("name", "pattern"), list(every_pattern()))
def test_a_pattern_looks_at_each_character_a_bounded_number_of_times(
    name: str, pattern: re.Pattern[str]
) -> None:
    """Repetitions that can be tried again multiply; all others only add up."""
    tries = 1
    for operator, least, most in repeats(re._parser.parse(pattern.pattern)):  # type: ignore[attr-defined]  # no stub
        assert int(most) < 10_000, "a repetition without an end"
        if operator != "POSSESSIVE_REPEAT":
            tries *= int(most) - int(least) + 1
    assert tries <= 64


def test_ten_megabytes_of_hostile_text_are_looked_through() -> None:
    pieces = (
        *("eyJ", "AKIA", "://", "://u:" + "p@" * 9, "sk-", 'password="', "token: ", "LS1-AAAA-"),
        *("-----BEGIN PRIVATE KEY-----", "\n-----END PRIVATE KEY-----", "A" * 64 + "\n", "\n"),
        *("Bearer ", 'password: \\"', "tokentoken", "?sig=", "eyJaaaaaaaaaaaaaaa."),
    )
    share = 10_000_000 // len(pieces)
    text = "".join(piece * (share // len(piece) + 1) for piece in pieces)
    assert len(text) >= 10_000_000
    secrets = patterns.find_secrets(text)
    assert all(a.end <= b.start for a, b in itertools.pairwise(secrets))


# ------------------------------------------------------------------ addresses and command lines
@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://ada:pw@example.org/x.git", "https://example.org/x.git"),
        (f"https://ghp_{B62[:36]}@example.org/x", "https://example.org/x"),
        ("ssh://git:pw@example.org:22/x", "ssh://git@example.org:22/x"),
        ("git+ssh://git@example.org/x", "git+ssh://git@example.org/x"),
        ("git@example.org:x/y.git", "git@example.org:x/y.git"),
        (
            "https://h/x?access_token=abc&depth=1",
            "https://h/x?access_token=***MASKED:url-token***&depth=1",
        ),
        ("https://h/x#token=abc", "https://h/x#token=***MASKED:url-token***"),
        ("https://a@b:c@h/x", "https://h/x"),
        ("/srv/git/x.git", "/srv/git/x.git"),
        ("", ""),
    ],
)
def test_an_address_loses_its_credentials(url: str, expected: str) -> None:
    assert mask_url(url) == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--password", "x"], ["--password", "***MASKED:password***"]),
        (["--api-key=x"], ["--api-key=***MASKED:api-key***"]),
        (["wandb.api_key=x"], ["wandb.api_key=***MASKED:api-key***"]),
        (["+login.password=x y"], ["+login.password=***MASKED:password***"]),
        (["--token", "x"], ["--token", "***MASKED:token***"]),
        (["--password", "-x"], ["--password", "***MASKED:password***"]),
        (["--data", "https://a:b@h/x"], ["--data", "https://a:***MASKED:url-password***@h/x"]),
        ([SECRETS["huggingface-token"]], ["***MASKED:huggingface-token***"]),
        (["--max-token", "512", "--lr", "0.1"], None),
        (["--pad_token", "<pad>", "--eos-token=x1"], None),
        (["--tokenizer", "bert", "--password-file", "/p", "--secret=none"], None),
        (["--password", "--verbose"], None),
        (["train.py", "a=b", "", "--", "-c"], None),
    ],
)
def test_secrets_of_a_command_line_are_masked(words: list[str], expected: list[str] | None) -> None:
    assert mask_arguments(words) == (words if expected is None else expected)


def test_a_variable_is_masked_by_its_name_or_by_its_look() -> None:
    given = {"API_TOKEN": "x", "ADDRESS": "https://a:b@h", "CUDA_VISIBLE_DEVICES": "0,1"}
    assert mask_variables(given) == {
        "API_TOKEN": "***MASKED:token***",
        "ADDRESS": "https://a:***MASKED:url-password***@h",
        "CUDA_VISIBLE_DEVICES": "0,1",
    }
    assert mask_value("TOKEN", "") == ""
    assert mask_text(f"see {SECRETS['github-token']}") == "see ***MASKED:github-token***"
