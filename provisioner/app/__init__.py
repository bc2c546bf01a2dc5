"""The only composition root: it imports every box and hands each what it needs of the others as ports.

Only the command line imports it, and only for the commands that are a controller or work without one. Each function
imports what it needs when it is called, because most commands need none of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def serve(
    *, embedded: bool, home: Path, host: str = "127.0.0.1", port: int = 8765, tls: str = "", server_log: bool = True
) -> None:
    """Be a controller until told to end. Raises: RequestError, StoreError."""
    import asyncio
    import os

    from .ask import step_down
    from .configure_log import configure
    from .serve import ServeOptions
    from .serve import serve as run

    configure()
    if not embedded:
        step_down(home)
    asyncio.run(run(ServeOptions(home=home, embedded=embedded, host=host, port=port, tls=tls), os.environ))


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


def gc_without_store(home: Path, *, dry_run: bool, expired: bool, provider: str = "") -> dict[str, list[str]]:
    """Collect with no database at all: only what is past its `expires-at` tag."""
    import asyncio

    from .offline import collect

    return asyncio.run(collect(home, dry_run=dry_run, expired=expired, provider=provider))


def db(action: str, home: Path, *, path: Path | None = None) -> str:
    """`upgrade`, `backup`, `rekey` or `restore`; what was done, in a sentence. Raises: RequestError, StoreError."""
    import asyncio

    from .offline import database

    return asyncio.run(database(action, home, path))
