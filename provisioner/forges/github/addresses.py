"""Where GitHub's API is, and where in it a site is."""

from __future__ import annotations

from urllib.parse import quote, urlsplit

from provisioner.domain.errors import ForgeRefused
from provisioner.domain.forge import Site


def api_of(base: str) -> str:
    """The API's address for a web address.

    Source: GitHub REST "Getting started", Enterprise Cloud "Data residency" and Enterprise Server documents, 2026."""
    parts = urlsplit(base)
    host = parts.netloc.lower()
    if host in ("github.com", "www.github.com"):
        return "https://api.github.com"
    if host.endswith(".ghe.com"):
        return f"{parts.scheme}://api.{host}"
    return f"{parts.scheme}://{parts.netloc}/api/v3"


def below(site: Site) -> str:
    """The path of a site: a repository, an organisation, or (enterprises/NAME) an enterprise.

    Raises: ForgeRefused."""
    words = [quote(word, safe="") for word in site.path.split("/") if word]
    if len(words) == 2:
        return f"/enterprises/{words[1]}" if words[0] == "enterprises" else f"/repos/{words[0]}/{words[1]}"
    if len(words) == 1:
        return f"/orgs/{words[0]}"
    hint = "write https://HOST/OWNER/REPOSITORY, https://HOST/OWNER or https://HOST/enterprises/NAME"
    raise ForgeRefused(f"{site.url}: runners are registered at a repository or an organisation", hint=hint)


def repository_of(path: str) -> str:
    """The path of a repository, which alone has jobs and comments. Raises: ForgeRefused."""
    if path.count("/") != 1 or path.startswith("enterprises/"):
        raise ForgeRefused(f"{path!r} is not a repository", hint="write https://HOST/OWNER/REPOSITORY")
    owner, _, name = path.partition("/")
    return f"/repos/{quote(owner, safe='')}/{quote(name, safe='')}"
