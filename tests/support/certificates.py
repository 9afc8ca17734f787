"""An authority for a test, and the certificates that it signs."""

from __future__ import annotations

import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = datetime.timedelta(days=1)


def certificates(*hosts: str, strict: bool = True) -> dict[str, str]:
    """An authority (``ca.crt``), and a certificate for the hosts that it has signed (``tls.crt``, ``tls.key``).

    Without ``strict`` the authority does not say that it may sign, as that of many a cluster.
    """
    authority, server = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "An authority for a test")])
    now = datetime.datetime.now(datetime.UTC)

    def certificate(subject: x509.Name, key: ec.EllipticCurvePrivateKey, *extensions: x509.ExtensionType) -> str:
        made = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - DAY)
            .not_valid_after(now + DAY)
        )
        for extension in extensions:
            made = made.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints | x509.KeyUsage))
        return made.sign(authority, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()

    names = x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts])
    identifier = x509.SubjectKeyIdentifier.from_public_key(authority.public_key())
    # Python from 3.13 on wants to be told that the authority may sign.
    signs = x509.KeyUsage(
        key_cert_sign=True, crl_sign=True, digital_signature=False, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    return {
        "ca.crt": certificate(
            issuer,
            authority,
            x509.BasicConstraints(ca=True, path_length=None),
            *([signs] if strict else []),
            identifier,
        ),
        "tls.crt": certificate(
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0])]), server, names,
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()),
        ),
        "tls.key": server.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode(),
    }  # fmt: skip
