"""The only composition root: it imports every box and hands each what it needs of the others as ports.

Only the command line imports it, and only for the commands that are a controller, or need more than one to talk to.
Each function imports what it needs when it is called, because most commands need none of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from provisioner.domain.kinds import Kinds


def forge_kinds() -> Kinds:
    """The kinds of forges that there are."""
    from provisioner.forges.registry import known

    return known()


def serve(
    *,
    embedded: bool,
    home: Path,
    host: str = "127.0.0.1",
    port: int = 8765,
    tls: str = "",
    server_log: bool = True,
    step_of: Path | None = None,
) -> None:
    """Be a controller until told to end. Raises: RequestError, StoreError."""
    import asyncio
    import os

    from .configure_log import configure
    from .serve import ServeOptions
    from .serve import serve as run

    configure()
    options = ServeOptions(home=home, step_of=step_of, embedded=embedded, host=host, port=port, tls=tls)
    asyncio.run(run(options, os.environ))


def install(home: Path, words: list[str]) -> list[str]:
    """Have systemd run `serve` with these words; what was done, in lines. Raises: InvalidRequest."""
    from .install import install as run

    return run(home, words)


def doctor(home: Path, provider: str = "") -> list[tuple[bool | None, str]]:
    """Lines of (fine, broken or neither, sentence), without needing a controller."""
    from .doctor import examine

    return examine(home, provider)


def offers(home: Path, need: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What the files here say can be had, as the API would say it. Raises: InvalidRequest."""
    import asyncio

    from .offers import listed

    return asyncio.run(listed(home, need))


def refresh_offers(home: Path, provider: str) -> list[dict[str, Any]]:
    """Read prices and types anew with the caller's own credentials; a row a region. Raises: RequestError,
    ProviderError."""
    import asyncio

    from .offers import refreshed

    return asyncio.run(refreshed(home, provider))


def resolved(provider: str, profile: str) -> dict[str, Any]:
    """Credentials as the cloud's own SDK finds them here, for handing over as JSON. Raises: ProviderError."""
    from provisioner.providers.registry import resolve

    found = resolve(provider, profile)
    expires_at = found.expires_at.isoformat() if found.expires_at else None
    return {
        "keys": dict(found.keys),
        "way": dict(found.way),
        "expires_at": expires_at,
        "temporary": found.temporary,
    }


def gc_without_store(
    home: Path, *, dry_run: bool, expired: bool, provider: str = "", but: str = ""
) -> dict[str, list[str]]:
    """Collect with no database at all: only what is past its `expires-at` tag, and is not of the controller `but`."""
    import asyncio

    from .offline import collect

    return asyncio.run(collect(home, dry_run=dry_run, expired=expired, provider=provider, but=but))


def db(action: str, home: Path, *, path: Path | None = None) -> str:
    """`upgrade`, `backup`, `rekey` or `restore`; what was done, in a sentence. Raises: RequestError, StoreError."""
    import asyncio

    from .offline import database

    return asyncio.run(database(action, home, path))


def gate(texts: Sequence[str], inputs: Mapping[str, tuple[str, ...]], base: str) -> list[dict[str, Any]]:
    """Verdicts on the metrics and tests that lie here, each with its `line`. Raises: RequestError."""
    import os

    from provisioner.reports.gather import Inputs

    from .reporting import gate as judge
    from .reporting import plain_verdicts

    verdicts = judge(texts, Inputs(**inputs), base, Path(), os.environ)
    return [{**plain, "line": one.line} for plain, one in zip(plain_verdicts(verdicts), verdicts, strict=True)]


def report(asked: Mapping[str, Any], inputs: Mapping[str, tuple[str, ...]], left: Sequence[Mapping[str, Any]]) -> Any:
    """A report on what lies here, or on what jobs left: a `reporting.Made`. Raises: RequestError."""
    import os

    from provisioner.reports.gather import Inputs

    from .reporting import JobLeft, Wanted, make
    from .reviewing import step

    wanted = Wanted(inputs=Inputs(**inputs), **asked)
    return make(wanted, [JobLeft(**one) for one in left], Path(), step(os.environ))


def place_to_post(target: str, repo: str, forge: str) -> Any:
    """A `reviewing.Place`: what was named, or where this CI step stands. Raises: InvalidRequest."""
    import os

    from .reviewing import place

    return place(os.environ, target=target, repo=repo, forge=forge)


def post(where: Any, write: Callable[[int], str], key: str, check: tuple[str, Any, str] | None = None) -> str:
    """Say it there, in the one comment of this key, or in a new one for the key ""; its address. Raises: ForgeError."""
    from .reviewing import Said
    from .reviewing import post as say

    return say(where, Said(write, key, check)).url


def step_summary() -> str:
    """The file whose Markdown the forge shows with this step's run; "" where there is none. Raises: InvalidRequest."""
    import os

    from .reviewing import step

    here = step(os.environ)
    return here.summary if here is not None else ""


def comment_text(markdown: str, folder: Path, shown: Callable[[Path], str], aside: Path) -> str:
    """Markdown with its local images at addresses that others can open."""
    from .reporting import comment_text as replaced

    return replaced(markdown, folder, shown, aside)
