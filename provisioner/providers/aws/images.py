"""Which image a machine boots from: one that was named, or the newest of a publisher's own, its owner checked."""

from __future__ import annotations

from dataclasses import dataclass

from provisioner.domain.errors import Rejected, Unreachable
from provisioner.domain.offer import Offer

from .account import Account
from .pace import Calls

# What the publishers keep their newest image's id under. Sources: AWS Deep Learning AMI developer guide, "Find your
# DLAMI id"; Canonical, "Find Ubuntu images on AWS".
_WITH_GPU = "/aws/service/deeplearning/ami/{arch}/base-oss-nvidia-driver-gpu-ubuntu-22.04/latest/ami-id"
_WITHOUT = "/aws/service/canonical/ubuntu/server/24.04/stable/current/{ubuntu_arch}/hvm/ebs-gp3/ami-id"
_UBUNTU_ARCH = {"x86_64": "amd64", "arm64": "arm64"}
# Accounts that publish them. Sources: as above.
OWNERS = frozenset({"898082745236", "099720109477"})


@dataclass(frozen=True, slots=True)
class Image:
    """`root` is the name of its root device, `least_gib` the smallest disk that it fits on."""

    id: str
    root: str
    least_gib: float


class Images:
    """`owners` are the accounts whose images are taken when none was named."""

    def __init__(self, account: Account, owners: frozenset[str] = OWNERS) -> None:
        self._account = account
        self._owners = owners
        self._known: dict[tuple[str, str], Image] = {}

    async def of(self, offer: Offer, named: str) -> Image:
        """`named`: an id, a parameter's path that begins with "/", or "". Raises: ProviderError."""
        wanted = named or self._usual(offer)
        key = offer.region, wanted
        if key not in self._known:
            self._known[key] = await self._look(offer, wanted, trusted=bool(named))
        return self._known[key]

    def forget(self, offer: Offer, named: str) -> None:
        """Look again the next time: it may be gone."""
        self._known.pop((offer.region, named or self._usual(offer)), None)

    def _usual(self, offer: Offer) -> str:
        pattern = _WITH_GPU if offer.gpu else _WITHOUT
        return pattern.format(arch=offer.arch, ubuntu_arch=_UBUNTU_ARCH.get(offer.arch, offer.arch))

    async def _look(self, offer: Offer, wanted: str, *, trusted: bool) -> Image:
        id = await self._parameter(offer, wanted) if wanted.startswith("/") else wanted
        answer = await self._account.call(Calls.READ, offer.region, "describe_images", offer=offer, ImageIds=[id])
        if not answer["Images"]:
            raise Rejected(f"there is no image {id} in {offer.region}", hint="an image's id holds for one region only")
        image = answer["Images"][0]
        owner, arch = image.get("OwnerId", ""), image.get("Architecture", "")
        if not trusted and owner not in self._owners:
            raise Rejected(f"image {id} is of account {owner}, which does not publish {wanted}")
        if arch != offer.arch:
            raise Rejected(
                f"image {id} is for {arch}, and {offer.instance_type} is {offer.arch}",
                hint="name an image of the machine's architecture, or another --instance-type",
            )
        disks = [one.get("Ebs", {}).get("VolumeSize", 0) for one in image.get("BlockDeviceMappings", [])]
        return Image(id, image.get("RootDeviceName") or "/dev/sda1", float(max(disks, default=0)))

    async def _parameter(self, offer: Offer, path: str) -> str:
        try:
            answer = await self._account.call(Calls.READ, offer.region, "get_parameter", service="ssm", Name=path)
        except Rejected as error:
            if "ParameterNotFound" in error.message:
                raise Rejected(
                    f"no image is published under {path} in {offer.region}", hint="name one: --image"
                ) from error
            raise
        value = str(answer["Parameter"]["Value"])
        if not value.startswith("ami-"):
            raise Unreachable(f"{path} says {value[:80]!r}, which is no image")
        return value
