"""Signing keys of a repository: ed25519, one PEM file each, encrypted unless the caller insists otherwise.

A key's file is named `<role>-<first 8 digits of its id>.pem`. Keys may also come from the environment, as PEM text in
`POCKETREC_KEY_<ROLE>`, so that a build machine needs no key file. They are never written into a repository.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pocketrec.runtime.errors import ConfigError, MissingExtraError, SyncError

if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner

ROLES: Final = ("root", "targets", "snapshot", "timestamp")
PASSPHRASE: Final = "POCKETREC_KEY_PASSPHRASE"
_VARIABLE: Final = "POCKETREC_KEY_"
_FILE = re.compile(rf"({'|'.join(ROLES)})-[A-Za-z0-9._-]+\.pem")


@dataclass(frozen=True)
class SigningKey:
    """A private key and the role that it was made for."""

    role: str
    signer: CryptoSigner

    @property
    def id(self) -> str:
        """The key's id, 64 hex digits."""
        return str(self.signer.public_key.keyid)


def create_keys(folder: str | Path, roles: Sequence[str] = ROLES, passphrase: str | None = None) -> list[Path]:
    """Make one new key for each role named.

    :param folder: made if missing, for its owner alone.
    :param roles: of `ROLES`; a role named twice gets two keys.
    :param passphrase: what the files are encrypted with; None: they are not.
    :return: paths of the files.
    :raises ConfigError: on an unknown role, or an empty passphrase.
    :raises OSError: if a file cannot be written.
    """
    from cryptography.hazmat.primitives import serialization

    if unknown := [role for role in roles if role not in ROLES]:
        raise ConfigError(f"there is no role {unknown[0]!r}; choose of {', '.join(ROLES)}")
    if passphrase == "":
        raise ConfigError("the passphrase is empty; give one, or ask for plain keys")
    folder = Path(folder)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase is not None:
        lock = serialization.BestAvailableEncryption(passphrase.encode())
    paths = []
    for role in roles:
        signer = _crypto_signer().generate_ed25519()
        private = serialization.load_pem_private_key(signer.private_bytes, None)
        pem = private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock)
        path = folder / f"{role}-{signer.public_key.keyid[:8]}.pem"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem)
        paths.append(path)
    return paths


def load_keys(
    folder: str | Path | None, passphrase: str | None = None, environment: Mapping[str, str] | None = None
) -> list[SigningKey]:
    """Read all keys of a folder, and those of the environment.

    :param folder: files that are not named like keys are passed over; None: the environment alone.
    :param environment: None: the process's own.
    :raises SyncError: if there is no key at all, one is damaged, or the passphrase is not its own.
    """
    environment = os.environ if environment is None else environment
    keys = []
    for role in ROLES:
        if pem := environment.get(_VARIABLE + role.upper()):
            keys.append(SigningKey(role, _read_pem(pem.encode(), passphrase, _VARIABLE + role.upper())))
    if folder is not None:
        if not Path(folder).is_dir():
            raise SyncError(f"{folder} is no folder of keys; make one with `pocketrec keys create --out {folder}`")
        for path in sorted(Path(folder).iterdir()):
            if named := _FILE.fullmatch(path.name):
                keys.append(SigningKey(named[1], _read_pem(path.read_bytes(), passphrase, path.name)))
    if not keys:
        raise SyncError("there are no signing keys; give a folder that `pocketrec keys create` made")
    return keys


def load_key(path: str | Path, role: str, passphrase: str | None = None) -> SigningKey:
    """Read one key file for a role, whatever its name.

    :raises SyncError: if it is missing or damaged, or the passphrase is not its own.
    """
    try:
        pem = Path(path).read_bytes()
    except OSError as error:
        raise SyncError(f"the key {path} cannot be read ({error})") from error
    return SigningKey(role, _read_pem(pem, passphrase, Path(path).name))


def _read_pem(pem: bytes, passphrase: str | None, name: str) -> CryptoSigner:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    try:
        private = serialization.load_pem_private_key(pem, passphrase.encode() if passphrase else None)
    except TypeError as error:
        if passphrase and "not encrypted" in str(error):
            return _read_pem(pem, None, name)  # a plain key among encrypted ones
        raise SyncError(f"the key {name} is encrypted; put its passphrase into {PASSPHRASE}") from error
    except ValueError as error:
        raise SyncError(f"the key {name} cannot be read: a wrong passphrase, or a damaged file") from error
    if not isinstance(private, Ed25519PrivateKey):
        raise SyncError(f"the key {name} is no ed25519 key; make one with `pocketrec keys create`")
    return _crypto_signer()(private)


def _crypto_signer() -> type[CryptoSigner]:
    try:
        import cryptography  # noqa: F401 (securesystemslib needs it for signing)
        from securesystemslib.signer import CryptoSigner
    except ImportError as error:
        raise MissingExtraError("signing needs `pip install pocketrec[publish]`") from error
    return CryptoSigner
