"""Signing keys of a repository: ed25519, one PEM file each, encrypted unless the caller chooses otherwise.

A key's file is named `<role>-<first 8 digits of its id>.pem`. Keys may also come from the environment, as PEM text in
`POCKETREC_KEY_<ROLE>`, so that a build machine needs no key files. Keys are never written into a repository.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pocketrec.runtime.errors import ConfigError, MissingExtraError, SyncError
from pocketrec.runtime.files.atomic import atomic_file

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
    """Make a new key for each role. Only the owner can read the files, and each is written whole or not at all.

    :param folder: made if it is missing, for the owner alone.
    :param roles: of `ROLES`; a role that is named twice gets two keys.
    :param passphrase: encrypts the files; None: they are not encrypted.
    :return: paths of the files.
    :raises ConfigError: if there is no such role, or the passphrase is empty.
    :raises OSError: if a file cannot be written.
    """
    from cryptography.hazmat.primitives import serialization

    if unknown := [role for role in roles if role not in ROLES]:
        raise ConfigError(f"there is no role {unknown[0]!r}; choose {', '.join(ROLES)}")
    if passphrase == "":
        raise ConfigError("the passphrase is empty; give one, or use --plain for keys without encryption")
    folder = Path(folder)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase is not None:
        encryption = serialization.BestAvailableEncryption(passphrase.encode())
    paths = []
    for role in roles:
        signer = _crypto_signer().generate_ed25519()
        private = serialization.load_pem_private_key(signer.private_bytes, None)
        pem = private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
        path = folder / f"{role}-{signer.public_key.keyid[:8]}.pem"
        if path.exists():
            raise FileExistsError(f"{path} exists already, and keys are not overwritten; create the keys again")
        with atomic_file(path) as temporary:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(pem)
        paths.append(path)
    return paths


def load_keys(
    folder: str | Path | None, passphrase: str | None = None, environment: Mapping[str, str] | None = None
) -> list[SigningKey]:
    """Read all keys of a folder, and those in the environment.

    :param folder: files with other names are skipped; None: only the environment.
    :param environment: None: the environment of this process.
    :raises SyncError: if there is no key, a key is damaged, or the passphrase does not decrypt it.
    """
    environment = os.environ if environment is None else environment
    keys = []
    for role in ROLES:
        if pem := environment.get(_VARIABLE + role.upper()):
            keys.append(SigningKey(role, _read_pem(pem.encode(), passphrase, _VARIABLE + role.upper())))
    if folder is not None:
        if not Path(folder).is_dir():
            raise SyncError(f"there is no folder {folder}; make keys with `pocketrec keys create --out {folder}`")
        for path in sorted(Path(folder).iterdir()):
            if named := _FILE.fullmatch(path.name):
                keys.append(SigningKey(named[1], _read_pem(path.read_bytes(), passphrase, path.name)))
    if not keys:
        raise SyncError("there are no signing keys; give the folder that `pocketrec keys create` made")
    return keys


def load_key(path: str | Path, role: str, passphrase: str | None = None) -> SigningKey:
    """Read the file of one key for a role. The file's name does not matter.

    :raises SyncError: if it is missing or damaged, or the passphrase does not decrypt it.
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
            return _read_pem(pem, None, name)  # an unencrypted key among encrypted ones
        raise SyncError(f"the key {name} is encrypted; put its passphrase into {PASSPHRASE}") from error
    except ValueError as error:
        raise SyncError(f"the key {name} cannot be read: the passphrase is wrong, or the file damaged") from error
    if not isinstance(private, Ed25519PrivateKey):
        raise SyncError(f"the key {name} is not an ed25519 key; make one with `pocketrec keys create`")
    return _crypto_signer()(private)


def _crypto_signer() -> type[CryptoSigner]:
    try:
        import cryptography  # noqa: F401 (securesystemslib needs it for signing)
        from securesystemslib.signer import CryptoSigner
    except ImportError as error:
        raise MissingExtraError("signing needs `pip install pocketrec[publish]`") from error
    return CryptoSigner
