# Mechanisms with keys of known value, beside Python's own cryptography.
import hashlib
import hmac
import os

from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from PyKCS11 import *

lib = PyKCS11Lib()
lib.load(os.environ["M"])
slot = next(s for s in lib.getSlotList(tokenPresent=True) if lib.getTokenInfo(s).label.strip() == "claviger")
session = lib.openSession(slot, CKF_SERIAL_SESSION | CKF_RW_SESSION)
session.login(os.environ["PIN"])
MESSAGE = b"Meet me at dawn. " * 9


def say(name, work):
    try:
        print(name + ":", work())
    except PyKCS11Error as e:
        print(name + ":", str(e).split(" ")[0])


def alone(name, work):
    """Like say, in a session of its own: what goes wrong there stays there."""
    s = lib.openSession(slot, CKF_SERIAL_SESSION | CKF_RW_SESSION)
    say(name, lambda: work(s))
    s.closeSession()


def secret(kind, value, **flags):
    template = [
        (CKA_CLASS, CKO_SECRET_KEY), (CKA_KEY_TYPE, kind), (CKA_TOKEN, flags.get("token", False)), (CKA_PRIVATE, True),
        (CKA_SENSITIVE, True), (CKA_EXTRACTABLE, False), (CKA_VALUE, value),
    ]
    for name in flags.get("may", []):
        template.append((name, True))
    if "label" in flags:
        template += [(CKA_LABEL, flags["label"]), (CKA_ID, flags["label"].encode())]
    return session.createObject(template)


def find(kind, label):
    return session.findObjects([(CKA_CLASS, kind), (CKA_LABEL, label)])[0]


print("== HMAC")
value = bytes(range(64))
key = secret(CKK_GENERIC_SECRET, value, token=True, label="brought-hmac", may=[CKA_SIGN, CKA_VERIFY])
for name, mechanism in (("sha1", CKM_SHA_1_HMAC), ("sha224", CKM_SHA224_HMAC), ("sha256", CKM_SHA256_HMAC), ("sha384", CKM_SHA384_HMAC), ("sha512", CKM_SHA512_HMAC)):
    def mac():
        tag = bytes(session.sign(key, MESSAGE, Mechanism(mechanism, None)))
        right = hmac.compare_digest(tag, hmac.new(value, MESSAGE, getattr(hashlib, name)).digest())
        return right, session.verify(key, MESSAGE, tag, Mechanism(mechanism, None)), session.verify(key, MESSAGE[1:], tag, Mechanism(mechanism, None))
    say(name, mac)
say("delete", lambda: session.destroyObject(key))

print("== AES")
value, iv = bytes(range(32)), bytes(range(16))
key = secret(CKK_AES, value, token=True, label="brought-aes", may=[CKA_ENCRYPT, CKA_DECRYPT])


def cbc(mechanism, text):
    got = bytes(session.encrypt(key, text, Mechanism(mechanism, iv)))
    pad = 16 - len(text) % 16 if mechanism == CKM_AES_CBC_PAD else 0
    e = Cipher(algorithms.AES(value), modes.CBC(iv)).encryptor()
    want = e.update(text + bytes([pad]) * pad) + e.finalize()
    return got == want, bytes(session.decrypt(key, got, Mechanism(mechanism, iv))) == text


def gcm(tag, aad):
    mechanism = AES_GCM_Mechanism(iv[:12], aad, tag)
    got = bytes(session.encrypt(key, MESSAGE, mechanism))
    want = AESGCM(value).encrypt(iv[:12], MESSAGE, aad)
    return got == want[: len(MESSAGE) + tag // 8], bytes(session.decrypt(key, got, mechanism)) == MESSAGE


def forged():
    mechanism = AES_GCM_Mechanism(iv[:12], b"", 128)
    got = bytearray(session.encrypt(key, MESSAGE, mechanism))
    got[3] ^= 1
    return bytes(session.decrypt(key, bytes(got), mechanism))


say("CBC", lambda: cbc(CKM_AES_CBC, MESSAGE[:144]))
say("CBC of half a block", lambda: cbc(CKM_AES_CBC, MESSAGE[:8]))
say("CBC-PAD", lambda: cbc(CKM_AES_CBC_PAD, MESSAGE))
say("GCM", lambda: gcm(128, b""))
say("GCM with further data", lambda: gcm(128, b"header"))
say("GCM with a short tag", lambda: gcm(96, b"header"))
say("GCM, changed ciphertext", forged)
say("delete", lambda: session.destroyObject(key))

print("== Ed25519")
P25519 = bytes.fromhex("06032b6570")  # OID 1.3.101.112; SoftHSM2 wants the name of the curve instead
NAMED = b"\x13\x0cedwards25519"


def edwards(params):
    public, private = session.generateKeyPair(
        [(CKA_EC_PARAMS, params), (CKA_TOKEN, True), (CKA_LABEL, "made-ed"), (CKA_ID, b"made-ed"), (CKA_VERIFY, True)],
        [(CKA_TOKEN, True), (CKA_LABEL, "made-ed"), (CKA_ID, b"made-ed"), (CKA_PRIVATE, True), (CKA_SENSITIVE, True), (CKA_SIGN, True)],
        Mechanism(CKM_EC_EDWARDS_KEY_PAIR_GEN, None),
    )
    try:
        signature = bytes(session.sign(private, MESSAGE, Mechanism(CKM_EDDSA, None)))
        point = bytes(session.getAttributeValue(public, [CKA_EC_POINT])[0])[-32:]
        ed25519.Ed25519PublicKey.from_public_bytes(point).verify(signature, MESSAGE)
        return session.verify(public, MESSAGE, signature, Mechanism(CKM_EDDSA, None)), session.verify(public, MESSAGE[1:], signature, Mechanism(CKM_EDDSA, None))
    finally:
        session.destroyObject(private)


say("curve by its name", lambda: edwards(NAMED))
say("curve by its OID", lambda: edwards(P25519))

print("== parts and buffers")
private, public = find(CKO_PRIVATE_KEY, os.environ["RSA"]), find(CKO_PUBLIC_KEY, os.environ["RSA"])
say("a million bytes", lambda: session.verify(public, bytes(1000000), session.sign(private, bytes(1000000), Mechanism(CKM_SHA512_RSA_PKCS, None)), Mechanism(CKM_SHA512_RSA_PKCS, None)))
alone("too much for RSA", lambda s: s.sign(private, bytes(300), Mechanism(CKM_RSA_PKCS, None)))
alone("decrypt a short ciphertext", lambda s: s.decrypt(private, bytes(10), Mechanism(CKM_RSA_PKCS, None)))
alone("verify a short signature", lambda s: s.verify(public, MESSAGE, bytes(10), Mechanism(CKM_SHA256_RSA_PKCS, None)))
alone("RSA mechanism, EC key", lambda s: s.sign(find(CKO_PRIVATE_KEY, os.environ["EC"]), MESSAGE, Mechanism(CKM_SHA256_RSA_PKCS, None)))
alone("sign with a public key", lambda s: s.sign(public, MESSAGE, Mechanism(CKM_SHA256_RSA_PKCS, None)))
say("secret of a private key", lambda: session.getAttributeValue(private, [CKA_PRIVATE_EXPONENT]))
say("make it extractable", lambda: session.setAttributeValue(private, [(CKA_EXTRACTABLE, True)]))
say("make it insensitive", lambda: session.setAttributeValue(private, [(CKA_SENSITIVE, False)]))

print("== session objects")
private, public = None, None
public, private = session.generateKeyPair(
    [(CKA_EC_PARAMS, bytes.fromhex("06082a8648ce3d030107")), (CKA_TOKEN, False), (CKA_VERIFY, True)],
    [(CKA_TOKEN, False), (CKA_PRIVATE, True), (CKA_SIGN, True), (CKA_SENSITIVE, True)],
    Mechanism(CKM_EC_KEY_PAIR_GEN, None),
)
say("signed", lambda: session.verify(public, bytes(32), session.sign(private, bytes(32), Mechanism(CKM_ECDSA, None)), Mechanism(CKM_ECDSA, None)))
say("found", lambda: len(session.findObjects([(CKA_TOKEN, False), (CKA_CLASS, CKO_PRIVATE_KEY)])))
other = lib.openSession(slot, CKF_SERIAL_SESSION | CKF_RW_SESSION)
say("found by another session", lambda: len(other.findObjects([(CKA_TOKEN, False), (CKA_CLASS, CKO_PRIVATE_KEY)])))
session.closeSession()
session = other
say("found after its session", lambda: len(session.findObjects([(CKA_TOKEN, False), (CKA_CLASS, CKO_PRIVATE_KEY)])))
say("sign after its session", lambda: session.sign(private, bytes(32), Mechanism(CKM_ECDSA, None)))
session.logout()
