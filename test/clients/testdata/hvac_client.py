"""Uses a server as Python programs do: through hvac, unmodified.

VAULT_ADDR says where it is. A new server is initialised and unsealed here, any
other one is used with VAULT_TOKEN.
"""
import base64
import os
import sys

import hvac
from hvac import exceptions


def b64(data):
    return base64.b64encode(data).decode()


def refused(error, call, *args, **kwargs):
    try:
        answer = call(*args, **kwargs)
    except error:
        return
    raise AssertionError("%s was not refused: %s" % (call.__name__, answer))


def unseals(client):
    assert client.sys.read_health_status().status_code == 501
    made = client.sys.initialize(secret_shares=3, secret_threshold=2)
    assert client.sys.read_health_status().status_code == 503
    assert client.sys.is_initialized() and client.sys.is_sealed()
    client.token = made["root_token"]
    refused(exceptions.VaultDown, client.secrets.transit.read_key, "k")
    assert client.sys.submit_unseal_key(made["keys"][0])["progress"] == 1
    assert not client.sys.submit_unseal_keys(made["keys_base64"][1:2])["sealed"]
    client.sys.seal()
    assert client.sys.is_sealed()
    client.sys.submit_unseal_keys(made["keys"][:2])


def states(client):
    assert client.is_authenticated()
    assert client.sys.is_initialized() and not client.sys.is_sealed()
    assert client.sys.read_health_status().status_code == 200
    assert client.sys.read_health_status(method="GET")["sealed"] is False
    status = client.sys.read_seal_status()
    assert status["sealed"] is False and status["version"], status
    assert client.sys.read_leader_status()["is_self"] in (True, False)
    assert client.sys.get_encryption_key_status()["data"]["term"] >= 1
    assert "transit/" in client.sys.list_mounted_secrets_engines()["data"]
    digest = client.secrets.transit.hash_data(b64(b""), algorithm="sha2-256", output_format="hex")["data"]["sum"]
    assert digest.startswith("e3b0c442"), digest
    assert client.read("transit/keys/absent") is None
    assert client.list("transit/keys") is None


def mounts(client):
    client.sys.enable_secrets_engine("transit", path="team", description="of a team")
    client.sys.tune_mount_configuration("team", default_lease_ttl="1h", max_lease_ttl="2h")
    assert client.sys.read_mount_configuration("team")["data"]["max_lease_ttl"] == 7200
    transit = client.secrets.transit
    transit.create_key("k", mount_point="team")
    assert transit.list_keys(mount_point="team")["data"]["keys"] == ["k"]
    client.sys.disable_secrets_engine("team")
    refused(exceptions.InvalidPath, transit.list_keys, mount_point="team")


def encrypts(client):
    transit = client.secrets.transit
    transit.create_key("aes")
    sealed = transit.encrypt_data("aes", b64(b"hello"))["data"]["ciphertext"]
    assert sealed.startswith("vault:v1:"), sealed
    transit.rotate_key("aes")
    again = transit.rewrap_data("aes", sealed)["data"]["ciphertext"]
    assert again.startswith("vault:v2:"), again
    for text in sealed, again:
        assert transit.decrypt_data("aes", text)["data"]["plaintext"] == b64(b"hello")
    refused(exceptions.InvalidRequest, transit.decrypt_data, "aes", sealed[:-8] + "AAAAAAA=")
    bound = client.write("transit/encrypt/aes", plaintext=b64(b"x"), associated_data=b64(b"a"))["data"]["ciphertext"]
    refused(exceptions.InvalidRequest, transit.decrypt_data, "aes", bound)
    opened = client.write("transit/decrypt/aes", ciphertext=bound, associated_data=b64(b"a"))
    assert opened["data"]["plaintext"] == b64(b"x")
    batch = [{"plaintext": b64(b"%d" % i), "reference": str(i)} for i in range(5)]
    results = transit.encrypt_data("aes", plaintext=None, batch_input=batch)["data"]["batch_results"]
    opened = transit.decrypt_data("aes", ciphertext=None, batch_input=[{"ciphertext": r["ciphertext"]} for r in results])
    assert [r["plaintext"] for r in opened["data"]["batch_results"]] == [i["plaintext"] for i in batch]
    key = transit.generate_data_key("aes", "plaintext", bits=512)["data"]
    assert transit.decrypt_data("aes", key["ciphertext"])["data"]["plaintext"] == key["plaintext"]
    assert "plaintext" not in transit.generate_data_key("aes", "wrapped")["data"]
    refused(exceptions.InvalidRequest, transit.export_key, "aes", "encryption-key")
    read = transit.read_key("aes")["data"]
    assert read["latest_version"] == 2 and set(read["keys"]) == {"1", "2"}, read
    transit.update_key_configuration("aes", min_decryption_version=2)
    refused(exceptions.InvalidRequest, transit.decrypt_data, "aes", sealed)
    transit.update_key_configuration("aes", min_encryption_version=2)
    transit.trim_key("aes", 2)
    refused(exceptions.InvalidRequest, transit.delete_key, "aes")
    transit.update_key_configuration("aes", deletion_allowed=True)
    transit.delete_key("aes")
    refused(exceptions.InvalidPath, transit.read_key, "aes")
    assert len(base64.b64decode(transit.generate_random_bytes(16)["data"]["random_bytes"])) == 16


def signs(client):
    transit = client.secrets.transit
    message = b64(b"sign this")
    for typ in "ecdsa-p256", "ecdsa-p384", "rsa-2048", "ed25519":
        transit.create_key(typ, key_type=typ)
        sig = transit.sign_data(typ, message, hash_algorithm="sha2-256")["data"]["signature"]
        check = transit.verify_signed_data(typ, message, signature=sig, hash_algorithm="sha2-256")
        assert check["data"]["valid"] is True, check
        check = transit.verify_signed_data(typ, b64(b"sign that"), signature=sig, hash_algorithm="sha2-256")
        assert check["data"]["valid"] is False, check
        exported = client.read("transit/export/public-key/%s/latest" % typ)["data"]["keys"]["1"]
        assert exported == transit.read_key(typ)["data"]["keys"]["1"]["public_key"]
        assert typ == "ed25519" or exported.startswith("-----BEGIN PUBLIC KEY-----"), exported
    transit.sign_data("ecdsa-p256", message, marshaling_algorithm="jws")
    transit.sign_data("rsa-2048", message, signature_algorithm="pkcs1v15")
    code = transit.generate_hmac("ecdsa-p256", message, algorithm="sha2-512")["data"]["hmac"]
    check = transit.verify_signed_data("ecdsa-p256", message, hmac=code, hash_algorithm="sha2-512")
    assert check["data"]["valid"] is True, check
    assert sorted(transit.list_keys()["data"]["keys"]) == ["ecdsa-p256", "ecdsa-p384", "ed25519", "rsa-2048"]


def tokens(client):
    client.sys.create_or_update_policy("app", 'path "transit/sign/ecdsa-p256" { capabilities = ["update"] }')
    assert "app" in client.sys.list_policies()["data"]["policies"]
    assert "transit/sign" in client.sys.read_policy("app")["data"]["rules"]
    assert client.sys.get_capabilities(["transit/sign/ecdsa-p256"])["data"]["capabilities"] == ["root"]
    auth = client.create_token(policies=["app"], ttl="1h", display_name="app", num_uses=0)["auth"]
    app = hvac.Client(url=client.url, token=auth["client_token"])
    own = app.lookup_token()["data"]
    assert own["policies"] == ["app", "default"] and own["accessor"] == auth["accessor"], own
    assert app.renew_self_token(increment="30m")["auth"]["lease_duration"] == 1800
    app.secrets.transit.sign_data("ecdsa-p256", b64(b"m"))
    refused(exceptions.Forbidden, app.secrets.transit.read_key, "ecdsa-p256")
    assert client.lookup_token(auth["accessor"], accessor=True)["data"]["display_name"] == "token-app"
    app.revoke_self_token()
    app.token = auth["client_token"]
    assert not app.is_authenticated()
    client.create_token_role("ci", allowed_policies="app")
    assert client.list_token_roles()["data"]["keys"] == ["ci"]
    assert client.create_token(role="ci", policies=["app"])["auth"]["policies"] == ["app", "default"]
    client.delete_token_role("ci")


def wraps(client):
    wrapped = client.create_token(policies=["app"], wrap_ttl="60s")["wrap_info"]
    assert wrapped["ttl"] == 60 and wrapped["creation_path"] == "auth/token/create", wrapped
    user = hvac.Client(url=client.url, token=wrapped["token"])
    auth = user.sys.unwrap()["auth"]
    assert auth["accessor"] == wrapped["wrapped_accessor"], auth
    refused(exceptions.VaultError, user.sys.unwrap)
    user.token = auth["client_token"]
    assert user.is_authenticated()


def main():
    client = hvac.Client(url=os.environ["VAULT_ADDR"], token=os.environ.get("VAULT_TOKEN", ""))
    if not client.sys.is_initialized():
        unseals(client)
    for part in states, mounts, encrypts, signs, tokens, wraps:
        part(client)
    print("ok")


sys.exit(main())
